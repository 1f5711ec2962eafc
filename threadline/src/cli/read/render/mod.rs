//! How answers are written: tables for people, JSON and lines of tabs for programs.

mod entries;
mod safe;
mod table;
mod tabs;
mod words;

use std::io::{self, Write as _};

use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};

pub(in crate::cli) use entries::{by_transaction, of_entries, of_entry, of_transaction};
pub(in crate::cli) use safe::text as safe;
pub(in crate::cli) use table::Table;
pub(in crate::cli) use tabs::{Column, Tabs, document, entry_columns, names};
pub(in crate::cli) use words::{
    about, actor, fields, heading, image, key_of_texts, outcome, table_name, value,
};

/// The width of a table that goes to no terminal, so that a script's log looks the same everywhere.
const WIDTH: u16 = 120;

/// The narrowest table; a narrower terminal breaks its lines.
const WIDTH_MIN: u16 = 60;

/// The width of tables.
pub(in crate::cli) fn width() -> u16 {
    terminal_size::terminal_size_of(io::stdout()).map_or(WIDTH, |(width, _)| width.0.max(WIDTH_MIN))
}

/// A document on a line of its own, as PostgreSQL and serde print it: no digit is lost.
pub(in crate::cli) fn json(document: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(safe::json(&serde_json::to_string(document)?) + "\n")
}

/// A time for people: in UTC, with seconds. It can be given to a filter as it is.
pub(in crate::cli) fn time(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// Writes a part of the answer.
pub(in crate::cli) fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says something besides the answer, on a line of standard error.
pub(in crate::cli) fn note(text: &str) {
    let _ = io::stderr().write_all(format!("{}\n", safe(text)).as_bytes());
}
