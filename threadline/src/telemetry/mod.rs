//! What the library says of its own work: events of `tracing`, and, with the feature `metrics`, figures for the recorder of the host's process.
//!
//! Everything that is emitted is emitted here. The arguments are numbers, flags and words of this program: a value of a row, an actor or a
//! free text cannot be handed over. What happens in a transaction is said after its commit; where the host commits, the host says it:
//!
//! ```no_run
//! use threadline::{Action, ActorRef, Status, Timeline, telemetry};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let mut transaction = timeline.pool().begin().await?;
//! Action::new("user.suspended", ActorRef::anonymous()).record(&mut transaction, timeline.schema()).await?;
//! transaction.commit().await?;
//! telemetry::action_recorded(Status::Ok);
//! # Ok(())
//! # }
//! ```
//!
//! [`names`] lists the figures; `docs/metrics.md` has the same, and the events.

pub(crate) mod erasure;
pub(crate) mod jobs;
pub mod names;
mod recorder;

use std::time::Duration;

use crate::Status;
use recorder::{count, measure, set, shift};

pub use jobs::added as export_job_added;
#[cfg(feature = "metrics")]
pub use recorder::begin;

/// An action was recorded, and its transaction has been committed. [`Timeline::record`](crate::Timeline::record) and
/// [`AuditedTransaction::run`](crate::AuditedTransaction::run) say so themselves.
pub fn action_recorded(status: Status) {
    let status = status.as_str();
    tracing::debug!(name: "threadline.action.recorded", status);
    count(names::ACTIONS_RECORDED, &[("status", status)], 1);
}

/// An audited transaction has been committed; `captured` where there is a row of `audit_transactions`.
/// [`AuditedTransaction::run`](crate::AuditedTransaction::run) says so itself.
pub fn transaction_committed(captured: bool) {
    tracing::debug!(name: "threadline.transaction.committed", captured);
    count(names::TRANSACTIONS_COMMITTED, &[("captured", if captured { "true" } else { "false" })], 1);
}

/// What became of a request of the operator surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// It may be answered.
    Granted,
    /// It may not.
    Denied,
    /// Whether it may could not be found out; it was denied.
    Error,
}

/// It was decided whether a request of the operator surface may be answered.
pub fn operator_authorized(authorization: Authorization) {
    let result = match authorization {
        Authorization::Granted => "granted",
        Authorization::Denied => "denied",
        Authorization::Error => "error",
    };
    tracing::debug!(name: "threadline.operator_surface.authorize", result);
    count(names::OPERATOR_AUTHORIZATIONS, &[("result", result)], 1);
}

/// What the operator surface does a few of at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorTurn {
    /// Answering a request.
    Request,
    /// Showing what is new as it comes.
    Tail,
    /// Handing out a file.
    Download,
}

impl OperatorTurn {
    fn labels(self) -> [(&'static str, &'static str); 1] {
        [("kind", names::TURNS[self as usize])]
    }
}

/// The operator surface has begun one of these.
pub fn operator_turn_began(turn: OperatorTurn) {
    shift(names::OPERATOR_OPEN, &turn.labels(), 1.0);
}

/// It has ended it.
pub fn operator_turn_ended(turn: OperatorTurn) {
    shift(names::OPERATOR_OPEN, &turn.labels(), -1.0);
}

/// As many are there as may be: somebody was told to try again.
pub fn operator_was_busy(turn: OperatorTurn) {
    count(names::OPERATOR_BUSY, &turn.labels(), 1);
}

/// How many tables are captured, are not, and are not on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) covered: usize,
    pub(crate) uncovered: usize,
    pub(crate) expected_uncovered: usize,
}

/// Coverage was looked at. The gauges are of the whole database.
pub(crate) fn health_checked(tables: Tables, is_whole: bool) {
    let Tables { covered, uncovered, expected_uncovered } = tables;
    tracing::debug!(name: "threadline.health.checked", covered, uncovered, expected_uncovered);
    count(names::HEALTH_CHECKS, &[("result", "completed")], 1);
    if is_whole {
        for (state, tables) in names::TABLE_STATES.into_iter().zip([covered, uncovered, expected_uncovered]) {
            set(names::TABLES, &[("state", state)], tables);
        }
    }
}

/// Coverage could not be looked at.
pub(crate) fn health_check_failed(kind: &'static str) {
    tracing::debug!(name: "threadline.health.checked.error", kind);
    count(names::HEALTH_CHECKS, &[("result", "failed")], 1);
}

/// What coverage has found. The gauges are of the whole database.
pub(crate) fn findings_checked(errors: usize, warnings: usize, is_whole: bool) {
    tracing::debug!(name: "threadline.health.findings_checked", errors, warnings);
    if is_whole {
        for (severity, findings) in names::SEVERITIES.into_iter().zip([errors, warnings]) {
            set(names::FINDINGS, &[("severity", severity)], findings);
        }
    }
}

/// A history was cut: there are older changes of the row than the newest ones that were read.
pub(crate) fn row_history_truncated(row_count: usize) {
    tracing::debug!(name: "threadline.row_history.truncated", row_count);
    count(names::HISTORIES_TRUNCATED, &[], 1);
}

/// An export is complete.
pub(crate) fn export_completed(row_count: u64, took: Duration, format: &'static str, truncated: bool) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.export.completed", row_count, duration_ms, format, truncated);
    exported(row_count, took, format, "completed");
}

