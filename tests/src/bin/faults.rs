//! `make faults`: the long form of the fault suite, and its report.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use end_to_end::{
    faults::{self, report},
    sandbox,
};
use sqlx::Connection as _;

const USAGE: &str =
    "faults [--report FILE] [--only NAME]: runs every scenario, or those whose name holds NAME";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<bool> {
    let mut report_file: Option<PathBuf> = None;
    let mut only = String::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value. {USAGE}"));
        match argument.as_str() {
            "--report" => report_file = Some(value()?.into()),
            "--only" => only = value()?,
            _ => anyhow::bail!("{argument} is unknown. {USAGE}"),
        }
    }
    let begun = Instant::now();
    let mut rows = Vec::new();
    for scenario in faults::all().iter().filter(|scenario| scenario.name.contains(&only)) {
        println!("{}: {} faults", scenario.name, scenario.faults);
        let row = faults::run(scenario, scenario.faults, true)
            .await
            .with_context(|| format!("scenario {:?}", scenario.name))?;
        println!("{}", report::table(std::slice::from_ref(&row)).lines().nth(2).unwrap_or_default());
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "no scenario is called like {only:?}");
    println!("\n{}", report::table(&rows));
    if let Some(path) = report_file {
        let text = report::markdown(&rows, &versions().await?, begun.elapsed());
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(rows.iter().all(report::Row::holds))
}

/// Of the servers that everything ran on.
async fn versions() -> anyhow::Result<String> {
    let mut connection = sqlx::PgConnection::connect(&sandbox().postgres.url("postgres")).await?;
    let postgres: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    let nats = async_nats::connect(sandbox().nats.url()).await?;
    // The information comes with the connection.
    let nats = tokio::time::timeout(Duration::from_secs(5), async { nats.server_info().version }).await?;
    Ok(format!("PostgreSQL {postgres}, nats-server {nats}"))
}
