//! Why something is not undone.

use uuid::Uuid;

use super::Refused;
use crate::{capture::HostTable, query::Json};

/// Why something is not restored.
#[derive(Debug)]
pub(super) struct Reason {
    pub(super) term: &'static str,
    pub(super) text: String,
    pub(super) wrote: Option<Json>,
    pub(super) now: Option<Json>,
}

impl Reason {
    pub(super) fn new(term: &'static str, text: impl Into<String>) -> Self {
        Self { term, text: text.into(), wrote: None, now: None }
    }

    /// Whether what is stored may not be what the row held.
    pub(super) fn hides(&self) -> bool {
        matches!(self.term, "redacted" | "policy_newer")
    }

    /// Of a row, or of one field of it.
    pub(super) fn of(self, table: &HostTable, changes: &[Uuid], key: &Json) -> Refused {
        Refused {
            changes: changes.iter().rev().copied().collect(),
            table: table.to_string(),
            key: key.clone(),
            field: None,
            term: self.term,
            reason: self.text,
            wrote: self.wrote,
            now: self.now,
        }
    }
}

/// Rows that took one another's keys.
pub(super) fn keys_exchanged(what: &str) -> Reason {
    Reason::new(
        "keys_exchanged",
        format!("{what}; set them back by hand, from what the history of each key shows"),
    )
}
