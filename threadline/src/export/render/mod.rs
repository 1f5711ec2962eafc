//! How entries are written. Everything goes into one text that is used again.

mod full;
mod library;
mod ocsf;
#[cfg_attr(not(feature = "parquet"), path = "without_parquet.rs")]
mod parquet;

pub(crate) use full::line;
use sqlx::postgres::PgRow;
use time::{OffsetDateTime, UtcOffset};

use super::{ExportError, Format, Options, Profile, csv::write_cell};
use crate::query::{Canonical, Entry, Transaction};

/// Writes an export.
#[derive(Debug)]
pub(super) struct Renderer {
    options: Options,
    /// RFC 3339; stands in a wrapped document.
    generated_at: String,
    canonical: Canonical,
    /// A cell of CSV before it is quoted.
    cell: String,
    /// No entry has been written.
    is_first: bool,
    /// What writes Parquet, which is no text.
    table: Option<parquet::Table>,
}

impl Renderer {
    /// `is_first` says that no entry stands in the file.
    ///
    /// # Errors
    /// When there is nothing that writes the format.
    pub(super) fn new(options: &Options, generated_at: &str, is_first: bool) -> Result<Self, ExportError> {
        let is_parquet = options.format == Format::Parquet;
        Ok(Self {
            canonical: Canonical::new(options.form()),
            options: options.clone(),
            generated_at: generated_at.to_owned(),
            cell: String::new(),
            is_first,
            table: is_parquet.then(|| parquet::Table::new(options.columns())).transpose()?,
        })
    }

    /// What has been written besides the text, and stands behind it.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        self.table.as_mut().map(parquet::Table::take).unwrap_or_default()
    }

    /// What stands before the first entry.
    pub(super) fn begin(&self, out: &mut String) {
        match self.options.format {
            Format::Csv => {
                out.push_str(&self.options.columns().join(","));
                out.push_str("\r\n");
            }
            Format::Json => {
                out.push_str("{\"");
                out.push_str(self.list());
                out.push_str("\":[");
            }
            Format::Ndjson | Format::Ocsf | Format::Parquet => {}
        }
    }

    /// What stands behind the last one.
    pub(super) fn end(&mut self, out: &mut String) -> Result<(), ExportError> {
        if let Some(table) = &mut self.table {
            table.end()?;
        }
        if self.options.format == Format::Json {
            out.push_str("],\"format_version\":1,\"generated_at\":\"");
            out.push_str(&self.generated_at);
            out.push_str("\"}");
        }
        Ok(())
    }

    /// The member of a wrapped document that holds the entries.
    fn list(&self) -> &'static str {
        if self.options.profile == Profile::Full { "entries" } else { "changes" }
    }

    fn separate(&mut self, out: &mut String) {
        if !std::mem::take(&mut self.is_first) && self.options.format == Format::Json {
            out.push(',');
        }
    }

    fn finish(&self, out: &mut String) {
        match self.options.format {
            Format::Csv => out.push_str("\r\n"),
            Format::Ndjson | Format::Ocsf => out.push('\n'),
            Format::Json | Format::Parquet => {}
        }
    }

    /// A change as the Elixir library shows it; returns its time.
    pub(super) fn row(&mut self, row: &PgRow, out: &mut String) -> Result<OffsetDateTime, sqlx::Error> {
        self.separate(out);
        let at = library::write(self, row, out)?;
        self.finish(out);
        Ok(at)
    }

    /// An entry with everything.
    pub(super) fn entry(&mut self, entry: &mut Entry, out: &mut String) -> Result<(), ExportError> {
        self.separate(out);
        full::write(self, entry, out)?;
        self.finish(out);
        Ok(())
    }

    /// A captured transaction by itself, on a line of its own.
    pub(super) fn transaction(
        &mut self,
        transaction: &mut Transaction,
        out: &mut String,
    ) -> Result<(), serde_json::Error> {
        out.push_str(&full::transaction_line(transaction)?);
        self.finish(out);
        Ok(())
    }

    /// A cell behind others.
    fn next_cell(&self, text: &str, out: &mut String) {
        out.push(',');
        write_cell(text, self.options.spreadsheet_safe, out);
    }

    /// A document as a cell behind others.
    fn next_document(&mut self, document: &str, out: &mut String) {
        self.cell.clear();
        self.canonical.write(document, &mut self.cell);
        out.push(',');
        write_cell(&self.cell, self.options.spreadsheet_safe, out);
    }
}

/// Appends a time: RFC 3339 in UTC, with six decimals.
fn push_time(time: OffsetDateTime, out: &mut String) {
    let time = time.to_offset(UtcOffset::UTC);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    push_digits(u32::try_from(year).unwrap_or_default(), 4, out);
    for (sign, number) in
        [('-', month), ('-', day), ('T', time.hour()), (':', time.minute()), (':', time.second())]
    {
        out.push(sign);
        push_digits(number.into(), 2, out);
    }
    out.push('.');
    push_digits(time.microsecond(), 6, out);
    out.push('Z');
}

fn push_digits(number: u32, digits: u32, out: &mut String) {
    for place in (0..digits).rev() {
        let digit = number / 10_u32.pow(place) % 10;
        out.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
}

/// Appends a text as a JSON string: what has to be escaped is, controls in upper case.
fn push_string(text: &str, out: &mut String) {
    out.push('"');
    let has_to_be = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !text.bytes().any(has_to_be) {
        out.push_str(text);
        out.push('"');
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                out.push_str("\\u00");
                for nibble in [u32::from(c) >> 4, u32::from(c) & 15] {
                    out.push(char::from_digit(nibble, 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::time_text;

    proptest! {
        #[test]
        fn a_time_is_written_as_everywhere(seconds in -62_135_596_800_i64..253_402_300_800, micros in 0..1_000_000_i64) {
            let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time") + time::Duration::microseconds(micros);
            let mut out = String::new();
            push_time(time, &mut out);
            prop_assert_eq!(out, time_text(time));
        }

        #[test]
        fn a_string_says_what_the_text_is(text in "[\u{0}-\u{7f}\"\\\\äü]{0,12}|.{0,8}") {
            let mut out = String::new();
            push_string(&text, &mut out);
            prop_assert_eq!(serde_json::from_str::<String>(&out).ok(), Some(text));
        }
    }
}
