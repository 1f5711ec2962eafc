//! `bench`: the pipeline next to its limits and to what a user would pick instead, in one run on one machine.

mod build;
mod cases;
mod environment;
mod forward;
mod machine;
mod meter;
mod peers;
mod plan;
mod report;
mod results;
mod rows;
mod verify;

use std::{iter, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use common::process::{console, shutdown};
use common::service::boot;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    build::Build,
    cases::{Bench, Case, soak},
    environment::Environment,
    peers::Peer,
    plan::Plan,
    report::Report,
    results::Run,
};

/// Measures the pipeline next to its limits and to what a user would pick instead, on private servers.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the cases and prints the goals with what was measured.
    Run(RunOptions),
    /// Runs a steady load for long and prints what grows.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Where to write the table.
        #[arg(long)]
        report: Option<PathBuf>,
    },
    /// Writes report.md and chart.svg from the samples of an earlier run.
    Report {
        /// What `--json` wrote.
        run: PathBuf,
        /// Where to.
        folder: PathBuf,
    },
    /// One peer's worker.
    #[command(hide = true)]
    Peer {
        peer: Peer,
        #[arg(long)]
        source: String,
        #[arg(long)]
        timeline: String,
    },
}

#[derive(Debug, Args)]
struct RunOptions {
    /// A million rows, three repeats, about an hour; without it a smoke run of a few minutes.
    #[arg(long)]
    full: bool,
    /// Another number of rows to drain.
    #[arg(long)]
    rows: Option<u64>,
    /// Another number of repeats.
    #[arg(long)]
    repeats: Option<u32>,
    /// Only these cases.
    #[arg(long, value_enum)]
    only: Vec<Case>,
    /// Also builds this earlier commit of the project, and runs it beside the present one.
    #[arg(long, value_name = "COMMIT")]
    against: Option<String>,
    /// Shows which statements took longest in each case.
    #[arg(long)]
    statements: bool,
    /// Where every sample is written.
    #[arg(long, default_value = "target/bench.json")]
    json: PathBuf,
    /// A folder for report.md and chart.svg.
    #[arg(long)]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli: Cli = match boot::parse(&[]) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Box::pin(run(cli.command))));
    boot::ended(result.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace), true)
}

async fn run(command: Command) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    match command {
        Command::Run(options) => tokio::select! {
            result = measure(&options) => result,
            () = stop.cancelled() => anyhow::bail!("interrupted"),
        },
        Command::Soak { minutes, report } => {
            let table = soak::run(&Environment::set_up(false).await?, minutes, &stop).await?;
            match report {
                Some(path) => std::fs::write(&path, table).with_context(|| path.display().to_string()),
                None => Ok(()),
            }
        }
        Command::Report { run, folder } => {
            let read = std::fs::read(&run).with_context(|| format!("cannot read {}", run.display()))?;
            let run: Run = serde_json::from_slice(&read).context("not what `bench run --json` writes")?;
            Report::of(&run).write(&folder, &lacks())
        }
        Command::Peer { peer, source, timeline } => peer.work(&source, &timeline, stop).await,
    }
}

async fn measure(options: &RunOptions) -> anyhow::Result<()> {
    let mut plan = if options.full { Plan::FULL } else { Plan::SMOKE };
    plan.rows = options.rows.unwrap_or(plan.rows);
    plan.repeats = options.repeats.unwrap_or(plan.repeats);
    let cases = match &options.only[..] {
        [] => &[
            Case::Capture,
            Case::Changes,
            Case::Drain,
            Case::EndToEnd,
            Case::Steady,
            Case::Held,
            Case::Reads,
            Case::Handover,
            Case::Operators,
        ][..],
        some => some,
    };
    let begun = (OffsetDateTime::now_utc(), Instant::now());
    let against = options.against.as_deref().map(Build::of_revision).transpose()?;
    let mut environment = Environment::set_up(options.statements).await?;
    let machine = machine::describe(&environment).await?;
    let builds = iter::once(Build::current()).chain(against).collect();
    let mut bench = Bench { environment: &mut environment, plan, builds, samples: Vec::new() };
    bench.prepare(cases).await?;
    let mut run = Run {
        form: plan.form.to_owned(),
        begun: begun.0.format(&Rfc3339)?,
        took: 0.0,
        machine,
        samples: Vec::new(),
    };
    for repeat in 0..plan.repeats {
        for case in cases {
            bench.take(*case, repeat).await?;
        }
        // What was measured so far outlives an interruption.
        run.took = begun.1.elapsed().as_secs_f64();
        run.samples.clone_from(&bench.samples);
        std::fs::write(&options.json, serde_json::to_vec_pretty(&run)?)
            .with_context(|| format!("cannot write {}", options.json.display()))?;
    }
    let report = Report::of(&run);
    console::print(&format!("\n{}", report.text()));
    match &options.report {
        Some(folder) => report.write(folder, &lacks()),
        None => Ok(()),
    }
}

/// What each peer does not promise, or costs.
fn lacks() -> Vec<(&'static str, &'static str)> {
    Peer::ALL.map(|peer| (peer.name(), peer.lacks())).into()
}
