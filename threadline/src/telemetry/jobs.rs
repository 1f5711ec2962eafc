//! Events of exports in the background. A job is named by its id, which the database has made.

use std::time::Duration;

use uuid::Uuid;

use super::milliseconds;

/// An attempt at a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) job: Uuid,
    /// From 1.
    pub(crate) attempt: i32,
}

/// It was asked for, and its row is committed. [`add`](crate::export::jobs::add) says so itself; whoever has asked with
/// [`add_within`](crate::export::jobs::add_within) says it after the commit.
pub fn added(job: Uuid) {
    tracing::debug!(name: "threadline.export.job.added", %job);
}

/// A worker has begun an attempt.
pub(crate) fn taken(Attempt { job, attempt }: Attempt) {
    tracing::debug!(name: "threadline.export.job.taken", %job, attempt);
}

/// It is stored, and its row says so.
pub(crate) fn completed(Attempt { job, attempt }: Attempt, rows: u64, bytes: u64, took: Duration) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.export.job.completed", %job, attempt, rows, bytes, duration_ms);
}

/// An attempt has failed; there is another one unless it was the last.
pub(crate) fn failed(Attempt { job, attempt }: Attempt, error: &'static str, is_final: bool) {
    tracing::debug!(name: "threadline.export.job.failed", %job, attempt, error, is_final);
}

/// The job was somebody else's meanwhile, or was cancelled: what this attempt has stored is not the export.
pub(crate) fn lost(Attempt { job, attempt }: Attempt, took: Duration) {
    tracing::debug!(name: "threadline.export.job.lost", %job, attempt, duration_ms = milliseconds(took));
}

/// The worker was told to stop: the next one goes on.
pub(crate) fn given_back(Attempt { job, attempt }: Attempt, took: Duration) {
    tracing::debug!(name: "threadline.export.job.given_back", %job, attempt, duration_ms = milliseconds(took));
}

/// How an attempt ended could not be said to the database; it is said again.
pub(crate) fn unsaid(job: Uuid, error: &'static str) {
    tracing::debug!(name: "threadline.export.job.unsaid", %job, error);
}

/// What an earlier attempt has left could not be gone on with.
pub(crate) fn begun_again(job: Uuid, error: &'static str) {
    tracing::debug!(name: "threadline.export.job.begun_again", %job, error);
}

/// Its time is over, and what it has stored is deleted.
pub(crate) fn expired(job: Uuid) {
    tracing::debug!(name: "threadline.export.job.expired", %job);
}

/// Its time is over, and what it has stored could not be deleted: it is tried again.
pub(crate) fn not_deleted(job: Uuid, error: &'static str) {
    tracing::warn!(%job, error, "what an export job has stored could not be deleted");
}

/// A worker could not do something, and goes on.
pub(crate) fn worker_failed(error: &'static str) {
    tracing::warn!(error, "a worker of exports could not go on, and tries again");
}

/// Schedules that were due have made so many jobs.
pub(crate) fn schedules_fired(fired: usize) {
    tracing::debug!(name: "threadline.export.schedules.fired", fired);
}
