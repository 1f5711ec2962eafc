//! What an operator does with a timeline that is complete: compares it, builds it again, fills history in again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sandbox::process::Process;

use super::{Bench, drain::STOP_DEADLINE};
use crate::{
    build::{Build, EARLIER},
    environment::{Databases, STREAM},
    meter::{self, Meter},
    results::{Sample, Usage},
    verify,
};

/// How long a command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(900);

/// How often it is looked at: it ends by itself, and what it took is gone then.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Beside databases that the pipeline has just drained, with publisher and consumer running.
pub(super) async fn take(
    bench: &mut Bench<'_>,
    build: &Build,
    databases: &Databases,
    repeat: u32,
) -> anyhow::Result<()> {
    let mut publisher = bench.environment.start(build, "publisher", "publisher", databases)?;
    let mut consumer = bench.environment.start(build, "consumer-1", "consumer", databases)?;
    // Addressed, or the broker would know the message ids of the drain, and drop them all.
    let commands: [(&str, &[&str]); 3] = [
        ("consumer", &["reconcile"]),
        ("consumer", &["rebuild"]),
        ("publisher", &["backfill", "--forwarder", "timeline"]),
    ];
    for (binary, command) in commands {
        let sample = run(bench, build, databases, (binary, command), repeat).await?;
        bench.keep(sample).await?;
    }
    publisher.terminate(STOP_DEADLINE)?;
    consumer.terminate(STOP_DEADLINE)?;
    bench.environment.delete_stream(STREAM).await;
    Ok(())
}

async fn run(
    bench: &Bench<'_>,
    build: &Build,
    databases: &Databases,
    (binary, arguments): (&str, &[&str]),
    repeat: u32,
) -> anyhow::Result<Sample> {
    let meter = Meter::begin(bench.environment).await?;
    let begun = Instant::now();
    let work_dir = &bench.environment.sandbox.work_dir;
    let command = arguments[0];
    let environment = bench.environment.environment(databases);
    let mut process = Process::start(work_dir, command, &build.program(binary), arguments, &environment)?;
    let mut taken = Usage::default();
    while !process.has_ended()? {
        taken = meter::usage(process.id()).unwrap_or(taken);
        ensure!(
            begun.elapsed() < COMMAND_DEADLINE,
            "{binary} {command} took longer than {COMMAND_DEADLINE:?}"
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let ended = process.wait(STOP_DEADLINE)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(ended.success(), "{binary} {command} failed:\n{}", process.log());
    let variant = match build.variant() {
        earlier if earlier.starts_with(EARLIER) => format!("{command}, {earlier}"),
        _ => command.to_owned(),
    };
    let mut sample = meter.end("operator", &variant, repeat).await?;
    sample.seconds = seconds;
    sample.processes.insert(command.to_owned(), taken);
    verify::verify(&mut sample, &databases.source, &databases.timeline).await?;
    Ok(sample)
}
