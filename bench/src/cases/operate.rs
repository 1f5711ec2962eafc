//! What an operator does with a timeline that is complete: compares it, builds it anew, fills history in again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sandbox::process::Process;

use super::{Bench, drain::STOP_DEADLINE};
use crate::{
    meter::Meter,
    results::Sample,
    stage::{Databases, STREAM},
    truth,
};

/// How long a command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(900);

/// Beside databases that the pipeline has just drained, with publisher and consumer running.
pub(super) async fn take(bench: &mut Bench<'_>, databases: &Databases, repeat: u32) -> anyhow::Result<()> {
    let mut publisher = bench.stage.start("publisher", "publisher", databases)?;
    let mut consumer = bench.stage.start("consumer-1", "consumer", databases)?;
    for (binary, command) in [("consumer", "reconcile"), ("consumer", "rebuild"), ("publisher", "backfill")] {
        let sample = run(bench, databases, binary, command, repeat).await?;
        bench.keep(sample).await?;
    }
    publisher.terminate(STOP_DEADLINE)?;
    consumer.terminate(STOP_DEADLINE)?;
    bench.stage.delete_stream(STREAM).await;
    Ok(())
}

async fn run(
    bench: &Bench<'_>,
    databases: &Databases,
    binary: &str,
    command: &str,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let mut meter = Meter::begin(bench.stage).await?;
    let begun = Instant::now();
    let home = &bench.stage.sandbox.home;
    let mut process =
        Process::start(home, command, binary, &[command, "--json"], &bench.stage.environment(databases))?;
    meter.watch(command, process.id());
    let ended = tokio::task::block_in_place(|| process.wait(COMMAND_DEADLINE))?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(ended.success(), "{binary} {command} failed:\n{}", process.log());
    let mut sample = meter.end("operator", command, repeat).await?;
    sample.seconds = seconds;
    truth::judge(&mut sample, &databases.source, &databases.timeline).await?;
    Ok(sample)
}
