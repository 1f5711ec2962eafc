//! How much of the log waits to be read: what re-drive and backfill give way to, and what shows that no process reads.

use crate::session::Session;
use std::time::Duration;

use serde::Serialize;
use sqlx::FromRow;

/// The entries that the slowest of `readers` has not handed over yet; counting stops at `limit` for each.
///
/// # Errors
/// When the server is away.
pub async fn unread(connection: &mut Session, readers: &[String], limit: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(max(waiting.count), 0)
         from (select distinct on (r.reader) r.s from outbox.rounds r where r.reader = any ($2)
               order by r.reader, r.n desc) head
         cross join lateral (
             select count(*) from (
                 select from outbox.entries e
                 where e.xid >= pg_snapshot_xmin(head.s) and not pg_visible_in_snapshot(e.xid, head.s)
                 limit $1) entry) waiting",
    )
    .bind(limit)
    .bind(readers)
    .fetch_one(connection)
    .await
}

/// Readers that have something to read and whose last row is older than this, each with its age in seconds.
///
/// # Errors
/// When the server is away.
pub async fn stalled(
    connection: &mut Session,
    older_than: Duration,
) -> Result<Vec<(String, f64)>, sqlx::Error> {
    sqlx::query_as(
        "select head.reader, extract(epoch from clock_timestamp() - head.at)::float8
         from (select distinct on (r.reader) r.reader, r.at, r.s from outbox.rounds r order by r.reader, r.n desc) head
         where head.at < clock_timestamp() - $1 * interval '1 second'
           and exists (select from outbox.entries e
                       where e.xid >= pg_snapshot_xmin(head.s) and not pg_visible_in_snapshot(e.xid, head.s))
         order by head.reader",
    )
    .bind(older_than.as_secs_f64())
    .fetch_all(connection)
    .await
}

/// Where one reader of the log stands.
#[derive(Debug, Clone, PartialEq, Serialize, FromRow)]
pub struct ReaderBacklog {
    /// Its name.
    pub reader: String,
    /// Entries that it has not handed over; counting stops at the limit.
    pub unread: i64,
    /// Its last stored position; `None` when it has never read.
    pub round: Option<i64>,
    /// How often it has begun again.
    pub generation: Option<i32>,
    /// Age of its last stored position.
    pub round_age_seconds: Option<f64>,
    /// Who reads for it now.
    pub leader: Option<String>,
}

/// Where these readers stand; one that has never read has everything before it.
///
/// # Errors
/// When the server is away.
pub async fn backlogs(
    connection: &mut Session,
    readers: &[String],
    limit: i64,
) -> Result<Vec<ReaderBacklog>, sqlx::Error> {
    sqlx::query_as(
        "select w.reader,
                (select count(*) from (
                     select from outbox.entries e
                     where h.n is null
                        or e.xid >= pg_snapshot_xmin(h.s) and not pg_visible_in_snapshot(e.xid, h.s)
                     limit $2) unread) as unread,
                h.n as round, h.generation,
                extract(epoch from clock_timestamp() - h.at)::float8 as round_age_seconds,
                (select l.holder from outbox.leases l
                 where l.name = w.reader and l.expires_at > clock_timestamp()) as leader
         from unnest($1::text[]) with ordinality w (reader, place)
         left join lateral (
             select * from outbox.rounds r where r.reader = w.reader order by r.n desc limit 1) h on true
         order by w.place",
    )
    .bind(readers)
    .bind(limit)
    .fetch_all(connection)
    .await
}
