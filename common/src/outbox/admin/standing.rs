//! How far everything has come, as far as the source alone knows it: what a page can show that asks no broker. One documented function
//! per statement.

use serde::Serialize;
use sqlx::FromRow;
use time::OffsetDateTime;

use crate::{outbox::reader::rounds::STREAM_READER, session::Session};

/// All readers that have ever read; the stream's where none has.
///
/// # Errors
/// When the server is away.
pub async fn readers(connection: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    let found: Vec<String> = sqlx::query_scalar("select distinct reader from outbox.rounds order by reader")
        .fetch_all(connection)
        .await?;
    Ok(if found.is_empty() { vec![STREAM_READER.to_owned()] } else { found })
}

/// How long ago the oldest event happened, in seconds, that a reader has not handed over; `None` when it has handed over everything, or
/// no event says when it happened. It is looked for among the first `limit` of them, by the time that the application has given it: a
/// backfill enters old ones.
///
/// # Errors
/// When the server is away.
pub async fn oldest_unread(
    connection: &mut Session,
    reader: &str,
    limit: i64,
) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar(
        "select extract(epoch from clock_timestamp() - min(unread.occurred_at))::float8
         from (select e.occurred_at
               from (select coalesce((select r.s from outbox.rounds r where r.reader = $1 order by r.n desc limit 1),
                                     '3:3:'::pg_snapshot) as s offset 0) h
               join outbox.entries e
                 on e.xid >= pg_snapshot_xmin(h.s) and not pg_visible_in_snapshot(e.xid, h.s)
               where isfinite(e.occurred_at)
               limit $2) unread",
    )
    .bind(reader)
    .bind(limit)
    .fetch_one(connection)
    .await
}

/// How far the stream has been written, and how far every durable has settled it.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct StreamStanding {
    /// The reader that writes it.
    pub reader: String,
    /// Everything that was handed over lies at or below this sequence.
    pub published_up_to: i64,
    /// Everything at or below this sequence is settled by every durable; `None` when the leader has not looked since the stream was
    /// made or written again.
    pub settled_up_to: Option<i64>,
    /// How many sequences lie in between; those of messages that were deleted by hand are among them.
    pub pending: Option<i64>,
    /// How long ago the leader looked, in seconds.
    pub settled_age_seconds: Option<f64>,
}

/// Where each reader with a stream stands.
///
/// # Errors
/// When the server is away.
pub async fn streams(connection: &mut Session) -> Result<Vec<StreamStanding>, sqlx::Error> {
    sqlx::query_as(
        "select h.reader, h.stream_seq as published_up_to, k.stream_seq as settled_up_to,
                case when k.stream_seq is not null then greatest(h.stream_seq - k.stream_seq, 0) end as pending,
                extract(epoch from clock_timestamp() - k.at)::float8 as settled_age_seconds
         from (select distinct on (r.reader) r.reader, r.generation, r.stream_created, r.stream_seq
               from outbox.rounds r order by r.reader, r.n desc) h
         left join outbox.settled k
                on k.reader = h.reader and k.generation = h.generation and k.stream_created = h.stream_created
         where h.stream_seq is not null
         order by h.reader",
    )
    .fetch_all(connection)
    .await
}

/// How far the stream was written at the end of each minute in which something was, over the last `minutes`, oldest first. Rows behind
/// the head are thinned to one a minute.
///
/// # Errors
/// When the server is away.
pub async fn published_by_minute(
    connection: &mut Session,
    reader: &str,
    minutes: i32,
) -> Result<Vec<(OffsetDateTime, i64)>, sqlx::Error> {
    sqlx::query_as(
        "select date_trunc('minute', r.at, 'UTC') as minute, max(r.stream_seq)
         from (select h.stream_created as created from outbox.rounds h
               where h.reader = $1 order by h.n desc limit 1) h
         join outbox.rounds r on r.reader = $1 and r.stream_created = h.created
         where r.at >= clock_timestamp() - $2 * interval '1 minute'
         group by minute order by minute",
    )
    .bind(reader)
    .bind(minutes)
    .fetch_all(connection)
    .await
}

/// What the log holds.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct LogStanding {
    /// With its index, in bytes.
    pub bytes: i64,
    /// How long ago it was last pruned, in seconds; `None` when it never was.
    pub pruned_age_seconds: Option<f64>,
    /// Entries of transactions up to this one may be gone.
    pub pruned_to: Option<String>,
}

/// What the log holds.
///
/// # Errors
/// When the server is away.
pub async fn log(connection: &mut Session) -> Result<LogStanding, sqlx::Error> {
    sqlx::query_as(
        "select pg_total_relation_size('outbox.entries') as bytes,
                extract(epoch from clock_timestamp() - h.pruned_at)::float8 as pruned_age_seconds,
                h.pruned_to::text as pruned_to
         from (select) one left join outbox.horizon h on true",
    )
    .fetch_one(connection)
    .await
}

/// A forwarder that was ever delivered to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct KnownForwarder {
    /// Its id.
    pub forwarder: String,
    /// Whether an operator has dropped it.
    pub is_dropped: bool,
}

/// The forwarders that were ever delivered to.
///
/// # Errors
/// When the server is away.
pub async fn forwarders(connection: &mut Session) -> Result<Vec<KnownForwarder>, sqlx::Error> {
    sqlx::query_as(
        "select forwarder, dropped_at is not null as is_dropped from outbox.forwarders order by forwarder",
    )
    .fetch_all(connection)
    .await
}
