//! What a leader does besides relaying, whatever its sink: prune the log and thin the rounds. And, leading or not, a look at
//! the trigger.

pub mod prune;
pub mod retention;

use std::time::{Duration, Instant};

use metrics::{counter, gauge};

use super::capture::{self, Capture};
use crate::{
    database::Database,
    outbox::reader::rounds::{self, StreamPosition},
    process::{
        health::{Progress, Resumed},
        telemetry::names,
    },
    session::Session,
};

/// Marks outlive whatever looks for a mark of some age by this, so that one just older is always found.
const MARK_MARGIN: Duration = Duration::from_secs(3_600);

/// How long a round of housekeeping may take: pruning a long log takes its time, a silently dropped connection never ends.
pub const RUN_TIMEOUT: Duration = Duration::from_secs(600);

/// How many rows of `outbox.rounds` one statement thins.
const THIN_ROWS: i64 = 10_000;

/// Prunes everything below the horizon, batch by batch; returns how many entries went.
///
/// # Errors
/// When the database is away.
pub async fn prune(
    connection: &mut Session,
    floor: Option<StreamPosition>,
    retention: Duration,
) -> Result<u64, sqlx::Error> {
    let Some(horizon) = prune::horizon(connection, floor, retention).await? else {
        return Ok(0);
    };
    let mut pruned = 0;
    let mut after = None;
    loop {
        let batch = prune::batch(connection, &horizon, after).await?;
        let Some(last) = batch.last else {
            if pruned > 0 {
                tracing::info!(entries = pruned, "pruned the log");
            }
            counter!(names::OUTBOX_PRUNED).increment(pruned);
            return Ok(pruned);
        };
        after = Some(last);
        pruned += batch.entries;
    }
}

/// Thins a reader's rows, keeping those that something may still look for up to `age`.
///
/// # Errors
/// When the database is away.
pub async fn thin(connection: &mut Session, reader: &str, age: Duration) -> Result<(), sqlx::Error> {
    while rounds::thin(connection, reader, age + MARK_MARGIN, THIN_ROWS).await? == THIN_ROWS.cast_unsigned() {
    }
    Ok(())
}

/// How often capture is checked, at least: what is wrong with it makes unready within seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks at the trigger, leading or not, and reports a fault that only a person can fix; says so `every` so often, and when it
/// changes. It never ends by itself.
pub async fn watch_capture(database: Database, progress: Progress, every: Duration) {
    let mut said: Option<(Capture, Instant)> = None;
    loop {
        let looked = async { capture::state(&mut database.connect().await?).await };
        match database.with_timeout(looked).await {
            Ok(state) => {
                let is_news = said.as_ref().is_none_or(|(last, at)| *last != state || at.elapsed() >= every);
                if let Some(Resumed { away, .. }) = progress.resumed() {
                    tracing::debug!(
                        away_ms = crate::process::millis(away),
                        "the capture trigger can be read again"
                    );
                }
                report(&state, &progress, is_news);
                if is_news {
                    said = Some((state, Instant::now()));
                }
            }
            // A relay says so too, and louder, unless only this one gets no connection, for example of a pool that is taken.
            Err(error) => {
                let error = errors::line(&error);
                tracing::debug!(error, "could not read the capture trigger");
                progress.waiting(format!("source database: {error}"));
            }
        }
        tokio::time::sleep(every.min(LOOK_INTERVAL)).await;
    }
}

fn report(state: &Capture, progress: &Progress, is_news: bool) {
    let faults = state.faults();
    gauge!(names::CAPTURE_ATTACHED).set(if faults.is_empty() { 1.0 } else { 0.0 });
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    gauge!(names::CAPTURE_MISSED).set(state.missed() as f64);
    for (what, remedy) in faults.iter().filter(|_| is_news) {
        tracing::error!(remedy, "{what}");
    }
    progress.fault(faults.into_iter().next().map(|(what, remedy)| format!("{what}: {remedy}")));
}
