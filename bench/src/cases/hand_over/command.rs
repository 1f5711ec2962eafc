//! The released binary, as an operator starts it, up to its end.

use std::time::{Duration, Instant};

use anyhow::ensure;
use sandbox::process::Process;

use super::OURS;
use crate::{
    cases::Bench,
    meter::{self, Meter},
    results::{Sample, Usage},
};

/// How long a command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(900);

/// How long the end of one that has ended may take.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// How often it is looked at: what it took is gone when it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What a command has taken in the end.
pub(super) struct Taken {
    pub(super) usage: Usage,
    pub(super) seconds: f64,
}

/// Runs a command and measures it; `database` is where the timeline is, if it needs one. The rows of the sample are left to the caller.
pub(super) async fn measure(
    bench: &Bench<'_>,
    (case, variant, repeat): (&str, &str, u32),
    database: Option<&str>,
    arguments: &[&str],
) -> anyhow::Result<Sample> {
    let meter = Meter::begin(bench.environment).await?;
    let taken = to_its_end(&mut start(bench, database, arguments)?, arguments).await?;
    let mut sample = meter.end(case, variant, repeat).await?;
    sample.seconds = taken.seconds;
    sample.processes.insert(OURS.to_owned(), taken.usage);
    Ok(sample)
}

/// Starts a command.
pub(super) fn start(
    bench: &Bench<'_>,
    database: Option<&str>,
    arguments: &[&str],
) -> anyhow::Result<Process> {
    let environment = database.map(|url| ("THREADLINE_DATABASE_URL", url));
    let work_dir = &bench.environment.sandbox.work_dir;
    Process::start(work_dir, &arguments[..2].join("-"), OURS, arguments, environment.as_slice())
}

/// Waits for its end, from the start of which this was called.
///
/// # Errors
/// When it fails, or takes too long.
async fn to_its_end(process: &mut Process, arguments: &[&str]) -> anyhow::Result<Taken> {
    let begun = Instant::now();
    let usage = while_it_runs(process, begun + COMMAND_DEADLINE).await?;
    let command = arguments[..2].join(" ");
    ensure!(process.has_ended()?, "{OURS} {command} took longer than {COMMAND_DEADLINE:?}");
    let seconds = begun.elapsed().as_secs_f64();
    let ended = process.wait(END_DEADLINE)?;
    ensure!(ended.success(), "{OURS} {command} failed:\n{}", process.log());
    Ok(Taken { usage, seconds })
}

/// The same of one that is told to stop when its time is over.
///
/// # Errors
/// When it fails, or does not stop.
pub(super) async fn for_so_long(
    process: &mut Process,
    arguments: &[&str],
    time: Duration,
) -> anyhow::Result<Taken> {
    let begun = Instant::now();
    let usage = while_it_runs(process, begun + time).await?;
    if process.has_ended()? {
        let ended = process.wait(END_DEADLINE)?;
        ensure!(ended.success(), "{OURS} {} failed:\n{}", arguments[..2].join(" "), process.log());
    } else {
        process.terminate(END_DEADLINE)?;
    }
    Ok(Taken { usage, seconds: begun.elapsed().as_secs_f64() })
}

/// What it had taken when it was last looked at, at its end or at a time.
async fn while_it_runs(process: &mut Process, until: Instant) -> anyhow::Result<Usage> {
    let mut usage = Usage::default();
    while !process.has_ended()? && Instant::now() < until {
        usage = meter::usage(process.id()).unwrap_or(usage);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(usage)
}
