//! Which rows of an archive are still what stands in it. One that somebody has changed meanwhile, its captured transaction or the action that
//! this is linked to, is archived in no such form: it stays, and a further run archives it again.

use std::collections::HashMap;

use futures::TryStreamExt as _;
use ring::digest::{SHA256, digest};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{ids::Held, slice};
use crate::{
    StorageSchema, export,
    query::{again, each_again},
    retention::walk::Of,
};

/// Bytes of the lines whose rows one statement reads, about: it has little time.
const STATEMENT_BYTES: usize = 16 << 20;

/// Rows of an archive, as the transaction sees them.
#[derive(Debug, Default)]
pub(in crate::retention) struct Compared {
    /// Those that are what stands in it.
    pub(in crate::retention) unchanged: Vec<Uuid>,
    /// How many are there and are not.
    pub(in crate::retention) changed: u64,
}

/// Reads the rows of these lines, one by one, and compares each with its line.
pub(in crate::retention) async fn compared(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    of: &Of,
    mut held: &[Held],
) -> Result<Compared, sqlx::Error> {
    let shape = slice::shape(of);
    let mut compared = Compared::default();
    while !held.is_empty() {
        let (some, others) = held.split_at(as_many_as_fit(held));
        held = others;
        let lines: HashMap<Uuid, &[u8; 32]> = some.iter().map(|line| (line.id, &line.sha256)).collect();
        let statement = again(storage, shape, lines.keys().copied().collect());
        let mut rows = each_again(&statement, shape, connection);
        while let Some(mut row) = rows.try_next().await? {
            let id = row.id();
            let line = export::line(&mut row).map_err(|error| sqlx::Error::Decode(error.into()))?;
            let sha256 = digest(&SHA256, line.as_bytes());
            if lines.get(&id).is_some_and(|held| held.as_slice() == sha256.as_ref()) {
                compared.unchanged.push(id);
            } else {
                compared.changed += 1;
            }
        }
    }
    Ok(compared)
}

/// At least one.
fn as_many_as_fit(held: &[Held]) -> usize {
    let mut bytes = 0;
    let fit = held.iter().take_while(|line| {
        bytes += line.bytes;
        bytes <= STATEMENT_BYTES
    });
    fit.count().max(1)
}
