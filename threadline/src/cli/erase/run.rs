//! A run, and what is said of it.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::anyhow;
use sqlx::postgres::PgPoolOptions;
use threadline::{
    ActorRef, Timeline,
    erasure::{BATCH_SIZE, BATCH_SIZE_MAX, Counts, Erased, Erasure, ErasureError, ErasureOptions},
};

use crate::cli::{
    answer::{Answer, Failure},
    capture::actor,
    database::{Interrupt, connect, runtime},
    read::{
        render::{json, safe},
        session::refused,
    },
    settings::Settings,
};

/// How it is done.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Counts what would be erased, and erases nothing.
    #[arg(long, short, conflicts_with = "execute")]
    dry_run: bool,
    /// Erases.
    #[arg(long)]
    execute: bool,
    /// Why; it stays in the timeline. It does not say whom or what it is about.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who does it, such as admin:a1; without it, the service account of the database's user.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
    /// Rows that one transaction visits at most.
    #[arg(long, value_name = "ROWS", default_value_t = BATCH_SIZE, value_parser = clap::value_parser!(u32).range(1..=i64::from(BATCH_SIZE_MAX)))]
    batch_size: u32,
    /// The shortest pause between two transactions, such as 50ms; it is never shorter than the transaction took.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = humantime::parse_duration)]
    sleep: Duration,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl How {
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !self.dry_run && !self.execute {
            let reason = "say which it is: --dry-run counts what would be erased, --execute erases it";
            return Err(Failure::Misused(format!("execute_missing: {reason}")));
        }
        if self.execute && self.reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            let reason = "say why with --reason TEXT: it is the record of the erasure";
            return Err(Failure::Misused(format!("reason_missing: {reason}")));
        }
        Ok(())
    }

    fn options(&self) -> ErasureOptions {
        let mut options = ErasureOptions::because(self.reason.clone().unwrap_or_default());
        options.dry_run = self.dry_run;
        options.actor.clone_from(&self.actor);
        options.batch_size = self.batch_size;
        options.sleep = self.sleep;
        options
    }
}

/// Connections: one for the work, and one to say how it ended where that one was lost.
const CONNECTIONS: u32 = 2;

pub(super) fn run(settings: Settings, erasure: &Erasure, how: &How) -> Result<Answer, Failure> {
    let Settings { options: database, schema, .. } = settings;
    let (options, as_json) = (how.options(), how.json);
    let erased = runtime()?.block_on(async {
        let mut interrupt = Interrupt::new()?;
        // Asked first, so that a database that is away is said by its place.
        drop(connect(&database).await?);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(database);
        let timeline = Timeline::new(pool, schema);
        let shows_progress = !as_json && std::io::stderr().is_terminal();
        let progress = |counts: &Counts| {
            if shows_progress {
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(counts, false));
            }
        };
        let erasing = timeline.erase_until(erasure, &options, interrupt.come(), progress);
        let erased = Box::pin(erasing).await;
        if shows_progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        erased.map_err(failed)
    })?;
    let text = if as_json { json(&erased).map_err(anyhow::Error::new)? } else { summary(&erased) };
    Ok(text.into())
}

/// What cannot be asked for ends otherwise than a run that failed.
fn failed(error: ErasureError) -> Failure {
    let is_misuse = !matches!(
        error.term(),
        Some("took_too_long" | "timeline_incomplete" | "not_permitted" | "too_many_rows")
    );
    match error {
        ErasureError::Refused(refusal) if is_misuse => refusal.into(),
        ErasureError::Read(error) => refused(&error),
        error => Failure::Failed(match error.term() {
            Some(term) => anyhow!("{term}: {}", errors::line(&error)),
            None => anyhow::Error::new(error),
        }),
    }
}

fn count(number: u64, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}

/// A line for people.
fn line(counts: &Counts, dry_run: bool) -> String {
    let verb = if dry_run { "would erase" } else { "erased" };
    format!("{verb} {} of {}", count(counts.total_values(), "value"), count(counts.total_rows(), "row"))
}

/// All of it for people.
fn summary(erased: &Erased) -> String {
    let mut text = line(&erased.counts, erased.dry_run);
    if let Some(run) = erased.run {
        let resumed = if erased.is_resumed { ", begun before" } else { "" };
        let _ = write!(
            text,
            " in {}.{} s (run {run}{resumed})",
            erased.duration_ms / 1_000,
            erased.duration_ms % 1_000 / 100
        );
    }
    text.push('\n');
    for (place, columns) in &erased.counts.values {
        for (column, values) in columns {
            let _ = writeln!(text, "  {}: {}", safe(&format!("{place}.{column}")), count(*values, "value"));
        }
    }
    if erased.has_more_keys {
        text.push_str(
            "the key of the row was changed too often to be followed: erase it under its other keys too\n",
        );
    } else if !erased.is_complete {
        text.push_str(
            "such rows are still being written: the last pass found some, and the same command erases what came later\n",
        );
    }
    text.push_str(&handed_over(erased));
    text
}

/// What may hold it besides, and is out of reach.
fn handed_over(erased: &Erased) -> String {
    let mut lines = String::new();
    let were = |number: i64, of: &str| {
        if number == 1 { format!("1 {of} was") } else { format!("{number} {of}s were") }
    };
    match erased.exports {
        Some(0) => {}
        Some(exports) => {
            let _ = writeln!(
                lines,
                "{} handed over before and may hold it: `threadline evidence show --subject export_delivery --history` shows them",
                were(exports, "export")
            );
        }
        None => lines
            .push_str("exports that were handed over before may hold it; they cannot be seen from here\n"),
    }
    match erased.archives {
        Some(0) => {}
        Some(archives) => {
            let _ = writeln!(
                lines,
                "{} made by purges before and may hold it: `threadline retention archives` shows them",
                were(archives, "archive")
            );
        }
        None => lines
            .push_str("archives that purges have made before may hold it; they cannot be seen from here\n"),
    }
    if erased.purges.is_some_and(|purges| purges > 0) {
        lines.push_str(
            "a purge is on, or was interrupted: if it archives, its file may hold it, and is recorded once it is whole; ask again when one has ended\n",
        );
    }
    lines
}
