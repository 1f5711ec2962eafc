//! `bench`: the pipeline beside its limits and beside what a user would pick instead, in one run on one machine.

mod report;
mod results;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Measures the pipeline beside its limits and beside what a user would pick instead.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the report of a run that was measured before, and prints its tables.
    Report {
        /// What a run left.
        run: PathBuf,
        /// Where `report.md` and `chart.svg` go.
        folder: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Report { run, folder } => report(&run, &folder),
    }
}

fn report(run: &Path, folder: &Path) -> anyhow::Result<()> {
    let file = std::fs::read(run).with_context(|| format!("cannot read {}", run.display()))?;
    let run = serde_json::from_slice(&file).with_context(|| format!("{} is no run", run.display()))?;
    let report = report::Report::of(&run);
    report.write(folder, &[])?;
    Ok(std::io::stdout().write_all(report.text().as_bytes())?)
}
