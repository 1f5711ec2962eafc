//! The leaves of a receipt, summed up, beside what the receipt says of them.

use sha2::{Digest as _, Sha256};

use super::{
    counts::Counts,
    fault::{Fault, FaultKind, Faults},
    leaf::Leaf,
    receipt::Receipt,
};
use crate::signing::hexadecimal;

/// What has been read of the leaves of a receipt.
#[derive(Default)]
pub(super) struct Content {
    digest: Sha256,
    counts: Counts,
}

impl Content {
    /// Bytes as they are stored, whether they are leaves or not.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// A leaf whose bytes are taken elsewhere.
    pub(super) fn count(&mut self, leaf: &Leaf) {
        self.counts.add(leaf.kind);
    }

    /// That all of them were read.
    pub(super) fn end(self, receipt: &Receipt, faults: &mut Faults) {
        if hexadecimal(&self.digest.finalize()) == receipt.digest && self.counts == receipt.counts() {
            return;
        }
        let fault = Fault::of_receipt(FaultKind::LeavesChanged, receipt.n);
        let (sealed, found) = (receipt.counts(), self.counts);
        let pairs = [
            ("transactions", sealed.transactions, found.transactions),
            ("changes", sealed.changes, found.changes),
            ("actions", sealed.actions, found.actions),
        ];
        let differing = pairs.iter().filter(|(_, sealed, found)| sealed != found);
        let words: Vec<String> =
            differing.map(|(of, sealed, found)| format!("{sealed} {of} sealed, {found} found")).collect();
        faults.push(if words.is_empty() { fault } else { fault.saying(words.join("; ")) });
    }
}
