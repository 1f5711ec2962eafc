//! Half an hour of steady load: what grows.

use std::{fmt::Write as _, time::Duration};

use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::{drain::STOP_DEADLINE, say};
use crate::{
    build::Build,
    environment::Environment,
    meter::{self, Meter},
    rows::{Shape, Writers},
    verify,
};

/// Rows a second.
const RATE: u32 = 500;

/// Runs for so long; returns a Markdown table, one line a minute.
pub(crate) async fn run(
    environment: &Environment,
    minutes: u64,
    stop: &CancellationToken,
) -> anyhow::Result<String> {
    let databases = environment.databases(&Build::current(), "empty_source").await?;
    let mut meter = Meter::begin(environment).await?;
    let mut publisher = environment.start(&Build::current(), "publisher", "publisher", &databases)?;
    let mut consumer = environment.start(&Build::current(), "consumer-1", "consumer", &databases)?;
    meter.watch("publisher", publisher.id());
    meter.watch("consumer", consumer.id());
    let writers = Writers { count: 4, shape: Shape::Single, rate: Some(RATE) };
    let time = Duration::from_secs(60 * minutes);
    let since = time::OffsetDateTime::now_utc();
    let source = databases.source.clone();
    let mut writing = tokio::spawn(async move { writers.write(&source, time).await });
    let mut table = format!(
        "{RATE} rows a second for {minutes} minutes, default settings.\n\n\
         | minute | entries | MiB | rounds | dead tuples | publisher MiB | consumer MiB | nats-server MiB |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    let begun = Instant::now();
    let mut every = interval(Duration::from_secs(60));
    let (written, _) = loop {
        tokio::select! {
            written = &mut writing => break written??,
            () = stop.cancelled() => anyhow::bail!("interrupted"),
            _ = every.tick() => {
                let line = read(&meter, &databases.source, begun.elapsed().as_secs() / 60).await?;
                say(&line);
                let _ = writeln!(table, "{line}");
            }
        }
    };
    super::steady::arrived(&databases, written).await?;
    let line = read(&meter, &databases.source, minutes).await?;
    let _ = writeln!(table, "{line}");
    let mut sample = meter.end("soak", "pipeline", 0).await?;
    publisher.terminate(STOP_DEADLINE)?;
    consumer.terminate(STOP_DEADLINE)?;
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    let latency = verify::latency(&databases.source, &databases.timeline, since).await?;
    let latency =
        latency.map(|it| format!("; p50 {:.1} ms, p99 {:.1} ms", it.p50, it.p99)).unwrap_or_default();
    let verdict = sample.void.unwrap_or_else(|| "source and timeline hold the same rows".to_owned());
    let end = format!("{} rows arrived; {verdict}{latency}.", sample.rows);
    say(&end);
    let _ = writeln!(table, "\n{end}");
    Ok(table)
}

async fn read(meter: &Meter, source: &str, minute: u64) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(source).await?;
    let (entries, bytes, rounds): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from outbox.entries), pg_total_relation_size('outbox.entries'),
                (select count(*) from outbox.rounds)",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    let dead = meter::outbox_dead_tuples(source).await?;
    let memory = ["publisher", "consumer", "nats-server"].map(|name| meter.resident_mib(name));
    Ok(format!(
        "| {minute} | {entries} | {} | {rounds} | {dead} | {:.1} | {:.1} | {:.1} |",
        bytes >> 20,
        memory[0],
        memory[1],
        memory[2]
    ))
}
