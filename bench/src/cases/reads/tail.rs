//! Following the timeline: how long it takes from a commit to the entry.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use sqlx::{Connection as _, PgConnection};
use threadline::query::{Entry, Filter, Tail};
use tokio::time::{MissedTickBehavior, interval_at};

use super::{TAIL, reader, timing::Times};
use crate::cases::Bench;

/// Connections that write.
const WRITERS: u32 = 8;

/// Changes a second, by all of them.
const RATE: u32 = 1_000;

/// How long the last entries may take.
const ARRIVE_DEADLINE: Duration = Duration::from_secs(30);

/// Ids of rows, and when.
type Seen = Vec<(u64, Instant)>;

/// One row a transaction, at a steady rate.
pub(super) async fn take(bench: &mut Bench<'_>, url: &str, repeat: u32) -> anyhow::Result<()> {
    let (pool, reader) = reader(url).await?;
    let mut tail = reader.tail(&Filter::default()).await?;
    let begun = Instant::now();
    let time = bench.plan.warm_up + bench.plan.steady;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let connection = PgConnection::connect(url).await?;
        writers.push(tokio::spawn(write(connection, number, begun, begun + time)));
    }
    let (ended, has_ended) = tokio::sync::oneshot::channel::<u64>();
    let following = tokio::spawn(async move { follow(&mut tail, has_ended).await });
    let mut committed = Seen::new();
    for written in try_join_all(writers).await? {
        committed.extend(written?);
    }
    let _ = ended.send(committed.len() as u64);
    let seen: HashMap<u64, Instant> = following.await??.into_iter().collect();
    pool.close().await;
    let mut times = Times::default();
    for (id, at) in committed.iter().filter(|(_, at)| *at >= begun + bench.plan.warm_up) {
        // An entry may be handed over before its writer hears that it has committed.
        if let Some(seen) = seen.get(id) {
            times.add(seen.saturating_duration_since(*at));
        }
    }
    let mut sample = times.sample(TAIL, &format!("{RATE} changes a second"), repeat);
    sample.seconds = bench.plan.steady.as_secs_f64();
    if seen.len() != committed.len() {
        sample.void = Some(format!("{} changes committed, {} handed over", committed.len(), seen.len()));
    }
    bench.keep(sample).await
}

async fn write(
    mut connection: PgConnection,
    number: u32,
    begun: Instant,
    until: Instant,
) -> anyhow::Result<Seen> {
    let pace = Duration::from_secs(1) * WRITERS / RATE;
    let mut ticker = interval_at((begun + pace * number / WRITERS).into(), pace);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut committed = Seen::new();
    while Instant::now() < until {
        ticker.tick().await;
        let id = 1_000_000_000 * u64::from(number + 1) + committed.len() as u64;
        sqlx::query("insert into accounts (id, status) values ($1, 'active')")
            .bind(id.cast_signed())
            .execute(&mut connection)
            .await?;
        committed.push((id, Instant::now()));
    }
    connection.close().await?;
    Ok(committed)
}

/// Until as many entries were handed over as were committed in the end.
async fn follow(tail: &mut Tail, mut has_ended: tokio::sync::oneshot::Receiver<u64>) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    let mut expected: Option<(u64, Instant)> = None;
    loop {
        if let Ok(count) = has_ended.try_recv() {
            expected = Some((count, Instant::now()));
        }
        if expected.is_some_and(|(count, at)| seen.len() as u64 >= count || at.elapsed() > ARRIVE_DEADLINE) {
            return Ok(seen);
        }
        // Nothing may come any more: whether that is so is asked for again.
        let Ok(batch) = tokio::time::timeout(Duration::from_secs(1), tail.next()).await else { continue };
        let at = Instant::now();
        for entry in batch?.entries {
            if let Entry::Change(change) = entry {
                let digits: String = change.table_pk.get().chars().filter(char::is_ascii_digit).collect();
                seen.push((digits.parse()?, at));
            }
        }
    }
}
