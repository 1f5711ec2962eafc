//! Entering rows that were there before capture. Chunk by chunk, each with its position in one transaction, so that work
//! that was interrupted continues where it ended. One documented function per statement.
//!
//! Rows are walked by their primary key, which every table has an index for. Whatever commits behind the walk is captured:
//! `attach` waits for the transactions that were writing when it came.

use sqlx::{AssertSqlSafe, Executor as _, FromRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    database,
    identifier::{ForwarderId, TableName},
    outbox::capture::columns,
    session::Session,
    time_arg::as_captured,
};

/// Which rows; every part that is absent matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Happened at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Happened before this time.
    pub until: Option<OffsetDateTime>,
    /// With this action; with a `*` at its end, one that begins like this.
    pub action: Option<String>,
}

/// Work that has begun.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Backfill {
    /// Its number.
    pub id: i64,
    /// Rows that happened at this time or later; what was meant when it began.
    pub since: Option<OffsetDateTime>,
    /// Rows that happened before this time.
    pub until: Option<OffsetDateTime>,
    /// Rows up to this id have been walked past.
    pub after_id: Option<Uuid>,
    /// Rows that matched when it began.
    pub total: i64,
    /// Rows walked past.
    pub passed: i64,
    /// Of these, rows that were entered.
    pub entered: i64,
}

/// A filter as SQL, with parameters 1 to 3.
async fn condition(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
) -> Result<String, sqlx::Error> {
    let columns = columns::of(connection, table).await?;
    columns::refuse_id(&columns, table)?;
    columns::refuse_action(&columns, table, filter.action.as_ref())?;
    let at = as_captured("a.occurred_at");
    Ok(format!(
        "($1::timestamptz is null or {at} >= $1) and ($2::timestamptz is null or {at} < $2)
         and ($3::text is null or {})",
        columns::action_matches(&columns, "a", "$3")
    ))
}

/// How many rows match. Visits all of them.
///
/// # Errors
/// When the server is away.
pub async fn count(connection: &mut Session, table: &TableName, filter: &Filter) -> Result<i64, sqlx::Error> {
    let condition = condition(connection, table, filter).await?;
    let statement = format!("select count(*) from {} a where {condition}", table.quoted());
    let mut scan = database::read_only_scan(connection).await?;
    let count = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.action)
        .fetch_one(&mut *scan)
        .await?;
    scan.rollback().await?;
    Ok(count)
}

/// The work with these arguments that has not been finished.
///
/// # Errors
/// When the server is away.
pub async fn unfinished(connection: &mut Session, words: &str) -> Result<Option<Backfill>, sqlx::Error> {
    sqlx::query_as(
        "select id, since, until, after_id, total, passed, entered from outbox.backfills
         where filter = $1 and finished_at is null",
    )
    .bind(words)
    .fetch_optional(connection)
    .await
}

/// Begins work, unless another process has with the same arguments; then that is returned.
///
/// # Errors
/// When the server is away.
pub async fn begin(
    connection: &mut Session,
    words: &str,
    filter: &Filter,
    forwarder: Option<&ForwarderId>,
    total: i64,
) -> Result<Backfill, sqlx::Error> {
    sqlx::query_as(
        "insert into outbox.backfills as b (filter, forwarder, total, since, until) values ($1, $2, $3, $4, $5)
         on conflict (filter) where finished_at is null do update set total = b.total
         returning id, since, until, after_id, total, passed, entered",
    )
    .bind(words)
    .bind(forwarder.map(ForwarderId::as_str))
    .bind(total)
    .bind(filter.since)
    .bind(filter.until)
    .fetch_one(connection)
    .await
}

