//! `threadline retention purge`.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::anyhow;
use sqlx::postgres::PgPoolOptions;
use threadline::{
    ActorRef, Timeline,
    capture::Refusal,
    query::Instant,
    retention::{
        Archive, Archived, BATCH_SIZE, BATCH_SIZE_MAX, BATCHES_MAX, Policy, PurgeError, PurgeOptions, Purged,
    },
};

use crate::cli::{
    answer::{Answer, Failure},
    capture::actor,
    database::{Interrupt, connect, runtime},
    read::render::{json, safe},
    settings::{Settings, Target},
    times,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Counts what would be deleted, and deletes nothing.
    #[arg(long, short, conflicts_with = "execute")]
    dry_run: bool,
    /// Deletes.
    #[arg(long)]
    execute: bool,
    /// Rows that one transaction deletes at most. More of them delete faster, and writers wait for longer.
    #[arg(long, value_name = "ROWS", default_value_t = BATCH_SIZE, value_parser = clap::value_parser!(u32).range(1..=i64::from(BATCH_SIZE_MAX)))]
    batch_size: u32,
    /// Transactions at most; the same command goes on behind them.
    #[arg(long, value_name = "N", default_value_t = BATCHES_MAX, value_parser = clap::value_parser!(u32).range(1..))]
    max_batches: u32,
    /// Deletes only what is older than this too: a date in UTC, a time with its offset, or so long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = times::at::<Instant>)]
    cutoff: Option<Instant>,
    /// The shortest pause between two transactions, such as 50ms; it is never shorter than the transaction took.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = humantime::parse_duration)]
    sleep: Duration,
    /// Who does it, such as admin:a1; without it, the service account of the database's user.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Connections: one for the work, one to say how it ended where that one was lost, and one to renew the lease while the work is an archive.
const CONNECTIONS: u32 = 3;

pub(crate) fn run(target: Target, arguments: Arguments) -> Result<Answer, Failure> {
    if !arguments.dry_run && !arguments.execute {
        let reason = "say which it is: --dry-run counts what would be deleted, --execute deletes it";
        return Err(Failure::Misused(format!("execute_missing: {reason}")));
    }
    let Settings { options, schema, retention, export, .. } = Settings::read(target)?;
    let section = retention.ok_or_else(|| Refusal {
        term: "disabled",
        reason: "the settings have no section [retention], and nothing is deleted".to_owned(),
        hint: Some("set enabled = true and keep_days in it".to_owned()),
    })?;
    let policy = Policy::read(&section)?;
    let archive = Archive::read(&section)?.map(|archive| match (&archive.key, export.key) {
        (None, Some(key)) => archive.key(key),
        _ => archive,
    });
    let as_json = arguments.json;
    let mut purge = PurgeOptions::default();
    purge.batch_size = arguments.batch_size;
    purge.max_batches = arguments.max_batches;
    purge.sleep = arguments.sleep;
    purge.cutoff = arguments.cutoff.map(Instant::time);
    purge.dry_run = arguments.dry_run;
    purge.actor = arguments.actor;
    purge.archive = archive;
    let runtime = runtime()?;
    let purged = runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        // Asked first, so that a database that is away is said by its place.
        drop(connect(&options).await?);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options);
        let timeline = Timeline::new(pool, schema);
        let shows_progress = !as_json && std::io::stderr().is_terminal();
        let progress = |purged: &Purged| {
            if shows_progress {
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(purged));
            }
        };
        let purged = timeline.purge_until(&policy, &purge, interrupt.come(), progress).await;
        if shows_progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        purged.map_err(failed)
    })?;
    let text = if as_json { json(&purged).map_err(anyhow::Error::new)? } else { summary(&purged) };
    Ok(text.into())
}

/// Settings and arguments that cannot be used end otherwise than a run that failed.
fn failed(error: PurgeError) -> Failure {
    match error {
        PurgeError::Refused(refusal)
            if ["disabled", "cutoff", "option_invalid", "archive_key", "table_unknown"]
                .contains(&refusal.term) =>
        {
            refusal.into()
        }
        error => Failure::Failed(match error.term() {
            Some(term) => anyhow!("{term}: {}", errors::line(&error)),
            None => anyhow::Error::new(error),
        }),
    }
}

/// A line for people.
fn line(purged: &Purged) -> String {
    let Purged { deleted_changes, deleted_transactions, deleted_actions, .. } = purged;
    let verb = if purged.dry_run { "would delete" } else { "deleted" };
    format!(
        "{verb} {}, {} and {}",
        count(*deleted_changes, "change"),
        count(*deleted_transactions, "transaction"),
        count(*deleted_actions, "action")
    )
}

fn count(number: u64, of: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {of}{plural}")
}

/// All of it for people.
fn summary(purged: &Purged) -> String {
    let mut text = line(purged);
    if let Some(run) = purged.run {
        let batches = if purged.batches_run == 1 { "batch" } else { "batches" };
        let _ = write!(
            text,
            " in {} {batches} and {}.{} s (run {run})",
            purged.batches_run,
            purged.duration_ms / 1_000,
            purged.duration_ms % 1_000 / 100
        );
    }
    text.push('\n');
    for (table, number) in &purged.tables {
        let _ = writeln!(text, "  {}: {}", safe(table), count(*number, "change"));
    }
    if let Some(Archived { location, files, rows, bytes, .. }) = &purged.archived {
        let _ = if purged.dry_run {
            writeln!(text, "before that it would be archived in {}/RUN", safe(location.trim_end_matches('/')))
        } else {
            let (files, rows) = (count(*files, "file"), count(*rows, "row"));
            writeln!(text, "archived before: {rows}, {bytes} bytes in {files} in {}", safe(location))
        };
    }
    if purged.changed > 0 {
        let _ = writeln!(
            text,
            "kept: {}, which somebody has changed after the archive; the next purge archives what is there then",
            count(purged.changed, "row")
        );
    }
    if purged.kept_actions > 0 {
        let _ = writeln!(
            text,
            "{} of that age stay: captured transactions that are kept are linked to them, or capture is switched on again by them",
            count(purged.kept_actions, "action")
        );
    }
    if !purged.is_complete {
        text.push_str(
            "there may be more: as many batches were run as --max-batches allows; the same command goes on\n",
        );
    }
    text
}
