//! How many rows of each kind.

use serde::Serialize;

use super::columns::Kind;

/// How many rows of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Captured transactions.
    pub transactions: u64,
    /// Changes.
    pub changes: u64,
    /// Actions that a host recorded.
    pub actions: u64,
}

impl Counts {
    pub(super) fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Transaction => &mut self.transactions,
            Kind::Change => &mut self.changes,
            Kind::Action => &mut self.actions,
        } += 1;
    }

    /// All of them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.transactions + self.changes + self.actions
    }
}