/// The ids of the next rows behind `after`, in order, each with whether it matches: so many are walked past with one
/// statement, however few match.
///
/// # Errors
/// When the server is away.
pub async fn page(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(Uuid, bool)>, sqlx::Error> {
    // The first page includes the smallest id that there can be.
    let behind = if after.is_some() { ">" } else { ">=" };
    let condition = condition(connection, table, filter).await?;
    let statement = format!(
        "select a.id, coalesce({condition}, false) from {} a where a.id {behind} $4 order by a.id limit $5",
        table.quoted()
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.action)
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// The ids of matching rows from `after` on and up to `until` that the log has nothing of, in order. A walk that was interrupted has left
/// these behind: no walk reaches what is inserted there while capture is off. Visits all rows up to there, and the log.
///
/// # Errors
/// When the server is away.
pub async fn left_behind(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    forwarder: Option<&ForwarderId>,
    (after, until): (Option<Uuid>, Uuid),
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let condition = condition(connection, table, filter).await?;
    let statement = format!(
        "select a.id from {} a
         where {condition} and ($4::uuid is null or a.id > $4) and a.id <= $5
           and not exists (select from outbox.entries e
                           where e.audit_event_id = a.id and (e.forwarder is null or e.forwarder = $6))
         order by a.id limit $7",
        table.quoted()
    );
    let mut scan = database::read_only_scan(connection).await?;
    // The log has no index for this: it is to be read once, and not for each row.
    scan.execute("set local enable_nestloop = off").await?;
    let ids = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.action)
        .bind(after)
        .bind(until)
        .bind(forwarder.map(ForwarderId::as_str))
        .bind(limit)
        .fetch_all(&mut *scan)
        .await?;
    scan.rollback().await?;
    Ok(ids)
}

/// Enters rows into the log, those that still exist; returns how many.
///
/// # Errors
/// When the server is away.
pub async fn append_entries(
    connection: &mut Session,
    table: &TableName,
    ids: &[Uuid],
    forwarder: Option<&ForwarderId>,
) -> Result<u64, sqlx::Error> {
    let statement = format!(
        "insert into outbox.entries (audit_event_id, occurred_at, forwarder)
         select a.id, {}, $2
         from {} a where a.id = any ($1) order by a.occurred_at, a.id",
        as_captured("a.occurred_at"),
        table.quoted()
    );
    let done = sqlx::query(AssertSqlSafe(statement))
        .bind(ids)
        .bind(forwarder.map(ForwarderId::as_str))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

/// Moves on behind `last`, in the transaction that entered the rows. Returns whether the work stood where the caller
/// thought: if not, another process works on it, and the chunk must be rolled back.
///
/// # Errors
/// When the server is away.
pub async fn advance(
    connection: &mut Session,
    work: &Backfill,
    last: Uuid,
    passed: i64,
    entered: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update outbox.backfills set after_id = $3, passed = passed + $4, entered = entered + $5
         where id = $1 and after_id is not distinct from $2 and finished_at is null",
    )
    .bind(work.id)
    .bind(work.after_id)
    .bind(last)
    .bind(passed)
    .bind(entered)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks the rows that capture missed as those that this work makes good: whatever is visible now has committed before
/// its walk. Only those of this table, and none while there are rows without an id, which may get one behind the walk.
///
/// # Errors
/// When the server is away.
pub async fn claim_missed(
    connection: &mut Session,
    table: &TableName,
    work: &Backfill,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "update outbox.missed set backfill = case when not exists (select from {} a where a.id is null) then $1 end
         where relation is null or relation = $2::text::regclass",
        table.quoted()
    );
    sqlx::query(AssertSqlSafe(statement)).bind(work.id).bind(table.quoted()).execute(connection).await?;
    Ok(())
}

/// Removes what this work has made good; nothing while there are rows that no backfill can enter. Returns how many rows that
/// capture missed are left, counted up to a limit.
///
/// # Errors
/// When the server is away.
pub async fn clear_missed(
    connection: &mut Session,
    table: &TableName,
    work: &Backfill,
) -> Result<i64, sqlx::Error> {
    let statement = format!(
        "delete from outbox.missed where backfill = $1 and not exists (select from {} a where a.id is null)",
        table.quoted()
    );
    let done = sqlx::query(AssertSqlSafe(statement)).bind(work.id).execute(&mut *connection).await?;
    if done.rows_affected() > 0 {
        tracing::info!(rows = done.rows_affected(), "rows that capture had missed are in the log now");
    }
    sqlx::query_scalar("select count(*) from (select from outbox.missed limit 10000) m")
        .fetch_one(connection)
        .await
}

/// Marks work as finished, or as given up.
///
/// # Errors
/// When the server is away.
pub async fn finish(connection: &mut Session, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("update outbox.backfills set finished_at = clock_timestamp() where id = $1")
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}
