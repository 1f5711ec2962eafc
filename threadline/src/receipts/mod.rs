//! Receipts over the whole timeline: what was committed to it between two snapshots of its database, row by row. Whoever changes, removes or
//! slips in a row later is found, without a server too; that nothing happened is a receipt as well.
//!
//! [`seal()`] writes the next receipt, [`verify()`] compares the timeline with all of them, [`bundle()`] writes receipts with their rows into a file,
//! which [`verify_bundle`] verifies. `docs/threadline-receipts.md` says what that proves, and has every byte of the format.
//!
//! Receipts cover captured transactions, changes, and actions that a host recorded. Events that the pipeline projects are written again by a
//! rebuild, and have receipts of their own: [`receipt`](crate::receipt).

mod bundle;
mod chain;
mod columns;
mod content;
mod counts;
mod covering;
mod error;
mod fault;
mod leaf;
mod links;
mod lookup;
mod purges;
mod receipt;
mod row;
mod rows;
mod seal;
mod snapshot;
mod store;
mod verification;
mod verify;

pub use bundle::{Bundled, LINE_MAX, Span, bundle, verify_bundle};
pub use chain::Trust;
pub use columns::Kind;
pub use counts::Counts;
pub use covering::covering;
pub use error::ReceiptError;
pub use fault::{FAULTS_MAX, Fault, FaultKind, Faults, RowName};
pub use receipt::Receipt;
pub use seal::{KeyChange, Sealed, seal, seal_as};
pub use verification::Verification;
pub use verify::{verify, verify_newest};

pub(crate) use links::links;

use crate::Timeline;

/// The newest receipts, the newest of them first.
///
/// # Errors
/// `not_installed`, `rights`, and what the database says.
pub async fn newest(timeline: &Timeline, limit: u32) -> Result<Vec<Receipt>, ReceiptError> {
    Ok(store::newest(&mut *timeline.pool().acquire().await?, timeline.schema(), limit.into()).await?)
}
