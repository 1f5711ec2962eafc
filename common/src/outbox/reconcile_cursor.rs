//! How far the log has been compared with a forwarder's target: by marks, without any clock. One documented function per
//! statement.

use serde::Serialize;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use crate::{
    database,
    identifier::{ForwarderId, TableName},
    outbox::reader::{
        rounds::{Position, StreamPosition},
        snapshot::Snapshot,
    },
    session::Session,
};

/// The newest snapshot that a forwarder is certainly past: everything visible in it has been settled by its durable at
/// `floor`, or, without a broker, handed over by its own reader. `None` when there is no such mark. Marks of another
/// [generation](super::maintenance::retention::generation) than the one that was read before the floor speak of other messages, those
/// of another cluster of other transactions.
///
/// # Errors
/// When the server is away.
pub async fn settled(
    connection: &mut Session,
    reader: &str,
    generation: i32,
    floor: Option<StreamPosition>,
) -> Result<Option<Snapshot>, sqlx::Error> {
    let text: Option<String> = sqlx::query_scalar(
        "select r.s::text from outbox.rounds r
         where r.reader = $1
           and (r.stream_seq is null and $2::timestamptz is null or r.stream_created = $2 and r.stream_seq <= $3)
           and r.generation = $4
           and r.system_identifier = (select c.system_identifier from pg_control_system() c)
         order by r.n desc limit 1",
    )
    .bind(reader)
    .bind(floor.map(|floor| floor.created))
    .bind(floor.map(|floor| floor.sequence.cast_signed()))
    .bind(generation)
    .fetch_optional(connection)
    .await?;
    text.map(|text| text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).transpose()
}

/// Those of `events` that have an entry for this forwarder which is not visible in `settled`: they are on their way.
///
/// # Errors
/// When the server is away.
pub async fn on_their_way(
    connection: &mut Session,
    forwarder: &ForwarderId,
    settled: Option<&Snapshot>,
    events: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    // During an outage the whole log may be ahead.
    let mut scan = database::read_only_scan(connection).await?;
    let found = sqlx::query_scalar(
        "select distinct e.audit_event_id from outbox.entries e
         where e.xid >= pg_snapshot_xmin($1::text::pg_snapshot)
           and not pg_visible_in_snapshot(e.xid, $1::text::pg_snapshot)
           and (e.forwarder is null or e.forwarder = $2) and e.audit_event_id = any ($3)",
    )
    .bind(settled.map_or(Snapshot::EMPTY, Snapshot::as_str))
    .bind(forwarder.as_str())
    .bind(events)
    .fetch_all(&mut *scan)
    .await?;
    scan.rollback().await?;
    Ok(found)
}

/// Those of `events` whose audit row exists.
///
/// # Errors
/// When the server is away.
pub async fn existing(
    connection: &mut Session,
    table: &TableName,
    events: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let statement = format!("select id from {} where id = any ($1)", table.quoted());
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(events).fetch_all(connection).await
}

/// How far the continuous reconciliation of a forwarder has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcileCursor {
    /// Everything visible in it has been compared.
    pub compared: Snapshot,
    /// The goal of a round that was not finished, and the position reached.
    pub resume: Option<(Snapshot, Position)>,
}

/// Reads how far the continuous reconciliation of a forwarder has come; the beginning of the log in a cluster that it does not know.
///
/// # Errors
/// When the server is away.
pub async fn read(
    connection: &mut Session,
    forwarder: &ForwarderId,
    system_identifier: i64,
) -> Result<ReconcileCursor, sqlx::Error> {
    let row = sqlx::query(
        "select s::text, t::text, after_xid::text, after_seq from outbox.reconciled
         where forwarder = $1 and system_identifier = $2",
    )
    .bind(forwarder.as_str())
    .bind(system_identifier)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(ReconcileCursor { compared: snapshot(Snapshot::EMPTY)?, resume: None });
    };
    let (s, t): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let (xid, seq): (Option<String>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
    let resume = match (t, xid, seq) {
        (Some(t), Some(xid), Some(seq)) => {
            let xid = xid.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Some((snapshot(&t)?, Position { xid, seq }))
        }
        _ => None,
    };
    Ok(ReconcileCursor { compared: snapshot(&s)?, resume })
}

fn snapshot(text: &str) -> Result<Snapshot, sqlx::Error> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Moves on: to a snapshot of which everything has been compared, or to a position within a round.
///
/// # Errors
/// When the server is away.
pub async fn advance(
    connection: &mut Session,
    forwarder: &ForwarderId,
    cursor: &ReconcileCursor,
    system_identifier: i64,
    checked: u64,
    missing: u64,
) -> Result<(), sqlx::Error> {
    let resume = cursor.resume.as_ref();
    sqlx::query(
        "insert into outbox.reconciled as r
             (forwarder, s, system_identifier, checked, missing, t, after_xid, after_seq)
         values ($1, $2::text::pg_snapshot, $3, $4, $5, $6::text::pg_snapshot, $7::text::xid8, $8)
         on conflict (forwarder) do update
         set s = excluded.s, system_identifier = excluded.system_identifier, at = clock_timestamp(),
             t = excluded.t, after_xid = excluded.after_xid, after_seq = excluded.after_seq,
             checked = r.checked + excluded.checked, missing = r.missing + excluded.missing",
    )
    .bind(forwarder.as_str())
    .bind(cursor.compared.as_str())
    .bind(system_identifier)
    .bind(checked.cast_signed())
    .bind(missing.cast_signed())
    .bind(resume.map(|(t, _)| t.as_str()))
    .bind(resume.map(|(_, after)| after.xid.to_string()))
    .bind(resume.map(|(_, after)| after.seq))
    .execute(connection)
    .await?;
    Ok(())
}

/// The progress of a continuous reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct ReconcileProgress {
    /// Whose target.
    pub forwarder: String,
    /// Settled entries that were looked for.
    pub checked: i64,
    /// Of these, those that were missing.
    pub missing: i64,
    /// When it last moved on, RFC 3339.
    pub at: String,
}

/// The progress of each continuous reconciliation.
///
/// # Errors
/// When the server is away.
pub async fn progress(connection: &mut Session) -> Result<Vec<ReconcileProgress>, sqlx::Error> {
    sqlx::query_as(
        "select forwarder, checked, missing,
                to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as at
         from outbox.reconciled order by forwarder",
    )
    .fetch_all(connection)
    .await
}
