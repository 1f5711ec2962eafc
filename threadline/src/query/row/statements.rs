//! The statements that questions about a row are answered with.

use super::super::statement::Statement;
use super::{
    At, Reader, Row,
    events::Probe,
    heads::FIRST as FIRST_CHANGES,
    history::{HISTORY_SIZE, Part},
    lineage::{FIRST, Segment},
};

impl Reader {
    /// The statements that [`Self::row_history`], [`Self::as_of`] and [`Self::table_as_of`] begin with, each with what it is for.
    #[must_use]
    pub fn row_statements(&self, row: &Row, at: &At) -> Vec<(&'static str, Statement)> {
        let sources = &row.sources;
        let probe = Probe { key: &row.key, before: None, after: None, wanted: &FIRST };
        let segment = Segment { has_departures: true, ..Segment::of(row.key.clone()) };
        let limit = i64::from(HISTORY_SIZE) + 1;
        let part = Part { is_older: true, cursor: None, ends: (None, None), at: None, begun: None, limit };
        vec![
            ("keys of the row", self.probe_statement(sources, probe)),
            ("history", self.changes_statement(sources, &[segment], &part)),
            (
                "newest changes",
                self.newest_statement(
                    sources,
                    &[row.key_json()],
                    at,
                    i64::try_from(FIRST_CHANGES).unwrap_or_default(),
                ),
            ),
            ("truncates", self.truncates_statement(sources, None, at)),
            ("keys of the table", self.keys_statement(sources, None, 500)),
        ]
    }
}
