//! Reads one after the other, and how long each took.

use std::time::{Duration, Instant};

use super::{LIBRARY, OURS};
use crate::{
    cases::Bench,
    plan::Plan,
    results::{Latency, Sample},
};

/// Reads before any counts: plans, caches and buffers are warm then.
const WARM_UP: u32 = 5;

/// Reads of the library's that are waited for, however long one takes.
const LIBRARY_MIN: usize = 5;

/// How long each of some reads or writes took.
#[derive(Debug, Default)]
pub(in crate::cases) struct Times(Vec<Duration>);

impl Times {
    pub(in crate::cases) fn add(&mut self, taken: Duration) {
        self.0.push(taken);
    }

    /// None where there are none.
    pub(in crate::cases) fn longest(&self) -> Option<Duration> {
        self.0.iter().copied().max()
    }

    fn sum(&self) -> Duration {
        self.0.iter().sum()
    }

    /// As a sample: rows are reads.
    pub(in crate::cases) fn sample(mut self, case: &str, variant: &str, repeat: u32) -> Sample {
        self.0.sort_unstable();
        let at = |share: usize| -> Option<f64> {
            let taken = self.0.get(self.0.len().checked_sub(1)? * share / 100)?;
            Some(taken.as_secs_f64() * 1_000.0)
        };
        Sample {
            case: case.to_owned(),
            variant: variant.to_owned(),
            repeat,
            rows: self.0.len() as u64,
            seconds: self.sum().as_secs_f64(),
            latency: at(50).zip(at(99)).map(|(p50, p99)| Latency { p50, p99 }),
            ..Sample::default()
        }
    }
}

/// One read: its number goes into the values that it asks for.
async fn timed(
    times: &mut Times,
    read: &mut impl AsyncFnMut(u32) -> anyhow::Result<()>,
    number: u32,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    read(number).await?;
    times.add(begun.elapsed());
    Ok(())
}

/// Our reads alone.
pub(super) async fn alone(
    bench: &mut Bench<'_>,
    (case, repeat): (&str, u32),
    mut read: impl AsyncFnMut(u32) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut times = Times::default();
    for number in 0..WARM_UP {
        read(number).await?;
    }
    for number in 0..bench.plan.reads {
        timed(&mut times, &mut read, number).await?;
    }
    bench.keep(times.sample(case, OURS, repeat)).await
}

/// Ours and the library's in turns. Of the library's that take long as many as fit into the time for them.
pub(super) async fn beside(
    bench: &mut Bench<'_>,
    (case, repeat): (&str, u32),
    mut read: impl AsyncFnMut(u32) -> anyhow::Result<()>,
    mut library: impl AsyncFnMut(u32) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Plan { reads, read_time, .. } = bench.plan;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for number in 0..WARM_UP {
        read(number).await?;
        // Those that take seconds are warm after one.
        if number < 2 {
            library(number).await?;
        }
    }
    for number in 0..reads {
        timed(&mut ours, &mut read, number).await?;
        if theirs.sum() < read_time || theirs.0.len() < LIBRARY_MIN {
            timed(&mut theirs, &mut library, number).await?;
        }
    }
    bench.keep(ours.sample(case, OURS, repeat)).await?;
    bench.keep(theirs.sample(case, LIBRARY, repeat)).await
}
