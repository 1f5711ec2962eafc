//! `--record` of commands that look at capture: what they have seen becomes evidence.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use threadline::{StorageSchema, evidence::Record};

use crate::cli::read::render::note;

use super::refused;

/// Writes all of these records, or none.
pub(crate) async fn record_all(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    records: impl IntoIterator<Item = Record>,
) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await.context("cannot record the evidence")?;
    let mut written = 0;
    for record in records {
        record.record(&mut transaction, storage).await.map_err(refused)?;
        written += 1;
    }
    transaction.commit().await.context("cannot record the evidence")?;
    note(&format!("evidence: {written} recorded"));
    Ok(())
}
