//! `outbox.rounds`: the cursor of each reader. One documented function per statement.

use crate::session::Session;
use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::Snapshot;

/// The reader that hands the log to the stream: its name here and in `outbox.leases`.
pub const STREAM_READER: &str = "jetstream";

/// A place in a stream, on one creation of it: a recreated stream counts from 1 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPosition {
    /// When the stream was created, to the microsecond.
    pub created: OffsetDateTime,
    /// A sequence of it.
    pub sequence: u64,
}

/// A place in a stream, with what it holds: a stream that lost its end and grew again holds something else there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPosition {
    /// The place in the stream.
    pub position: StreamPosition,
    /// The event that the message there names.
    pub event: Option<Uuid>,
}

/// A place inside a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Transaction id.
    pub xid: u64,
    /// Entry within all entries.
    pub seq: i64,
}

/// One row: read what is visible in `t` and was not visible in `s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Whose position.
    pub reader: String,
    /// Counts up; with the reader it is the fence.
    pub number: i64,
    /// Everything visible in it has been handed over.
    pub from: Snapshot,
    /// The goal; equal to `s` in a closing row.
    pub to: Snapshot,
    /// How far a long round had come.
    pub resume_after: Option<Position>,
    /// Raised when entries are sent again on purpose.
    pub generation: i32,
    /// The cluster the snapshots belong to.
    pub system_identifier: i64,
    /// The mark: everything visible in `s` was acknowledged by the broker at or below this.
    pub mark: Option<PublishedPosition>,
}

impl Round {
    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.from == self.to
    }
}

/// What became of an attempt to write the next row.
#[derive(Debug)]
pub enum Append {
    /// It is written, by this process.
    Written(Round),
    /// Nothing is unread.
    NothingUnread,
    /// Another relay wrote it first, or the row it should follow is gone (a fail-over to a server that never had it):
    /// forget everything in memory and read [`head`] again.
    Fenced,
}

const COLUMNS: &str = "reader, n, s::text, t::text, after_xid::text, after_seq, generation, system_identifier, \
                       stream_created, stream_seq, stream_event";

/// The reader's last row, or a first one: nothing visible, nothing read.
///
/// # Errors
/// When the server is away.
pub async fn head(
    connection: &mut Session,
    reader: &str,
    system_identifier: i64,
) -> Result<Round, sqlx::Error> {
    sqlx::query(
        "insert into outbox.rounds (reader, n, s, t, generation, system_identifier)
         select $1, 0, $2::text::pg_snapshot, $2::text::pg_snapshot, 0, $3
         where not exists (select from outbox.rounds where reader = $1)
         on conflict do nothing",
    )
    .bind(reader)
    .bind(Snapshot::EMPTY)
    .bind(system_identifier)
    .execute(&mut *connection)
    .await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from outbox.rounds where reader = $1 order by n desc limit 1"
    )))
    .bind(reader)
    .try_map(|row| decode(&row))
    .fetch_one(connection)
    .await
}

/// Every reader's last row.
///
/// # Errors
/// When the server is away.
pub async fn heads(connection: &mut Session) -> Result<Vec<Round>, sqlx::Error> {
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "select distinct on (reader) {COLUMNS} from outbox.rounds order by reader, n desc"
    )))
    .try_map(|row| decode(&row))
    .fetch_all(connection)
    .await
}

