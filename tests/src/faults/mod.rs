//! The fault suite: real processes on real servers under a steady load, broken on purpose, again and again.
//!
//! A [`Scenario`] is one kind of fault. [`run`] injects it so many times, waits after each until what is committed
//! arrives again, and ends with the checker: source against timeline, as multisets. `make test` runs each a few times,
//! `make faults` often enough to write `docs/fault-report.md`.

mod harness;
mod network;
mod pressure;
mod processes;
pub mod report;
mod servers;
mod writer;

use futures::future::LocalBoxFuture;

pub use harness::FaultHarness;
use harness::ServersUnderTest;
use report::Row;

/// One kind of fault.
pub struct Scenario {
    /// Its name, for the report and the command line.
    pub name: &'static str,
    /// What is done, for the report.
    pub what: &'static str,
    /// The servers it needs.
    servers_under_test: ServersUnderTest,
    /// Settings beyond the suite's own, as its processes find them in their environment.
    environment: &'static [(&'static str, &'static str)],
    /// How often `make faults` injects it.
    pub faults: usize,
    /// How often `make test` does.
    pub brief: usize,
    /// Injects it once and heals it; the second argument counts from 0.
    inject: for<'a> fn(&'a mut FaultHarness, usize) -> LocalBoxFuture<'a, anyhow::Result<()>>,
}

/// All of them, in the order of the report.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [processes::scenarios(), servers::scenarios(), network::scenarios(), pressure::scenarios()]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs a scenario; `long` where it may take minutes.
///
/// # Errors
/// When something does not recover, or a server of ours does not start.
pub async fn run(scenario: &Scenario, faults: usize, long: bool) -> anyhow::Result<Row> {
    let mut harness = FaultHarness::start(scenario.servers_under_test, scenario.environment, long).await?;
    let mut recoveries = Vec::new();
    for turn in 0..faults {
        // Some work in between, so that a fault meets a pipeline that has begun again; never the same amount.
        harness.while_writing(10 + turn as u64 * 37 % 40).await?;
        (scenario.inject)(&mut harness, turn).await?;
        recoveries.push(harness.recover().await?);
    }
    let (verdict, charged) = harness.finish().await?;
    Ok(Row {
        scenario: scenario.name,
        what: scenario.what,
        events: verdict.committed,
        faults,
        kills: harness.kills,
        lost: verdict.missing,
        twice: verdict.twice,
        foreign: verdict.foreign,
        charged,
        recoveries,
    })
}