/// There is no export, or none that is complete.
pub(crate) fn export_failed(row_count: u64, took: Duration, format: &'static str, error_kind: &'static str) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.export.failed", row_count, duration_ms, format, error_kind);
    exported(row_count, took, format, "failed");
}

fn exported(row_count: u64, took: Duration, format: &'static str, result: &'static str) {
    count(names::EXPORTS, &[("format", format), ("result", result)], 1);
    count(names::EXPORTED_ROWS, &[("format", format)], row_count);
    measure(names::EXPORT_SECONDS, &[("format", format)], took);
}

/// A purge, or a dry run, has begun.
pub(crate) fn purge_started(dry_run: bool) {
    tracing::debug!(name: "threadline.retention.purge.start", dry_run);
}

/// What a purge, or a batch of it, has deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    pub(crate) changes: u64,
    pub(crate) transactions: u64,
    /// Batches that have deleted something, so far.
    pub(crate) batches_run: u32,
}

/// A batch of a purge has been committed.
pub(crate) fn batch_purged(deleted: Deleted, took: Duration) {
    let Deleted { changes: deleted_changes, transactions: deleted_transactions, batches_run } = deleted;
    tracing::debug!(
        name: "threadline.retention.batch_purged",
        deleted_changes,
        deleted_transactions,
        batches_run,
        duration_ms = milliseconds(took),
        dry_run = false
    );
    count(names::PURGED_CHANGES, &[], deleted_changes);
    count(names::PURGED_TRANSACTIONS, &[], deleted_transactions);
    measure(names::PURGE_BATCH_SECONDS, &[], took);
}

/// A batch took longer than a statement may: one of fewer rows is tried.
pub(crate) fn batch_halved(table: &'static str, batch_size: u32) {
    tracing::debug!(name: "threadline.retention.batch_halved", table, batch_size);
}

/// A month of changes could not be counted in the time of a statement, and is deleted row by row.
pub(crate) fn month_not_counted() {
    tracing::warn!("it takes too long to count what is in a month of changes: it is deleted row by row");
}

/// A file of an archive is complete, verified and recorded.
pub(crate) fn archived(rows: u64, bytes: u64, took: Duration) {
    tracing::debug!(name: "threadline.retention.archived", rows, bytes, duration_ms = milliseconds(took));
}

/// What a failed purge has left is no archive. `threadline retention archives` does not list it.
pub(crate) fn archive_not_taken_over() {
    tracing::warn!(
        "a file that a failed purge has left in the folder of archives does not verify, and stays"
    );
}

/// A lease could not be renewed; there is still time.
pub(crate) fn lease_not_renewed(error: &'static str) {
    tracing::debug!(error, "a lease was not renewed; it is tried again");
}

/// A purge, or a dry run, has ended well.
pub(crate) fn purge_stopped(deleted: Deleted, took: Duration, dry_run: bool) {
    let Deleted { changes: deleted_changes, transactions: deleted_transactions, batches_run } = deleted;
    let duration_ms = milliseconds(took);
    tracing::debug!(
        name: "threadline.retention.purge.stop",
        deleted_changes,
        deleted_transactions,
        batches_run,
        duration_ms,
        dry_run
    );
    purged("completed", dry_run);
}

/// A purge, or a dry run, has not ended well.
pub(crate) fn purge_failed(error: &'static str, took: Duration, dry_run: bool) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.retention.purge.exception", error, duration_ms, dry_run);
    purged("failed", dry_run);
}

/// Somebody holds a lock on a table of the timeline, or has changed a row of it meanwhile: the batch is tried again.
pub(crate) fn purge_waits(table: &'static str, error: &'static str) {
    tracing::debug!(table, error, "somebody is in the way of a purge; it is tried again");
}

/// A purge of a schedule has deleted what it was to delete, or a part of it.
pub(crate) fn schedule_purged(deleted: Deleted, deleted_actions: u64, is_complete: bool) {
    let Deleted { changes: deleted_changes, transactions: deleted_transactions, .. } = deleted;
    tracing::info!(
        deleted_changes,
        deleted_transactions,
        deleted_actions,
        is_complete,
        "the timeline was purged"
    );
}

/// A purge of a schedule has failed. What the server says of it may be a host's text: it is in the run.
pub(crate) fn schedule_failed(error: &'static str) {
    tracing::warn!(
        error,
        "the timeline was not purged, or not wholly; the next purge goes on; `threadline retention runs` says why"
    );
}

/// What kind an error of the database is of. What it says may be a host's text.
pub(crate) fn kind(error: &sqlx::Error) -> &'static str {
    let Some(error) = error.as_database_error() else {
        return if matches!(error, sqlx::Error::PoolTimedOut) { "no_connection" } else { "connection" };
    };
    match error.code().as_deref() {
        Some("57014") => "took_too_long",
        Some("42501") => "not_permitted",
        Some("55P03") => "locked",
        Some("40001") => "changed_meanwhile",
        Some("40P01") => "deadlock",
        _ => "database",
    }
}

/// Another process purges.
pub(crate) fn purge_skipped() {
    tracing::debug!(name: "threadline.retention.purge.skipped", "another process purges the timeline");
    purged("skipped", false);
}

fn purged(result: &'static str, dry_run: bool) {
    if !dry_run {
        count(names::PURGES, &[("result", result)], 1);
    }
}

/// As many as a number holds.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