/// Takes the next round if anything is unread, in one statement: a probe that finds nothing writes nothing.
///
/// The row's commit flushes the log up to everything its `t` can see, so nothing is handed over that a crash of the
/// database could still take back, and the position stands in the same log as the rows: never ahead of them.
///
/// `refresh` takes a round even though nothing committed is unread, when transactions have begun since the last one:
/// their entries would otherwise be passed over again by every probe until they end.
///
/// # Errors
/// When the server is away.
pub async fn open(
    connection: &mut Session,
    finished: &Round,
    mark: Option<PublishedPosition>,
    refresh: bool,
) -> Result<Append, sqlx::Error> {
    let statement = format!(
        "insert into outbox.rounds (reader, n, s, t, generation, system_identifier, stream_created, stream_seq, stream_event)
         select h.reader, h.n + 1, h.t, pg_current_snapshot(), h.generation, h.system_identifier, $3, $4, $6
         from outbox.rounds h
         where h.reader = $1 and h.n = $2 and h.t::text = $7 and (
             -- The newest committed entry, from the end of the index down to what `t` had seen; without the order
             -- the test might be planned as a scan of the whole table.
             (select e.seq from outbox.entries e where e.xid >= pg_snapshot_xmax(h.t)
              order by e.xid desc, e.seq desc limit 1) is not null
             -- Late commits. Transactions that still run are not looked up: all their entries would be visited.
             or exists (
                 select from pg_snapshot_xip(h.t) x (xid)
                 where pg_visible_in_snapshot(x.xid, pg_current_snapshot())
                   and (select e.seq from outbox.entries e where e.xid = x.xid order by e.seq limit 1) is not null)
             or $5 and exists (
                 select from pg_snapshot_xip(pg_current_snapshot()) x (xid) where x.xid >= pg_snapshot_xmax(h.t)))
         returning {COLUMNS}"
    );
    let written = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(&finished.reader)
        .bind(finished.number)
        .bind(mark.map(|mark| mark.position.created))
        .bind(mark.map(|mark| mark.position.sequence.cast_signed()))
        .bind(refresh)
        .bind(mark.and_then(|mark| mark.event))
        .bind(finished.to.as_str())
        .try_map(|row| decode(&row))
        .fetch_optional(&mut *connection)
        .await;
    match written {
        Ok(Some(round)) => Ok(Append::Written(round)),
        // Looked at now and then only: it costs a round trip.
        Ok(None) if refresh && !exists(connection, finished).await? => Ok(Append::Fenced),
        Ok(None) => Ok(Append::NothingUnread),
        Err(error) if is_fence(&error) => Ok(Append::Fenced),
        Err(error) => Err(error),
    }
}

/// Whether this row is still the reader's, with these snapshots.
async fn exists(connection: &mut Session, round: &Round) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from outbox.rounds where reader = $1 and n = $2 and s::text = $3 and t::text = $4)",
    )
    .bind(&round.reader)
    .bind(round.number)
    .bind(round.from.as_str())
    .bind(round.to.as_str())
    .fetch_one(connection)
    .await
}

/// Writes the row `next` behind the stored row `after`: progress inside it (`s` unchanged), its closing row (`s = t`), or
/// a rewind.
///
/// # Errors
/// When the server is away.
pub async fn append(connection: &mut Session, previous: &Round, next: &Round) -> Result<Append, sqlx::Error> {
    let written = sqlx::query(
        "insert into outbox.rounds
             (reader, n, s, t, after_xid, after_seq, generation, system_identifier, stream_created, stream_seq,
              stream_event)
         select $1, $2, $3::text::pg_snapshot, $4::text::pg_snapshot, $5::text::xid8, $6, $7, $8, $9, $10, $12
         from outbox.rounds p
         where p.reader = $1 and p.n = $2 - 1 and p.t::text = $11",
    )
    .bind(&next.reader)
    .bind(next.number)
    .bind(next.from.as_str())
    .bind(next.to.as_str())
    .bind(next.resume_after.map(|after| after.xid.to_string()))
    .bind(next.resume_after.map(|after| after.seq))
    .bind(next.generation)
    .bind(next.system_identifier)
    .bind(next.mark.map(|mark| mark.position.created))
    .bind(next.mark.map(|mark| mark.position.sequence.cast_signed()))
    .bind(previous.to.as_str())
    .bind(next.mark.and_then(|mark| mark.event))
    .execute(connection)
    .await;
    match written {
        Ok(done) if done.rows_affected() == 1 => Ok(Append::Written(next.clone())),
        Ok(_) => Ok(Append::Fenced),
        Err(error) if is_fence(&error) => Ok(Append::Fenced),
        Err(error) => Err(error),
    }
}

