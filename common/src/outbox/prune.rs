//! Removing entries that every forwarder is past. Only from the head of the log, in batches, never by age alone.

use std::time::Duration;

use sqlx::PgConnection;

use super::rounds::StreamPosition;

/// How many entries one statement removes: short enough to hold no lock for long.
const BATCH_ROWS: i64 = 5_000;

/// The first transaction id that must stay: every reader's newest mark that is older than `retention` and, for a
/// reader with a broker, at or below `floor` (the lowest position that every durable has settled).
///
/// Answers `None` when some reader has no such mark.
///
/// # Errors
/// When the server is away.
pub async fn horizon(
    connection: &mut PgConnection,
    floor: Option<StreamPosition>,
    retention: Duration,
) -> Result<Option<u64>, sqlx::Error> {
    let xmin: Option<String> = sqlx::query_scalar(
        "select case when bool_and(m.xmin is not null) then (array_agg(m.xmin order by m.xmin))[1]::text end
         from (select distinct reader from outbox.rounds) d
         left join lateral (
             select pg_snapshot_xmin(r.s) as xmin
             from outbox.rounds r
             where r.reader = d.reader
               and r.at < clock_timestamp() - $1 * interval '1 second'
               and (r.stream_seq is null or r.stream_created = $2 and r.stream_seq <= $3)
             order by r.n desc limit 1) m on true",
    )
    .bind(retention.as_secs_f64())
    .bind(floor.map(|floor| floor.created))
    .bind(floor.map(|floor| floor.sequence.cast_signed()))
    .fetch_one(connection)
    .await?;
    xmin.map(|xmin| xmin.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).transpose()
}

/// Removes the oldest entries below `horizon`, one batch; answers how many went. Zero means done.
///
/// # Errors
/// When the server is away.
pub async fn batch(connection: &mut PgConnection, horizon: u64) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "with gone as (
             delete from outbox.entries where ctid = any (array(
                 select e.ctid from outbox.entries e where e.xid < $1::text::xid8 order by e.xid, e.seq limit $2))
             returning 1),
         noted as (
             insert into outbox.horizon as h (pruned_to)
             select $1::text::xid8 where exists (select from gone)
             on conflict (singleton) do update
             set pruned_to = greatest(h.pruned_to, excluded.pruned_to), pruned_at = clock_timestamp())
         select from gone",
    )
    .bind(horizon.to_string())
    .bind(BATCH_ROWS)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
