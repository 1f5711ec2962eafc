//! Draining a backlog: into the stream, from there into the timeline, and both at once.

use std::time::{Duration, Instant};

use sandbox::process::Process;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Bench, SEED, SEED_OF_JOBS, limits, operate};
use crate::{
    build::Build,
    environment::{Databases, STREAM},
    meter::{self, Meter},
    peers::Peer,
    results::Sample,
    verify,
};

/// How long a process may take to stop.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The relay beside raw publishing, then the projection beside one statement.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    let source = bench.environment.source_like(SEED).await?;
    let ids = ids(&source).await?;
    bench.environment.drop(&[&source]).await?;
    bench.keep(limits::publish(bench.environment, &ids, "limit", repeat).await?).await?;
    for build in bench.builds.clone() {
        relay_and_project(bench, &build, repeat).await?;
    }
    bench.keep(limits::publish(bench.environment, &ids, "limit again", repeat).await?).await?;
    Ok(())
}

async fn relay_and_project(bench: &mut Bench<'_>, build: &Build, repeat: u32) -> anyhow::Result<()> {
    let source = bench.environment.source_like(&build.template(SEED)).await?;
    bench.environment.restart_broker().await?;
    let relayed = relay(bench, build, &source, repeat).await?;
    bench.keep(relayed).await?;
    if !build.is_earlier() {
        bench.keep(limits::insert_select(bench, "limit", repeat).await?).await?;
    }
    for consumers in if build.is_earlier() { &[2][..] } else { &[2, 1, 4] } {
        let projected = project(bench, build, &source, *consumers, repeat).await?;
        bench.keep(projected).await?;
    }
    if !build.is_earlier() {
        bench.keep(limits::insert_select(bench, "limit again", repeat).await?).await?;
    }
    bench.environment.delete_stream(STREAM).await;
    bench.environment.drop(&[&source]).await
}

async fn ids(source: &str) -> anyhow::Result<Vec<Uuid>> {
    let mut connection = PgConnection::connect(source).await?;
    let ids = sqlx::query_scalar("select audit_event_id from outbox.entries order by xid, seq")
        .fetch_all(&mut connection)
        .await?;
    connection.close().await?;
    Ok(ids)
}

async fn relay(bench: &Bench<'_>, build: &Build, source: &str, repeat: u32) -> anyhow::Result<Sample> {
    let databases = Databases { source: source.to_owned(), timeline: String::new() };
    let mut meter = Meter::begin(bench.environment).await?;
    let mut publisher = bench.environment.start(build, "publisher", "publisher", &databases)?;
    meter.watch("publisher", publisher.id());
    let seconds = bench.environment.published(&databases).await?;
    let mut sample = meter.end("relay", build.variant(), repeat).await?;
    sample.seconds = seconds;
    publisher.terminate(STOP_DEADLINE)?;
    // That nothing is missing shows where the projection is compared with the source.
    sample.rows = bench.plan.rows;
    sample.dead_tuples = Some(meter::outbox_dead_tuples(source).await?);
    Ok(sample)
}

async fn project(
    bench: &Bench<'_>,
    build: &Build,
    source: &str,
    consumers: u32,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let databases =
        Databases { source: source.to_owned(), timeline: bench.environment.timeline(build).await? };
    let mut meter = Meter::begin(bench.environment).await?;
    let mut running = start_consumers(bench, build, &mut meter, &databases, consumers)?;
    let seconds = bench.environment.settled(&databases).await?;
    let plural = if consumers == 1 { "" } else { "s" };
    let variant =
        if build.is_earlier() { build.variant().to_owned() } else { format!("{consumers} consumer{plural}") };
    let mut sample = meter.end("projection", &variant, repeat).await?;
    sample.seconds = seconds;
    stop_all(&mut running)?;
    verify::verify(&mut sample, source, &databases.timeline).await?;
    bench.environment.delete_durable().await?;
    bench.environment.drop(&[&databases.timeline]).await?;
    Ok(sample)
}

fn start_consumers(
    bench: &Bench<'_>,
    build: &Build,
    meter: &mut Meter,
    databases: &Databases,
    consumers: u32,
) -> anyhow::Result<Vec<Process>> {
    let mut running = Vec::new();
    for number in 1..=consumers {
        let name = format!("consumer-{number}");
        let consumer = bench.environment.start(build, &name, "consumer", databases)?;
        meter.watch("consumer", consumer.id());
        running.push(consumer);
    }
    Ok(running)
}

fn stop_all(processes: &mut [Process]) -> anyhow::Result<()> {
    for process in processes {
        process.terminate(STOP_DEADLINE)?;
    }
    Ok(())
}

/// One publisher and one consumer on the backlog, then the peers.
pub(super) async fn end_to_end(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    for build in bench.builds.clone() {
        bench.environment.restart_broker().await?;
        let databases = bench.environment.databases(&build, SEED).await?;
        let sample = drain_end_to_end(bench, &build, &databases, repeat).await?;
        bench.keep(sample).await?;
        operate::take(bench, &build, &databases, repeat).await?;
        bench.environment.drop(&[&databases.source, &databases.timeline]).await?;
    }
    for peer in Peer::QUEUES {
        let sample = drain_by_peer(bench, peer, repeat).await?;
        bench.keep(sample).await?;
    }
    Ok(())
}

async fn drain_end_to_end(
    bench: &Bench<'_>,
    build: &Build,
    databases: &Databases,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let mut meter = Meter::begin(bench.environment).await?;
    let publisher = bench.environment.start(build, "publisher", "publisher", databases)?;
    meter.watch("publisher", publisher.id());
    let mut running = vec![publisher];
    running.append(&mut start_consumers(bench, build, &mut meter, databases, 1)?);
    bench.environment.publishing().await?;
    let begun = Instant::now();
    bench.environment.settled(databases).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut sample = meter.end("end to end", build.variant(), repeat).await?;
    sample.seconds = seconds;
    stop_all(&mut running)?;
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    sample.dead_tuples = Some(meter::outbox_dead_tuples(&databases.source).await?);
    Ok(sample)
}

async fn drain_by_peer(bench: &Bench<'_>, peer: Peer, repeat: u32) -> anyhow::Result<Sample> {
    let seed = if peer.batches() { SEED } else { SEED_OF_JOBS };
    let databases = bench.environment.databases(&Build::current(), seed).await?;
    peer.prepare(&databases.source).await?;
    peer.enqueue_all(&databases.source).await?;
    let mut meter = Meter::begin(bench.environment).await?;
    let mut worker = start_peer(bench, peer, &databases)?;
    meter.watch(peer.name(), worker.id());
    let rows = if peer.batches() { bench.plan.rows } else { bench.plan.jobs };
    let seconds = bench.environment.arrived(&databases, rows).await?;
    let variant = if peer.batches() { format!("{} (batches)", peer.name()) } else { peer.name().to_owned() };
    let mut sample = meter.end("end to end", &variant, repeat).await?;
    sample.seconds = seconds;
    worker.terminate(STOP_DEADLINE)?;
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    sample.dead_tuples = Some(peer.dead_tuples(&databases.source).await?);
    bench.environment.drop(&[&databases.source, &databases.timeline]).await?;
    Ok(sample)
}

/// Starts this program again, as a peer's worker.
pub(super) fn start_peer(bench: &Bench<'_>, peer: Peer, databases: &Databases) -> anyhow::Result<Process> {
    let word = peer.word();
    let arguments = ["peer", &word, "--source", &databases.source, "--timeline", &databases.timeline];
    Process::start(&bench.environment.sandbox.work_dir, &word, "bench", &arguments, &[])
}
