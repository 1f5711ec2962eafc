//! A month of changes is dropped while an application writes: how long the statement takes that holds the lock, and how long writers wait.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{DROP, LONGEST_BEFORE, LONGEST_BESIDE, MONTH, PARTITION_DROP, writers::Writers};
use crate::{
    cases::{
        Bench,
        reads::{data, writes},
    },
    results::Sample,
};

/// How a purge waits for locks.
const SETTINGS: &str = "set lock_timeout = '200ms'";

/// As a purge calls it; how many changes the month held, and none where it was not dropped.
const STATEMENT: &str = "select sum(value::bigint)::bigint from jsonb_each_text(
    threadline_drop_partition($1, timestamptz '2026-04-01Z', '{}', '{}', '{}', false))";

/// In a copy: each repeat finds the same.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    let url = bench.environment.source_like(MONTH).await?;
    writes::capture(&url).await?;
    let mut connection = PgConnection::connect(&url).await?;
    connection.execute(SETTINGS).await?;
    let expected: i64 =
        sqlx::query_scalar("select count(*) from audit_changes").fetch_one(&mut connection).await?;
    let writers = Writers::start(&url, 0).await?;
    tokio::time::sleep(bench.plan.warm_up).await;
    let from = Instant::now();
    tokio::time::sleep(bench.plan.steady).await;
    let begun = Instant::now();
    let dropped: Option<i64> =
        sqlx::query_scalar(STATEMENT).bind(data::MONTH).fetch_one(&mut connection).await?;
    let ended = Instant::now();
    // Writes that were due meanwhile are still to be written.
    tokio::time::sleep(bench.plan.warm_up).await;
    let written = writers.stop().await?;
    connection.close().await?;
    ensure!(dropped == Some(expected), "{dropped:?} of {expected} changes went with their month");
    let longest = |within| written.times(within).longest();
    let drop = (DROP, expected.cast_unsigned(), Some(ended - begun));
    let (before, beside) = (longest((from, begun)), longest((begun, ended)));
    for (variant, rows, took) in [(LONGEST_BEFORE, 1, before), drop, (LONGEST_BESIDE, 1, beside)] {
        bench.keep(sample((variant, repeat), rows, took)).await?;
    }
    bench.environment.drop(&[&url]).await
}

fn sample((variant, repeat): (&str, u32), rows: u64, took: Option<Duration>) -> Sample {
    Sample {
        case: PARTITION_DROP.to_owned(),
        variant: variant.to_owned(),
        repeat,
        rows,
        seconds: took.unwrap_or_default().as_secs_f64(),
        void: took.is_none().then(|| "no row that was due in this time was written".to_owned()),
        ..Sample::default()
    }
}
