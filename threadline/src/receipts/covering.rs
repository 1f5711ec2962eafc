//! Which receipt a captured transaction is in: by its number and the snapshots of receipts, without looking at what was sealed.

use super::{error::ReceiptError, receipt::Receipt, store};
use crate::{
    Timeline,
    query::{Position, Transaction},
};

/// The receipt that covers a transaction; none where it is not sealed yet. It says where to look; [`verify`](super::verify()) says whether it holds.
/// As many receipts are read as it takes to halve all of them again and again.
///
/// # Errors
/// `not_installed`, `rights`, and what the database says.
pub async fn covering(
    timeline: &Timeline,
    transaction: &Transaction,
) -> Result<Option<Receipt>, ReceiptError> {
    let mut connection = timeline.pool().acquire().await?;
    let newest = store::newest(&mut connection, timeline.schema(), 1).await?.pop();
    let Some(mut found) = newest.filter(|receipt| sees(receipt, transaction)) else { return Ok(None) };
    // No receipt up to `unseen` sees it, and none from `upper` on is before the one that was found.
    let (mut unseen, mut upper) = (0, found.n);
    while upper - unseen > 1 {
        let middle = unseen + (upper - unseen) / 2;
        let Some(receipt) = store::next(&mut connection, timeline.schema(), middle - 1).await? else { break };
        if receipt.n >= found.n {
            // None is left in the upper half.
            upper = middle;
        } else if sees(&receipt, transaction) {
            (upper, found) = (middle, receipt);
        } else {
            unseen = receipt.n;
        }
    }
    Ok(Some(found))
}

/// One whose position is none was changed by somebody: verification finds that.
fn sees(receipt: &Receipt, transaction: &Transaction) -> bool {
    receipt.position.parse::<Position>().is_ok_and(|position| position.sees(transaction.txid))
}
