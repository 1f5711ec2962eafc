//! What the log knows of events whose audit row is gone. One documented function per statement.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{identifier::ForwarderId, outbox::reader::rounds::STREAM_READER, session::Session};

/// What the log knows of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogHistory {
    /// Its entry is there, and this forwarder may still be owed it.
    Owed,
    /// All forwarders had settled it, or it is from before this forwarder: its row may have been deleted.
    Settled,
    /// The log has no entry of it, and has pruned none that its message could be of.
    Unknown,
}

/// A message of the stream.
#[derive(Debug, Clone, Copy)]
pub struct PublishedMessage {
    /// The event that it names.
    pub event: Uuid,
    /// Where it stands.
    pub sequence: u64,
    /// When the broker stored it.
    pub at: Option<OffsetDateTime>,
}

/// What the log knows of the events of these messages of the stream that was `created` then.
///
/// An entry lies between the marks around its message: behind the last one below it, whose snapshot does not see it yet, and
/// before the first one at or above it. So only that part of the log is looked through, which has no index by event.
///
/// # Errors
/// When the server is away.
pub async fn of_messages(
    connection: &mut Session,
    forwarder: &ForwarderId,
    created: OffsetDateTime,
    messages: &[PublishedMessage],
) -> Result<HashMap<Uuid, LogHistory>, sqlx::Error> {
    let rows: Vec<(Uuid, Option<bool>, bool)> = sqlx::query_as(
        "with asked as (select * from unnest($3::uuid[], $4::bigint[], $5::timestamptz[]) a (id, seq, published)),
         bounds as (
             select (select pg_snapshot_xmin(r.s) from outbox.rounds r
                     where r.reader = $6 and r.stream_created = $2 and r.stream_seq < (select min(a.seq) from asked a)
                     order by r.n desc limit 1) as from_xid,
                    (select pg_snapshot_xmax(r.t) from outbox.rounds r
                     where r.reader = $6 and r.stream_created = $2 and r.stream_seq >= (select max(a.seq) from asked a)
                     order by r.n limit 1) as to_xid,
                    (select f.since from outbox.forwarders f where f.forwarder = $1) as since,
                    (select k.ever from outbox.settled k where k.reader = $6) as ever),
         found as (
             select e.audit_event_id as id,
                    bool_and(coalesce(pg_visible_in_snapshot(e.xid, b.since), false)
                             or coalesce(pg_visible_in_snapshot(e.xid, b.ever), false)) as settled
             from bounds b, outbox.entries e
             where e.xid >= coalesce(b.from_xid, '0'::xid8) and (b.to_xid is null or e.xid < b.to_xid)
               and e.audit_event_id = any ($3) and (e.forwarder is null or e.forwarder = $1)
             group by e.audit_event_id)
         select a.id, f.settled,
                exists (select from outbox.horizon h
                        where h.stream_created = $2 and h.stream_seq >= a.seq
                           -- Pruned before it was noted how far.
                           or h.stream_created is null and h.pruned_at >= a.published
                           -- A restored stream, which newer servers take for a new one, holds messages older than itself.
                           or h.stream_created <> $2 and a.published < $2 and h.pruned_at >= a.published)
         from asked a left join found f on f.id = a.id",
    )
    .bind(forwarder.as_str())
    .bind(created)
    .bind(messages.iter().map(|message| message.event).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.sequence.cast_signed()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.at).collect::<Vec<_>>())
    .bind(STREAM_READER)
    .fetch_all(connection)
    .await?;
    let history = |settled, pruned| match (settled, pruned) {
        (Some(true), _) | (None, true) => LogHistory::Settled,
        (Some(false), _) => LogHistory::Owed,
        (None, false) => LogHistory::Unknown,
    };
    Ok(rows.into_iter().map(|(event, settled, pruned)| (event, history(settled, pruned))).collect())
}

/// The same for given entries, by their transaction ids.
///
/// # Errors
/// When the server is away.
pub async fn of_entries(
    connection: &mut Session,
    forwarder: &ForwarderId,
    entries: &[(Uuid, u64)],
) -> Result<HashMap<Uuid, LogHistory>, sqlx::Error> {
    let rows: Vec<(Uuid, bool)> = sqlx::query_as(
        "select a.id, bool_and(coalesce(pg_visible_in_snapshot(a.xid::xid8, f.since), false))
         from unnest($2::uuid[], $3::text[]) a (id, xid)
         left join outbox.forwarders f on f.forwarder = $1
         group by a.id",
    )
    .bind(forwarder.as_str())
    .bind(entries.iter().map(|(event, _)| *event).collect::<Vec<_>>())
    .bind(entries.iter().map(|(_, xid)| xid.to_string()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let history = |settled| if settled { LogHistory::Settled } else { LogHistory::Owed };
    Ok(rows.into_iter().map(|(event, settled)| (event, history(settled))).collect())
}
