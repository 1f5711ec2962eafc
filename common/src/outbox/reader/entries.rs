//! `outbox.entries`: reading what lies between two snapshots. One documented function per statement.
//!
//! Each statement takes its own short snapshot; no transaction stays open. A row is read when it is visible in `t`,
//! however many later ones have committed meanwhile.

use sqlx::{Row, postgres::PgRow};
use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

use super::{rounds::Position, snapshot::Snapshot};
use crate::{reference::Target, session::Session, time_arg::clamped};

/// One captured audit row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub position: Position,
    /// The audit row's id; `None` only when the source column allows it.
    pub audit_event_id: Option<Uuid>,
    /// RFC 3339 in UTC, microseconds, clamped to the years 1 to 9999.
    pub occurred_at: Option<String>,
    /// The one forwarder it is for; `None` for all.
    pub forwarder: Option<String>,
}

impl Entry {
    /// Which event it is about, and whom it is for. `None`, with a log line, for one that names nothing that could be
    /// delivered: the source column cannot be NULL where capture was attached, and only people write addresses by hand.
    #[must_use]
    pub fn addressed(&self) -> Option<(Uuid, Target)> {
        let Some(event) = self.audit_event_id else {
            tracing::error!(
                xid = self.position.xid,
                seq = self.position.seq,
                "an entry names no audit event"
            );
            return None;
        };
        let target = match self.forwarder.as_deref().map(str::parse) {
            None => Target::Every,
            Some(Ok(only)) => Target::Only(only),
            Some(Err(error)) => {
                tracing::error!(%event, %error, "an entry is addressed to something that is no forwarder id");
                return None;
            }
        };
        Some((event, target))
    }
}

/// A transaction that ran while the last round was taken and has entries visible now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateTransaction {
    /// Its id.
    pub xid: u64,
    /// How many entries; counting stops one above the page size.
    pub entries: usize,
}

/// Read by place.
fn entry() -> String {
    format!("e.xid::text, e.seq, e.audit_event_id, e.forwarder, {}", clamped("e.occurred_at"))
}

/// RFC 3339 with microseconds.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// The late transactions of the step from `s` to `t`, in order, from `from` on.
///
/// # Errors
/// When the server is away.
pub async fn late_transactions(
    connection: &mut Session,
    s: &Snapshot,
    t: &Snapshot,
    from: u64,
    page_rows: usize,
) -> Result<Vec<LateTransaction>, sqlx::Error> {
    sqlx::query(
        "select x.xid::text as xid, c.entries
         from pg_snapshot_xip($1::text::pg_snapshot) x (xid)
         cross join lateral (
             select count(*) as entries
             from (select from outbox.entries e where e.xid = x.xid order by e.seq limit $4) one) c
         where x.xid >= $3::text::xid8 and pg_visible_in_snapshot(x.xid, $2::text::pg_snapshot) and c.entries > 0
         order by x.xid",
    )
    .bind(s.as_str())
    .bind(t.as_str())
    .bind(from.to_string())
    .bind(count(page_rows).saturating_add(1))
    .try_map(|row: PgRow| {
        Ok(LateTransaction {
            xid: parse_xid(&row)?,
            entries: usize::try_from(row.try_get::<i64, _>("entries")?).unwrap_or(usize::MAX),
        })
    })
    .fetch_all(connection)
    .await
}

/// All entries of a few late transactions, whose entries fit one page together.
///
/// # Errors
/// When the server is away.
pub async fn of_transactions(
    connection: &mut Session,
    xids: &[u64],
    after: Position,
) -> Result<Vec<Entry>, sqlx::Error> {
    let xids: Vec<String> = xids.iter().map(u64::to_string).collect();
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {} from outbox.entries e
         where e.xid = any ($1::text[]::xid8[]) and (e.xid, e.seq) > ($2::text::xid8, $3)
         order by e.xid, e.seq",
        entry()
    )))
    .bind(xids)
    .bind(after.xid.to_string())
    .bind(after.seq)
    .try_map(|row| decode(&row))
    .fetch_all(connection)
    .await
}

/// The next page of one late transaction. One transaction at a time: paging over several is quadratic.
///
/// # Errors
/// When the server is away.
pub async fn of_transaction(
    connection: &mut Session,
    after: Position,
    page_rows: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {} from outbox.entries e
         where e.xid = $1::text::xid8 and e.seq > $2
         order by e.xid, e.seq limit $3",
        entry()
    )))
    .bind(after.xid.to_string())
    .bind(after.seq)
    .bind(count(page_rows))
    .try_map(|row| decode(&row))
    .fetch_all(connection)
    .await
}

/// The next page of the transactions that began after the last round.
///
/// `after` is the only lower bound: with a second one the index scan may start at the wrong one.
///
/// # Errors
/// When the server is away.
pub async fn tail(
    connection: &mut Session,
    t: &Snapshot,
    after: Position,
    page_rows: usize,
) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {} from outbox.entries e
         where (e.xid, e.seq) > ($2::text::xid8, $3)
           and e.xid < pg_snapshot_xmax($1::text::pg_snapshot)
           and pg_visible_in_snapshot(e.xid, (select $1::text::pg_snapshot))
         order by e.xid, e.seq limit $4",
        entry()
    )))
    .bind(t.as_str())
    .bind(after.xid.to_string())
    .bind(after.seq)
    .bind(count(page_rows))
    .try_map(|row| decode(&row))
    .fetch_all(connection)
    .await
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn parse_xid(row: &PgRow) -> Result<u64, sqlx::Error> {
    row.try_get::<&str, _>(0)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn decode(row: &PgRow) -> Result<Entry, sqlx::Error> {
    let occurred_at: Option<OffsetDateTime> = row.try_get(4)?;
    let occurred_at = occurred_at.map(|at| at.to_offset(UtcOffset::UTC).format(TIME)).transpose();
    Ok(Entry {
        position: Position { xid: parse_xid(row)?, seq: row.try_get(1)? },
        audit_event_id: row.try_get(2)?,
        forwarder: row.try_get(3)?,
        occurred_at: occurred_at.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
    })
}
