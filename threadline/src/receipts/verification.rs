//! What a verification has found.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

use super::{chain::Trust, counts::Counts, fault::Faults, receipt::Receipt};

/// What a verification has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Receipts that were read.
    pub receipts: u64,
    /// The first and the last of them.
    pub numbers: Option<(i64, i64)>,
    /// The database of the last one.
    pub database: Option<String>,
    /// Rows that were compared with what was sealed of them.
    pub compared: Counts,
    /// Rows that are gone, by the run of retention whose cutoff they are older than. That they were purged is its word.
    pub purged: BTreeMap<Uuid, u64>,
    /// Whether these are no more than runs say that they have deleted. In a bundle that is not known.
    pub purged_is_counted: bool,
    /// Whether each signature was compared with keys that were given. Else a receipt's own key counts, which is whoever's who wrote the receipt.
    pub signatures_are_compared: bool,
    /// Values of columns that are known by their hashes alone, by the run that erased something of their row last: a document counts once, however
    /// many of its members were erased, and what stays in it is not covered any more. In a bundle they are among the values that are withheld.
    pub erased: BTreeMap<Uuid, u64>,
    /// Values of rows that are known by their hashes alone: they were erased, or are too large for a bundle.
    pub withheld: u64,
    /// Rows that were committed after the last receipt, which the next one will take. In a bundle there are none.
    pub pending: Counts,
    /// The last receipt is of another database: this one was restored or renamed since, and until the next receipt what was slipped in is
    /// not told from what was committed. In a bundle it is not known.
    pub is_elsewhere: bool,
    /// The hash of the last receipt: whoever keeps it elsewhere can say later that the chain still has it.
    pub end: Option<String>,
    /// What does not verify.
    pub faults: Faults,
}

impl Verification {
    /// Whether everything verifies.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }

    /// Nothing so far, of what is compared with what somebody knows.
    pub(super) fn begin(trust: &Trust) -> Self {
        Self { signatures_are_compared: !trust.keys.is_empty(), ..Self::default() }
    }

    /// Takes note of a receipt.
    pub(super) fn add(&mut self, receipt: &Receipt) {
        self.receipts += 1;
        let first = self.numbers.map_or(receipt.n, |(first, _)| first);
        self.numbers = Some((first, receipt.n));
        self.database = Some(receipt.database.clone());
        self.end = Some(receipt.hash.clone());
    }
}
