//! One transaction of a purge.

use std::time::Duration;

use sqlx::PgConnection;

use super::{
    error::PurgeError,
    options::PurgeOptions,
    record::{Counts, Run},
    walk::{self, Place, Visited, Walk},
};
use crate::{Timeline, query::Statement};

/// Time of a statement: a lease outlives two of them and the longest pause.
const STATEMENT_TIME: Duration = Duration::from_secs(15);

/// Why a batch was rolled back, and what a statement of it wanted to write to.
pub(super) struct Failed {
    pub(super) table: &'static str,
    pub(super) error: PurgeError,
}

/// Deletes the next rows of a walk, as one transaction that also renews the lease and records how far the run is.
///
/// It sees one state of the timeline. So do triggers in it: whoever adds a change to a captured transaction that was empty keeps it, since
/// the trigger that deletes changes with their transaction sees none.
pub(super) async fn batch(
    timeline: &Timeline,
    run: &Run,
    options: &PurgeOptions,
    deletes_empty: bool,
    (walk, after, before): (&Walk, Option<&Place>, Counts),
) -> Result<Visited, Failed> {
    let storage = timeline.schema();
    let of = |table| move |error: sqlx::Error| Failed { table, error: error.into() };
    let begin = "begin transaction isolation level repeatable read, read write";
    let mut transaction = timeline.pool().begin_with(begin).await.map_err(of(walk.table()))?;
    settle(&mut transaction, options.lock_timeout).await.map_err(of(walk.table()))?;
    // First of all: whoever has lost the lease deletes nothing.
    let lease = run.lease.renew(&mut transaction, storage).await.map_err(of("threadline_leases"))?;
    lease.ok_or(Failed { table: "threadline_leases", error: PurgeError::LeaseLost })?;
    let statement = walk.statement(storage, &run.windows, after, options.batch_size);
    let row = statement.query().fetch_one(&mut *transaction).await.map_err(of(walk.table()))?;
    let mut visited = walk.visited(&row).map_err(of(walk.table()))?;
    if deletes_empty && !visited.touched.is_empty() {
        let touched = std::mem::take(&mut visited.touched);
        let deleted = walk::delete_empty(storage, touched).query().execute(&mut *transaction).await;
        visited.deleted.transactions = deleted.map_err(of("audit_transactions"))?.rows_affected();
    }
    let renewed = run.renew(&mut transaction, storage, before + visited.deleted).await;
    renewed.map_err(|error| Failed { table: "threadline_retention_runs", error })?;
    transaction.commit().await.map_err(of(walk.table()))?;
    Ok(visited)
}

/// Sets for this transaction how long is waited, and what would let a plan of a table that has just grown read all of it.
pub(super) async fn settle(connection: &mut PgConnection, lock_timeout: Duration) -> Result<(), sqlx::Error> {
    let milliseconds = |time: Duration| time.as_millis().max(1).to_string();
    let settings = [
        ("lock_timeout", milliseconds(lock_timeout)),
        ("statement_timeout", milliseconds(STATEMENT_TIME.max(lock_timeout * 2))),
        // There since PostgreSQL 17.
        ("transaction_timeout", "0".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
        // Times are texts between two batches.
        ("datestyle", "ISO, MDY".to_owned()),
        ("timezone", "UTC".to_owned()),
    ];
    let (names, values): (Vec<String>, Vec<String>) =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
    let mut statement = Statement::new("select count(set_config(s.name, s.value, true)) from unnest(");
    statement
        .bind(names)
        .push("::text[], ")
        .bind(values)
        .push("::text[]) s (name, value) where current_setting(s.name, true) is not null");
    statement.query().execute(connection).await?;
    Ok(())
}

/// Whether the same transaction may succeed a little later: a lock that somebody holds, or a row that somebody changed meanwhile.
pub(super) fn is_busy(error: &PurgeError) -> bool {
    let PurgeError::Database(error) = error else { return false };
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40001" | "40P01"))
}
