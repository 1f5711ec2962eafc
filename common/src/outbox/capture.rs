//! The capture trigger: attach, detach, and whether it is there.

use std::time::Duration;

use crate::{identifier::TableName, session::Session};

/// How often attach and detach try again for the table's lock, two seconds each.
const LOCK_ATTEMPTS: u32 = 10;

/// `lock_not_available`.
const LOCK_TIMEOUT: &str = "55P03";

/// What the source table's capture looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// Every row inserted is captured.
    Attached,
    /// `outbox.attach` has not been called in this database, or the log was detached and is empty.
    Never,
    /// It was attached, and something removed or disabled the trigger on so many tables (partitions count).
    Broken {
        /// The attached table.
        table: String,
        /// Tables without an enabled trigger.
        uncovered: i64,
    },
}

/// Starts capture on `table`.
///
/// # Errors
/// When the table is not fit (the message says why), or busy for the whole time.
pub async fn attach(connection: &mut Session, table: &TableName) -> Result<(), sqlx::Error> {
    with_lock_retries(connection, "select outbox.attach($1::text::regclass)", Some(table.quoted())).await
}

/// Stops capture; what is in the log is still delivered.
///
/// # Errors
/// When the table is busy for the whole time.
pub async fn detach(connection: &mut Session) -> Result<(), sqlx::Error> {
    with_lock_retries(connection, "select outbox.detach()", None).await
}

/// Waiting longer for the lock would queue the application's own statements behind us: give way and try again.
async fn with_lock_retries(
    connection: &mut Session,
    statement: &'static str,
    argument: Option<String>,
) -> Result<(), sqlx::Error> {
    let mut attempt = 1;
    loop {
        let mut query = sqlx::query(statement);
        if let Some(argument) = &argument {
            query = query.bind(argument);
        }
        match query.execute(&mut *connection).await {
            Err(error) if is_lock_timeout(&error) && attempt < LOCK_ATTEMPTS => {
                tracing::info!(attempt, of = LOCK_ATTEMPTS, "the table is busy; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
                attempt += 1;
            }
            result => return result.map(drop),
        }
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == LOCK_TIMEOUT)
}

/// Whether the trigger is present and enabled on the attached table and each of its partitions.
///
/// # Errors
/// When the server is away.
pub async fn state(connection: &mut Session) -> Result<Capture, sqlx::Error> {
    let row: Option<(String, i64)> = sqlx::query_as(
        "select format('%I.%I', s.table_schema, s.table_name),
                (select count(*)
                 from (select to_regclass(format('%I.%I', s.table_schema, s.table_name)) as oid) root
                 left join lateral (
                     -- An ordinary table is not in its own partition tree.
                     select relid from pg_partition_tree(root.oid) union select root.oid) leaf on true
                 -- Always: an ordinary trigger, as `enable trigger all` leaves it, misses what replication applies.
                 where not exists (select from pg_trigger t
                                   where t.tgrelid = leaf.relid and t.tgname = 'outbox_capture'
                                     and t.tgenabled = 'A'))
         from outbox.source s",
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        None => Capture::Never,
        Some((_, 0)) => Capture::Attached,
        Some((table, uncovered)) => Capture::Broken { table, uncovered },
    })
}