/// The newest mark that is older than `age`: everything at or below this stream sequence was acknowledged before.
///
/// # Errors
/// When the server is away.
pub async fn acknowledged_before(
    connection: &mut Session,
    reader: &str,
    stream_created: OffsetDateTime,
    age: Duration,
) -> Result<Option<u64>, sqlx::Error> {
    let sequence: Option<i64> = sqlx::query_scalar(
        "select stream_seq from outbox.rounds
         where reader = $1 and stream_created = $2 and at < clock_timestamp() - $3 * interval '1 second'
         order by n desc limit 1",
    )
    .bind(reader)
    .bind(stream_created)
    .bind(age.as_secs_f64())
    .fetch_optional(connection)
    .await?;
    Ok(sequence.map(i64::cast_unsigned))
}

/// Thins the rows behind the head to one a minute, and drops those older than `keep`. Returns how many went; at most
/// `limit` a call.
///
/// # Errors
/// When the server is away.
pub async fn thin(
    connection: &mut Session,
    reader: &str,
    keep: Duration,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "delete from outbox.rounds where ctid = any (array(
             select r.ctid from outbox.rounds r
             where r.reader = $1
               and r.at < clock_timestamp() - interval '1 minute'
               and r.n < (select max(h.n) from outbox.rounds h where h.reader = $1)
               and (r.at < clock_timestamp() - $2 * interval '1 second'
                    or exists (select from outbox.rounds k
                               where k.reader = r.reader and k.n < r.n
                                 and k.at >= date_trunc('minute', r.at) and k.at <= r.at))
             order by r.at
             limit $3))",
    )
    .bind(reader)
    .bind(keep.as_secs_f64())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// How far the pipeline itself has trimmed a stream: the first sequence that it kept.
///
/// # Errors
/// When the server is away.
pub async fn trimmed_below(
    connection: &mut Session,
    stream_created: OffsetDateTime,
) -> Result<u64, sqlx::Error> {
    let kept: Option<i64> = sqlx::query_scalar("select kept_from from outbox.streams where created = $1")
        .bind(stream_created)
        .fetch_optional(connection)
        .await?;
    // A stream counts from 1. Earlier versions noted 0 for one that was empty.
    Ok(kept.map_or(1, i64::cast_unsigned).max(1))
}

/// Notes that a stream is about to be trimmed. Before it is: a note without a trim is harmless, a trim without a note
/// looks like a loss.
///
/// # Errors
/// When the server is away.
pub async fn record_trim(connection: &mut Session, kept: StreamPosition) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into outbox.streams as s (created, kept_from) values ($1, $2)
         on conflict (created) do update set kept_from = greatest(s.kept_from, excluded.kept_from)",
    )
    .bind(kept.created)
    .bind(kept.sequence.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

fn is_fence(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn decode(row: &PgRow) -> Result<Round, sqlx::Error> {
    let snapshot = |column: &str| -> Result<Snapshot, sqlx::Error> {
        row.try_get::<&str, _>(column)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
    };
    let xid: Option<&str> = row.try_get("after_xid")?;
    let seq: Option<i64> = row.try_get("after_seq")?;
    let created: Option<OffsetDateTime> = row.try_get("stream_created")?;
    let sequence: Option<i64> = row.try_get("stream_seq")?;
    let event: Option<Uuid> = row.try_get("stream_event")?;
    let resume_after = match xid.zip(seq) {
        Some((xid, seq)) => {
            Some(Position { xid: xid.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?, seq })
        }
        None => None,
    };
    Ok(Round {
        reader: row.try_get("reader")?,
        number: row.try_get("n")?,
        from: snapshot("s")?,
        to: snapshot("t")?,
        resume_after,
        generation: row.try_get("generation")?,
        system_identifier: row.try_get("system_identifier")?,
        mark: created.zip(sequence).map(|(created, sequence)| PublishedPosition {
            position: StreamPosition { created, sequence: sequence.cast_unsigned() },
            event,
        }),
    })
}
