//! Removing entries that every reader has read and settled. Only from the head of the log, in batches, never by age alone.

use crate::session::Session;
use std::time::Duration;

use time::OffsetDateTime;

use crate::outbox::reader::{
    rounds::{Position, StreamPosition},
    snapshot::Snapshot,
};

/// How many entries one statement removes: short enough to hold no lock for long.
const BATCH_ROWS: i64 = 5_000;

/// What every reader is past: entries that are visible in all of these snapshots may go.
///
/// A snapshot and not a transaction id, so that a transaction held open while a mark was written keeps nothing but its
/// own entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    snapshots: Vec<Snapshot>,
    /// Up to where the stream's reader had been acknowledged then: no later message is of anything that is pruned.
    acknowledged: Option<StreamPosition>,
}

/// Each reader's newest mark that is older than `retention` and, for a reader with a broker, at or below `floor` (the
/// lowest position that every durable has settled).
///
/// Returns `None` when some reader has no such mark.
///
/// # Errors
/// When the server is away.
pub async fn horizon(
    connection: &mut Session,
    floor: Option<StreamPosition>,
    retention: Duration,
) -> Result<Option<Horizon>, sqlx::Error> {
    let marks: Vec<(Option<String>, Option<OffsetDateTime>, Option<i64>)> = sqlx::query_as(
        "select m.s, m.stream_created, m.stream_seq
         from (select distinct reader from outbox.rounds) d
         left join lateral (
             select r.s::text, r.stream_created, r.stream_seq
             from outbox.rounds r
             where r.reader = d.reader
               and r.at < clock_timestamp() - $1 * interval '1 second'
               and (r.stream_seq is null or r.stream_created = $2 and r.stream_seq <= $3)
             order by r.n desc limit 1) m on true",
    )
    .bind(retention.as_secs_f64())
    .bind(floor.map(|floor| floor.created))
    .bind(floor.map(|floor| floor.sequence.cast_signed()))
    .fetch_all(connection)
    .await?;
    let mut acknowledged = None;
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for (mark, created, sequence) in marks {
        let Some(mark) = mark else {
            return Ok(None);
        };
        snapshots.push(mark.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?);
        let position =
            |(created, sequence): (_, i64)| StreamPosition { created, sequence: sequence.cast_unsigned() };
        acknowledged = acknowledged.or(created.zip(sequence).map(position));
    }
    Ok((!snapshots.is_empty()).then_some(Horizon { snapshots, acknowledged }))
}

/// What one batch removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many entries.
    pub entries: u64,
    /// The last of them: where the next batch continues. `None` when there was nothing to remove.
    pub last: Option<Position>,
}

/// Removes the oldest entries behind the horizon, one batch. `after` is where the last one ended: beginning again, each
/// batch would pass over everything that is removed and, under an old transaction, still there.
///
/// # Errors
/// When the server is away.
pub async fn batch(
    connection: &mut Session,
    horizon: &Horizon,
    after: Option<Position>,
) -> Result<Pruned, sqlx::Error> {
    let snapshots: Vec<&str> = horizon.snapshots.iter().map(Snapshot::as_str).collect();
    let end = horizon.snapshots.iter().map(Snapshot::xmax).min().unwrap_or_default();
    let after = after.unwrap_or(Position { xid: 0, seq: -1 });
    let (entries, xid, seq): (i64, Option<String>, Option<i64>) = sqlx::query_as(
        "with gone as (
             delete from outbox.entries where ctid = any (array(
                 select e.ctid from outbox.entries e
                 where (e.xid, e.seq) > ($4::text::xid8, $5)
                   and e.xid < $2::text::xid8
                   and not exists (select from unnest($1::pg_snapshot[]) s where not pg_visible_in_snapshot(e.xid, s))
                 order by e.xid, e.seq limit $3))
             returning xid, seq),
         last as (select g.xid, g.seq from gone g order by g.xid desc, g.seq desc limit 1),
         noted as (
             insert into outbox.horizon as h (pruned_to, stream_created, stream_seq) select l.xid, $6, $7 from last l
             on conflict (singleton) do update
             set pruned_to = greatest(h.pruned_to, excluded.pruned_to), pruned_at = clock_timestamp(),
                 stream_created = excluded.stream_created, stream_seq = excluded.stream_seq)
         select (select count(*) from gone), (select l.xid::text from last l), (select l.seq from last l)",
    )
    .bind(snapshots)
    .bind(end.to_string())
    .bind(BATCH_ROWS)
    .bind(after.xid.to_string())
    .bind(after.seq)
    .bind(horizon.acknowledged.map(|position| position.created))
    .bind(horizon.acknowledged.map(|position| position.sequence.cast_signed()))
    .fetch_one(connection)
    .await?;
    let last = match xid.zip(seq) {
        Some((xid, seq)) => {
            Some(Position { xid: xid.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?, seq })
        }
        None => None,
    };
    Ok(Pruned { entries: entries.cast_unsigned(), last })
}
