//! Locks of tables that no writer pays for: whoever holds some and waits for the next one gives up before a deadlock is looked for.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::capture::HostTable;

/// How long all attempts take together, at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one attempt waits for its locks, at most.
const LIMIT: Duration = Duration::from_millis(400);

/// How long writers go on between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// Locks the tables and their partitions until the end of the transaction: nobody writes to them or changes their triggers.
///
/// A writer that waits for one of them while we wait for another that it has written to is in a deadlock with us, and after
/// `deadlock_timeout` the server aborts whichever of the two it finds first. So all locks together are waited for half as long.
pub(super) async fn lock(connection: &mut PgConnection, tables: &[&HostTable]) -> Result<(), sqlx::Error> {
    let half: i64 = sqlx::query_scalar(
        "select setting::int8 / 2 from pg_catalog.pg_settings where name = 'deadlock_timeout'",
    )
    .fetch_one(&mut *connection)
    .await?;
    let until = Instant::now() + LIMIT.min(Duration::from_millis(half.try_into().unwrap_or_default()));
    for table in tables {
        lock_one(connection, table, until).await?;
        for partition in partitions(connection, table).await? {
            lock_one(connection, &partition, until).await?;
        }
    }
    Ok(())
}

async fn lock_one(
    connection: &mut PgConnection,
    table: &HostTable,
    until: Instant,
) -> Result<(), sqlx::Error> {
    // Zero would be no limit.
    let rest = until.saturating_duration_since(Instant::now()).as_millis().max(1);
    let statement = format!(
        "set local lock_timeout = {rest}; lock table only {} in share row exclusive mode",
        table.quoted()
    );
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

/// Those of a table that is locked: none comes or goes.
async fn partitions(connection: &mut PgConnection, table: &HostTable) -> Result<Vec<HostTable>, sqlx::Error> {
    let found: Vec<(String, String)> = sqlx::query_as(
        "select s.nspname::text, p.relname::text
         from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         cross join lateral pg_catalog.pg_partition_tree(c.oid) t
         join pg_catalog.pg_class p on p.oid = t.relid
         join pg_catalog.pg_namespace s on s.oid = p.relnamespace
         where n.nspname = $1 and c.relname = $2 and t.level > 0 and p.relkind in ('r', 'p')
         order by t.level, p.oid",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(schema, name)| HostTable { schema, name }).collect())
}

/// Whether another attempt is worth it, and there is time for one.
pub(super) fn is_worth_another(error: &sqlx::Error, started: Instant) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // `lock_not_available`, or a deadlock.
    let is_busy = code.is_some_and(|code| code == "55P03" || code == "40P01");
    is_busy && started.elapsed() + PAUSE + LIMIT <= PATIENCE
}
