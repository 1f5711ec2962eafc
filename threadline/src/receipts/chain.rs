//! A chain of receipts: each follows the one before it, and says of what it is the end.

use super::{
    fault::{Fault, FaultKind, Faults},
    receipt::Receipt,
};
use crate::receipt::BEGINNING;

/// What somebody knows besides the receipts.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Trust {
    /// The only public keys that may have signed, in hexadecimal; without any a receipt's own key counts.
    pub keys: Vec<String>,
    /// The hash of a receipt that was kept elsewhere, and has to be in the chain.
    pub kept: Option<String>,
}

impl Trust {
    /// Nothing but the receipts themselves.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Only these keys may have signed.
    #[must_use]
    pub fn keys(self, keys: Vec<String>) -> Self {
        Self { keys, ..self }
    }

    /// The receipt with this hash has to be there.
    #[must_use]
    pub fn kept(self, hash: Option<String>) -> Self {
        Self { kept: hash, ..self }
    }
}

/// A chain as far as it has been read.
pub(super) struct Chain<'t> {
    trust: &'t Trust,
    last: Option<Receipt>,
    has_kept: bool,
}

impl<'t> Chain<'t> {
    pub(super) fn new(trust: &'t Trust) -> Self {
        Self { trust, last: None, has_kept: false }
    }

    /// Takes the next receipt. The chain begins with the receipt `first`: a bundle may hold the end of one.
    pub(super) fn take(&mut self, receipt: &Receipt, first: i64, faults: &mut Faults) {
        let Receipt { n, .. } = *receipt;
        let mut fault = |kind| faults.push(Fault::of_receipt(kind, n));
        if n != self.last.as_ref().map_or(first, |last| last.n.saturating_add(1)) {
            fault(FaultKind::ReceiptMissing);
        }
        if receipt.hash != receipt.hash_of_text() {
            fault(FaultKind::ReceiptChanged);
        }
        if !follows(receipt, self.last.as_ref()) {
            fault(FaultKind::ChainBroken);
        }
        if !receipt.is_signed_by_its_key() {
            fault(FaultKind::SignatureInvalid);
        }
        let Trust { keys, kept } = self.trust;
        if !keys.is_empty() && receipt.key.as_ref().is_none_or(|key| !keys.contains(key)) {
            fault(FaultKind::KeyUnknown);
        }
        // The beginning of a part is chained to the receipt before it.
        let is_kept = |hash: &String| {
            *hash == receipt.hash || (self.last.is_none() && n > 1 && *hash == receipt.previous)
        };
        self.has_kept |= kept.as_ref().is_some_and(is_kept);
        self.last = Some(receipt.clone());
    }

    /// The last receipt.
    pub(super) fn last(&self) -> Option<&Receipt> {
        self.last.as_ref()
    }

    /// That everything has been taken.
    pub(super) fn end(&self, faults: &mut Faults) {
        if let Some(kept) = &self.trust.kept
            && !self.has_kept
        {
            faults.push(Fault::new(FaultKind::ChainCut).saying(kept));
        }
    }
}

/// Whether a receipt goes on where the last one ended. Of a part the first one says so itself.
fn follows(receipt: &Receipt, last: Option<&Receipt>) -> bool {
    match last {
        Some(last) => {
            receipt.previous == last.hash
                && receipt.position_before.as_ref() == Some(&last.position)
                && receipt.since == Some(last.until)
        }
        None if receipt.n == 1 => {
            receipt.previous == BEGINNING && receipt.position_before.is_none() && receipt.since.is_none()
        }
        None => true,
    }
}
