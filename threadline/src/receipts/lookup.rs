//! The rows of leaves, by their primary keys.

use futures::TryStreamExt as _;
use sqlx::{PgConnection, Row as _};

use super::{columns::Kind, error::ReceiptError, leaf::Leaf, row::Row, rows};
use crate::{StorageSchema, erasure::KnownRuns};

/// Hands over each of these leaves, which are of one kind, by its place among them, with its row; none where it is gone. In their order, one
/// row at a time. A further row of the same id, which no key of the table has kept away, has no place.
pub(super) async fn each_row(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    kind: Kind,
    leaves: &[Leaf],
    runs: &KnownRuns,
    mut take: impl FnMut(Option<usize>, Option<Row<'_>>) -> Result<(), ReceiptError>,
) -> Result<(), ReceiptError> {
    let statement = rows::of_ids(kind, leaves.iter().map(|leaf| leaf.id).collect(), schema);
    let mut rows = statement.query().fetch(connection);
    let mut last = None;
    while let Some(row) = rows.try_next().await? {
        let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).ok();
        take(place.filter(|_| place != last), Row::read(&row, 1, kind, runs)?)?;
        last = place;
    }
    Ok(())
}
