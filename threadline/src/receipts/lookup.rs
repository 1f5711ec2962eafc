//! The rows of leaves, by their primary keys.

use futures::TryStreamExt as _;
use sqlx::PgConnection;

use super::{columns::Kind, error::ReceiptError, leaf::Leaf, row::Row, rows};
use crate::StorageSchema;

/// Hands over each of these leaves, which are of one kind, with its row; none where it is gone. In their order, one row at a time.
pub(super) async fn each_row(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    kind: Kind,
    leaves: &[Leaf],
    mut take: impl FnMut(&Leaf, Option<Row<'_>>) -> Result<(), ReceiptError>,
) -> Result<(), ReceiptError> {
    let statement = rows::of_ids(kind, leaves.iter().map(|leaf| leaf.id).collect(), schema);
    let mut rows = statement.query().fetch(connection);
    let mut leaves = leaves.iter();
    while let Some(row) = rows.try_next().await? {
        let Some(leaf) = leaves.next() else { break };
        take(leaf, Row::read(&row, 0, kind)?)?;
    }
    Ok(())
}
