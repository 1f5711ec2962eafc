//! What the commands that read the timeline have in common on the command line.

use std::fmt::Write as _;

use threadline::query::{Cursor, From, PAGE_SIZE_MAX, filter};

/// Which entries.
#[derive(Debug, clap::Args)]
pub(crate) struct Words {
    /// Which entries: words such as table:posts op:update last:24h, of which all have to hold. Without any, all entries.
    #[arg(value_name = "FILTER")]
    pub(super) filter: Vec<String>,
}

/// How the answer is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Form {
    /// Prints JSON: an object for each row, or one for a single answer.
    #[arg(long)]
    json: bool,
    /// Prints lines of tabs with a header, escaped as PostgreSQL's copy does.
    #[arg(long, conflicts_with = "json")]
    tsv: bool,
}

/// How the answer is found.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Explain {
    /// Prints the statements, their parameters and the server's plans instead of the answer.
    #[arg(long, conflicts_with = "tsv")]
    pub(super) explain: bool,
}

/// For whom the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    Human,
    Json,
    Tabs,
}

impl Form {
    pub(in crate::cli) fn format(&self) -> Format {
        match (self.json, self.tsv) {
            (true, _) => Format::Json,
            (_, true) => Format::Tabs,
            _ => Format::Human,
        }
    }
}

/// Which part of a list.
#[derive(Debug, clap::Args)]
pub(crate) struct Paging {
    /// Rows at most.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) limit: u32,
    /// Goes on from a place that another answer has named, to older rows.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true, value_parser = cursor)]
    pub(super) cursor: Option<Cursor>,
    /// Goes on from the cursor to newer rows.
    #[arg(long, requires = "cursor")]
    pub(super) newer: bool,
}

impl Paging {
    /// From where the list goes.
    pub(super) fn from(&self) -> From {
        match (self.cursor.clone(), self.newer) {
            (None, _) => From::Newest,
            (Some(cursor), false) => From::OlderThan(cursor),
            (Some(cursor), true) => From::NewerThan(cursor),
        }
    }

    /// Rows of the first page.
    pub(super) fn size(&self) -> u16 {
        u16::try_from(self.limit).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX)
    }
}

/// A cursor, with the term of why it is none.
pub(super) fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse().map_err(|error| format!("invalid_cursor: {error}"))
}

/// All keys of filters, for the help of commands that take one.
pub(in crate::cli) fn keys() -> String {
    let mut text = String::from("Filters:\n");
    for key in filter::keys() {
        let typed = format!("{}:{}", key.key, key.example);
        let _ = writeln!(text, "  {typed:<23}  {}", key.meaning);
    }
    text.push_str(
        "\nA value with a space is quoted for the shell as one word: 'text:two words'. One word may also hold several filters: \
         'table:posts op:update'.\n",
    );
    text
}
