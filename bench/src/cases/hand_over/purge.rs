//! The older half of all changes is purged, or as much of it as goes in a given time, while an application writes: how long its writers wait.

use std::{fs, time::Instant};

use anyhow::{Context as _, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{
    ALL, DELETED, DISTURBED, OURS, PURGE, UNDISTURBED, UNDISTURBED_AGAIN,
    command::{self, Taken},
    writers::Writers,
};
use crate::{
    cases::{
        Bench,
        reads::{timing::Times, writes},
    },
    meter::Meter,
    results::Sample,
};

/// How old a change has to be; the cutoff of the command is far behind it.
const POLICY: &str = "[retention]\nenabled = true\nkeep_days = 1\n";

/// The time before which there are so many changes.
const CUTOFF: &str = "select to_char(captured_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
    from audit_changes order by captured_at offset $1 limit 1";

/// Writers alone, beside the purge, and alone again, in a copy: each repeat finds the same.
pub(super) async fn take(bench: &mut Bench<'_>, changes: u64, repeat: u32) -> anyhow::Result<()> {
    let url = bench.environment.source_like(ALL).await?;
    writes::capture(&url).await?;
    let mut committed = undisturbed(bench, &url, (UNDISTURBED, repeat), 0).await?;
    committed += purge(bench, &url, changes / 2, repeat).await?;
    committed += undisturbed(bench, &url, (UNDISTURBED_AGAIN, repeat), 2).await?;
    let recorded = count(&url, "table_name = 'accounts'").await?;
    ensure!(recorded == committed, "{recorded} changes were recorded of {committed} rows");
    bench.environment.drop(&[&url]).await
}

/// Returns how many rows were written.
async fn undisturbed(
    bench: &mut Bench<'_>,
    url: &str,
    (variant, repeat): (&str, u32),
    stretch: u64,
) -> anyhow::Result<u64> {
    let writers = Writers::start(url, stretch).await?;
    tokio::time::sleep(bench.plan.warm_up).await;
    let meter = Meter::begin(bench.environment).await?;
    let from = Instant::now();
    tokio::time::sleep(bench.plan.steady).await;
    let measured = (from, Instant::now());
    let sample = meter.end(PURGE, variant, repeat).await?;
    let written = writers.stop().await?;
    bench.keep(with_times(sample, written.times(measured))).await?;
    Ok(written.rows())
}

/// The same while the command runs, from its start to its end, or until it has had its time.
async fn purge(bench: &mut Bench<'_>, url: &str, old: u64, repeat: u32) -> anyhow::Result<u64> {
    let settings = bench.environment.sandbox.work_dir.path().join("retention.toml");
    fs::write(&settings, POLICY)?;
    let settings = settings.to_str().context("a folder whose name is a text")?;
    let cutoff = cutoff(url, old).await?;
    let arguments = ["retention", "purge", "--execute", "--config", settings, "--cutoff", &cutoff];
    let is_old = format!("captured_at < '{cutoff}'");
    let expected = count(url, &is_old).await?;
    let writers = Writers::start(url, 1).await?;
    tokio::time::sleep(bench.plan.warm_up).await;
    let meter = Meter::begin(bench.environment).await?;
    let from = Instant::now();
    let mut process = command::start(bench, Some(url), &arguments)?;
    let Taken { usage, seconds } = command::for_so_long(&mut process, &arguments, bench.plan.purge).await?;
    let measured = (from, Instant::now());
    let sample = meter.end(PURGE, DISTURBED, repeat).await?;
    let written = writers.stop().await?;
    let left = count(url, &is_old).await?;
    let void = (left == expected).then(|| format!("none of {expected} changes was deleted"));
    // The server works for both: what it took is with the writers.
    let deleted = Sample {
        case: DELETED.to_owned(),
        variant: OURS.to_owned(),
        repeat,
        rows: expected - left,
        seconds,
        processes: [(OURS.to_owned(), usage)].into(),
        void: void.clone(),
        ..Sample::default()
    };
    bench.keep(with_times(Sample { void, ..sample }, written.times(measured))).await?;
    bench.keep(deleted).await?;
    Ok(written.rows())
}

/// What was written while it was measured, and how long it took.
fn with_times(sample: Sample, times: Times) -> Sample {
    let Sample { rows, latency, .. } = times.sample(&sample.case, &sample.variant, sample.repeat);
    Sample { rows, latency, ..sample }
}

async fn cutoff(url: &str, old: u64) -> anyhow::Result<String> {
    let mut connection = PgConnection::connect(url).await?;
    let cutoff = sqlx::query_scalar(CUTOFF).bind(old.cast_signed()).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(cutoff)
}

async fn count(url: &str, condition: &str) -> anyhow::Result<u64> {
    let mut connection = PgConnection::connect(url).await?;
    let statement = AssertSqlSafe(format!("select count(*) from audit_changes where {condition}"));
    let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count.cast_unsigned())
}
