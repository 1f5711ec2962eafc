//! Events of erasures: what kind of subject, and how much; never whom it is about.

use std::time::Duration;

use super::milliseconds;

/// How much an erasure, or a batch of it, has erased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrubbed {
    pub(crate) rows: u64,
    pub(crate) values: u64,
}

/// An erasure, or a dry run, has begun; of a `row`, an `actor` or a `person`.
pub(crate) fn started(kind: &'static str, dry_run: bool) {
    tracing::debug!(name: "threadline.erasure.start", kind, dry_run);
}

/// A batch has been committed.
pub(crate) fn batch_erased(Scrubbed { rows, values }: Scrubbed, took: Duration) {
    tracing::debug!(name: "threadline.erasure.batch_erased", rows, values, duration_ms = milliseconds(took));
}

/// Somebody holds a lock on a table of the timeline, or has changed a row of it meanwhile: the batch is tried again.
pub(crate) fn waits(table: &'static str, error: &'static str) {
    tracing::debug!(table, error, "somebody is in the way of an erasure; it is tried again");
}

/// An erasure, or a dry run, has ended well.
pub(crate) fn stopped(
    kind: &'static str,
    Scrubbed { rows, values }: Scrubbed,
    took: Duration,
    dry_run: bool,
) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.erasure.stop", kind, rows, values, duration_ms, dry_run);
}

/// An erasure, or a dry run, has not ended well.
pub(crate) fn failed(kind: &'static str, error: &'static str, took: Duration, dry_run: bool) {
    let duration_ms = milliseconds(took);
    tracing::debug!(name: "threadline.erasure.exception", kind, error, duration_ms, dry_run);
}
