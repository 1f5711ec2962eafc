//! `threadline backfill-keys`: keys of changes that older triggers have recorded without one.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
};

use serde_json::json;
use threadline::{
    capture::HostTable,
    continuity::{KeyBackfill, KeyBackfillError, RecoveredKeys},
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    settings::{Settings, Target, table},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which tables, as NAME or SCHEMA.NAME; without it all that have changes without a key.
    #[arg(long, value_delimiter = ',', value_name = "TABLES", value_parser = table)]
    tables: Vec<HostTable>,
    /// Counts, and changes nothing.
    #[arg(long, short)]
    dry_run: bool,
    /// How many changes are looked at in one transaction.
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch_size: u32,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, .. } = Settings::read(target)?;
    let shows_progress = !arguments.json && std::io::stderr().is_terminal();
    on_timeline(&options, Rights::Owner, async |connection| {
        let backfill = KeyBackfill::default().batch_size(arguments.batch_size).dry_run(arguments.dry_run);
        let told = |done: &RecoveredKeys| {
            if shows_progress {
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(done, arguments.dry_run));
            }
        };
        let done = backfill.run(connection, &schema, &arguments.tables, told).await;
        let done = done.map_err(|error| match error {
            KeyBackfillError::Refused(refusal) => anyhow::Error::new(refusal),
            error => anyhow::Error::new(error)
                .context("the backfill stopped; what it has done stays, and the same command continues"),
        })?;
        if shows_progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        if arguments.json {
            return Ok(format!("{}\n", json!({"dry_run": arguments.dry_run, "tables": done})));
        }
        if done.is_empty() {
            return Ok("no change is without a key\n".to_owned());
        }
        Ok(done.iter().fold(String::new(), |text, one| text + &line(one, arguments.dry_run) + "\n"))
    })
}

/// A line for people.
fn line(done: &RecoveredKeys, is_dry: bool) -> String {
    let counted = if is_dry { "recoverable" } else { "recovered" };
    let mut text = format!("{}: key={} {counted}={}", done.table, done.key.join(","), done.recovered);
    for (why, count) in &done.left {
        let _ = write!(text, " {why}={count}");
    }
    text
}
