//! `outbox.acts`: what operators did to the pipeline, for audits of the audit. One documented function per statement.

use serde::Serialize;
use sqlx::FromRow;

use crate::{
    session::{Session, Transaction},
    text_enum::text_enum,
};

text_enum! {
    /// What an operator, or a service on its own, did to the pipeline.
    ActionKind {
        /// Dead letters are delivered again.
        Redrive = "redrive",
        /// Failures are not to be delivered.
        Discard = "discard",
        /// An audit row was shown as it is.
        Unmask = "unmask",
        /// Positions or a stream belong to another cluster now.
        Rebase = "rebase",
        /// A forwarder was switched between the stream and the log.
        ChangeDispatch = "change_dispatch",
        /// A reader of the log was removed.
        DropReader = "drop_reader",
        /// A durable of the stream was removed.
        DropDurable = "drop_durable",
        /// A part of the stream was forwarded again.
        Replay = "replay",
        /// What a comparison found was repaired.
        Repair = "repair",
        /// Rows from before capture were appended to the log.
        Backfill = "backfill",
        /// The projection was built again.
        Rebuild = "rebuild",
        /// The projection from before a rebuild was put back.
        RebuildBack = "rebuild_back",
        /// The other table of a rebuild was removed.
        RebuildFinish = "rebuild_finish",
    }
}

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorAction<'a> {
    /// Who, as far as the system knows.
    pub actor: &'a str,
    /// What was done.
    pub kind: ActionKind,
    /// What it was meant to reach, as text.
    pub filter: &'a str,
    /// How many rows it reached.
    pub count: u64,
    /// The stated reason, where one is required.
    pub reason: Option<&'a str>,
}

/// Records an action; call it in the transaction that does it. Returns its number.
///
/// # Errors
/// When the server is away.
pub async fn record(connection: &mut Session, action: &OperatorAction<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "insert into outbox.acts (actor, kind, filter, count, reason)
         values ($1 || ' as database role ' || session_user, $2, $3, $4, $5)
         returning id",
    )
    .bind(action.actor)
    .bind(action.kind.as_str())
    .bind(action.filter)
    .bind(action.count.cast_signed())
    .bind(action.reason)
    .fetch_one(connection)
    .await
}

/// The same, unless an action of this kind with this filter is recorded already: `None`. One that is being recorded meanwhile is
/// waited for.
///
/// # Errors
/// When the server is away.
pub async fn record_once(
    transaction: &mut Transaction<'_>,
    action: &OperatorAction<'_>,
) -> Result<Option<i64>, sqlx::Error> {
    // One statement each: the second one sees what was committed while the first one waited.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('outbox.acts ' || $1 || ' ' || $2, 0))")
        .bind(action.kind.as_str())
        .bind(action.filter)
        .execute(&mut **transaction)
        .await?;
    let recorded =
        sqlx::query_scalar("select exists (select from outbox.acts where kind = $1 and filter = $2)")
            .bind(action.kind.as_str())
            .bind(action.filter)
            .fetch_one(&mut **transaction)
            .await?;
    if recorded { Ok(None) } else { record(transaction, action).await.map(Some) }
}

/// An action that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct RecordedAction {
    /// Its number.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// Who, and as which role of the database.
    pub actor: String,
    /// What was done; a later version may do more.
    pub kind: String,
    /// What it was meant to reach, as text.
    pub filter: Option<String>,
    /// How many rows it reached.
    pub count: Option<i64>,
    /// The stated reason.
    pub reason: Option<String>,
}

/// The last actions, the newest first; those alone whose filter has this text in it, where one is given.
///
/// # Errors
/// When the server is away.
pub async fn latest(
    connection: &mut Session,
    about: Option<&str>,
    limit: i64,
) -> Result<Vec<RecordedAction>, sqlx::Error> {
    sqlx::query_as(
        "select id, to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at, actor, kind, filter, count, reason
         from outbox.acts where $1::text is null or position($1 in filter) > 0 order by id desc limit $2",
    )
    .bind(about)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// One action.
///
/// # Errors
/// When the server is away.
pub async fn recorded(connection: &mut Session, id: i64) -> Result<Option<RecordedAction>, sqlx::Error> {
    sqlx::query_as(
        "select id, to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at, actor, kind, filter, count, reason
         from outbox.acts where id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Adds to the count of an action that continues.
///
/// # Errors
/// When the server is away.
pub async fn extend(connection: &mut Session, id: i64, count: u64) -> Result<(), sqlx::Error> {
    sqlx::query("update outbox.acts set count = count + $2 where id = $1")
        .bind(id)
        .bind(count.cast_signed())
        .execute(connection)
        .await?;
    Ok(())
}

/// The person at the keyboard: the user behind `sudo`, else the login name.
#[must_use]
pub fn operator() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
    of("SUDO_USER").or_else(|| of("USER")).or_else(|| of("LOGNAME")).unwrap_or_else(|| "somebody".to_owned())
}
