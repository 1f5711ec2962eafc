//! A steady load: how long a row takes from its commit to the timeline.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Bench, drain::STOP_DEADLINE};
use crate::{
    build::Build,
    environment::{Databases, STREAM},
    meter::{self, Meter},
    results::Sample,
    rows::{Shape, Writers},
    verify,
};

/// Writers of the application.
pub(super) const WRITERS: u32 = 8;

/// How long the last rows may take.
const ARRIVE_DEADLINE: Duration = Duration::from_secs(120);

/// One publisher and one consumer at each rate.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    for rate in [1_000, 5_000] {
        for build in bench.builds.clone() {
            let sample = measure(bench, &build, rate, repeat).await?;
            bench.keep(sample).await?;
            bench.environment.delete_stream(STREAM).await;
        }
    }
    Ok(())
}

async fn measure(bench: &Bench<'_>, build: &Build, rate: u32, repeat: u32) -> anyhow::Result<Sample> {
    let databases = bench.environment.databases(build, "empty_source").await?;
    let mut meter = Meter::begin(bench.environment).await?;
    let mut publisher = bench.environment.start(build, "publisher", "publisher", &databases)?;
    let mut consumer = bench.environment.start(build, "consumer-1", "consumer", &databases)?;
    meter.watch("publisher", publisher.id());
    meter.watch("consumer", consumer.id());
    let writers = Writers { count: WRITERS, shape: Shape::Single, rate: Some(rate) };
    let (before, _) = writers.write(&databases.source, bench.plan.warm_up).await?;
    arrived(&databases, before).await?;
    meter.restart().await?;
    let since = OffsetDateTime::now_utc();
    let (written, seconds) = writers.write(&databases.source, bench.plan.steady).await?;
    arrived(&databases, before + written).await?;
    let mut sample = meter.end(&format!("steady {rate}"), build.variant(), repeat).await?;
    publisher.terminate(STOP_DEADLINE)?;
    consumer.terminate(STOP_DEADLINE)?;
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    sample.rows = written;
    sample.seconds = seconds;
    sample.latency = verify::latency(&databases.source, &databases.timeline, since).await?;
    sample.dead_tuples = Some(meter::outbox_dead_tuples(&databases.source).await?);
    bench.environment.drop(&[&databases.source, &databases.timeline]).await?;
    Ok(sample)
}

/// Waits until the timeline has so many rows.
pub(super) async fn arrived(databases: &Databases, rows: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&databases.timeline).await?;
    let begun = Instant::now();
    loop {
        let count: i64 =
            sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut connection).await?;
        if count.cast_unsigned() >= rows {
            break;
        }
        ensure!(begun.elapsed() < ARRIVE_DEADLINE, "{count} of {rows} rows arrived in {ARRIVE_DEADLINE:?}");
        // Counting costs the server something: seldom enough.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(connection.close().await?)
}
