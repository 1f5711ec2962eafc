//! A write transaction is held open throughout: what happens to everybody else's rows.

use std::time::Duration;

use sandbox::{audit, audit::AuditRow, fixture, process::Process};
use sqlx::{Connection as _, Executor as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    Bench,
    drain::{STOP_DEADLINE, start_peer},
    steady::WRITERS,
};
use crate::{
    build::Build,
    environment::{Databases, STREAM},
    meter::Meter,
    peers::Peer,
    results::Sample,
    rows::{Shape, Writers},
    verify,
};

/// Rows a second.
const RATE: u32 = 1_000;

/// How long rows may take to arrive before they count as held up: far longer than anything that moves takes.
const ARRIVE_WITHIN: Duration = Duration::from_secs(3);

/// Ours, and two readers written for the comparison.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    for (name, peer) in
        [("pipeline", None), ("fenced reader", Some(Peer::Fenced)), ("skip locked", Some(Peer::SkipLocked))]
    {
        for held in [false, true] {
            let variant = format!("{name}, {}", if held { "held" } else { "free" });
            let sample = measure(bench, peer, held, &variant, repeat).await?;
            bench.keep(sample).await?;
        }
    }
    Ok(())
}

async fn measure(
    bench: &Bench<'_>,
    peer: Option<Peer>,
    held: bool,
    variant: &str,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let databases = bench.environment.databases(&Build::current(), "empty_source").await?;
    let mut meter = Meter::begin(bench.environment).await?;
    let mut running = start(bench, &mut meter, peer, &databases).await?;
    let writers = Writers { count: WRITERS, shape: Shape::Single, rate: Some(RATE) };
    let (before, _) = writers.write(&databases.source, bench.plan.warm_up).await?;
    super::steady::arrived(&databases, before).await?;

    let mut holder = PgConnection::connect(&databases.source).await?;
    if held {
        holder.execute("begin").await?;
        audit::insert(&mut holder, &fixture::audit_events(), &[AuditRow::sample("bench.held")]).await?;
    }
    meter.restart().await?;
    let since = OffsetDateTime::now_utc();
    let begun = Instant::now();
    let (written, _) = writers.write(&databases.source, bench.plan.held).await?;
    let arrived = await_rows(&databases, before, written).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut sample = meter.end("held transaction", variant, repeat).await?;
    sample.latency = verify::latency(&databases.source, &databases.timeline, since).await?;
    sample.dead_tuples = match peer {
        None => Some(crate::meter::outbox_dead_tuples(&databases.source).await?),
        Some(peer) => Some(peer.dead_tuples(&databases.source).await?),
    };
    if held {
        holder.execute("rollback").await?;
    }
    holder.close().await?;
    super::steady::arrived(&databases, before + written).await?;
    for process in &mut running {
        process.terminate(STOP_DEADLINE)?;
    }
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    (sample.rows, sample.seconds) = (arrived, seconds);
    bench.environment.delete_stream(STREAM).await;
    bench.environment.drop(&[&databases.source, &databases.timeline]).await?;
    Ok(sample)
}

async fn start(
    bench: &Bench<'_>,
    meter: &mut Meter,
    peer: Option<Peer>,
    databases: &Databases,
) -> anyhow::Result<Vec<Process>> {
    let Some(peer) = peer else {
        let publisher = bench.environment.start(&Build::current(), "publisher", "publisher", databases)?;
        let consumer = bench.environment.start(&Build::current(), "consumer-1", "consumer", databases)?;
        meter.watch("publisher", publisher.id());
        meter.watch("consumer", consumer.id());
        return Ok(vec![publisher, consumer]);
    };
    peer.prepare(&databases.source).await?;
    peer.attach(&databases.source).await?;
    let worker = start_peer(bench, peer, databases)?;
    meter.watch(peer.name(), worker.id());
    Ok(vec![worker])
}

/// Waits until all rows have arrived, but not for those that are held up; returns how many have.
async fn await_rows(databases: &Databases, before: u64, written: u64) -> anyhow::Result<u64> {
    let mut connection = PgConnection::connect(&databases.timeline).await?;
    let begun = Instant::now();
    let arrived = loop {
        let count: i64 =
            sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut connection).await?;
        let arrived = count.cast_unsigned().saturating_sub(before);
        if arrived >= written || begun.elapsed() > ARRIVE_WITHIN {
            break arrived;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    connection.close().await?;
    Ok(arrived)
}
