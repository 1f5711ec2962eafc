//! What the commands of receipts have in common: the timeline, the signal that ends them, the line that says how far they are, and why
//! they fail.

use std::time::Duration;

use anyhow::anyhow;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use sqlx::postgres::PgPoolOptions;
use threadline::{Timeline, receipts::ReceiptError};

use crate::cli::{
    answer::{Answer, Failure},
    database::{Interrupt, runtime},
    read::{check_timeline, safe},
    settings::Settings,
};

/// Connections of a command: the one that reads, and the one that writes.
const CONNECTIONS: u32 = 2;

/// How often the line on the terminal is drawn.
const DRAW: Duration = Duration::from_millis(200);

/// Whether a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Does something with the timeline that the settings name.
pub(super) fn on_timeline(
    settings: Settings,
    access: Access,
    work: impl AsyncFnOnce(&Timeline, &mut Interrupt) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let Settings { options, schema, .. } = settings;
    let options = match access {
        // The server sees to it that nothing is written.
        Access::ReadOnly => options.options([("default_transaction_read_only", "on")]),
        Access::ReadWrite => options,
    };
    let runtime = runtime()?;
    let answer = runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        tokio::select! {
            checked = check_timeline(&options, &schema) => checked?,
            () = interrupt.come() => return Err(interrupted()),
        }
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options);
        work(&Timeline::new(pool, schema), &mut interrupt).await
    });
    // A statement that was left is not waited for.
    runtime.shutdown_background();
    answer
}

/// The end of some work, unless a signal comes first.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, ReceiptError>>,
    interrupt: &mut Interrupt,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done.map_err(|error| failed(&error)),
        () = interrupt.come() => Err(interrupted()),
    }
}

fn interrupted() -> Failure {
    Failure::Failed(anyhow!("interrupted: nothing was written"))
}

/// Refusals of what the database is now: the same arguments may do another time.
const OF_STATE: [&str; 6] =
    ["standby", "sealed_elsewhere", "no_receipts", "not_installed", "rights", "row_too_large"];

/// Why there is no answer, with its term.
pub(super) fn failed(error: &ReceiptError) -> Failure {
    match error.term() {
        Some(term) if OF_STATE.contains(&term) => Failure::Failed(anyhow!(safe(&format!("{term}: {error}")))),
        Some(term) => Failure::Misused(safe(&format!("{term}: {error}"))),
        None => Failure::Failed(anyhow!(safe(&errors::line(error)))),
    }
}

/// A line on a terminal's standard error, and nothing elsewhere.
pub(super) fn progress(what: &'static str) -> (ProgressBar, impl FnMut(u64)) {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(DRAW);
    let shown = bar.clone();
    (bar, move |count| shown.set_message(format!("{} {what}", HumanCount(count))))
}
