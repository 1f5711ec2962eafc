//! Columns of the audit table that go, or come back, while a process runs. An event is delivered without one that is optional, as
//! if it were NULL; it should be reported before it is seen in the timeline.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use common::identifier::{ForwarderId, TableName};

/// What one forwarder's workers have read of the table's columns.
#[derive(Debug, Clone, Default)]
pub struct ColumnWatch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Every column that was ever read.
    ever: Vec<&'static str>,
    /// Those of them that are gone.
    gone: Vec<&'static str>,
    /// When the latest of those that reported them had read them.
    at: Option<Instant>,
}

impl ColumnWatch {
    /// Takes note of the columns that were there at some time, and says once of each change what is gone.
    pub(crate) fn observe(
        &self,
        forwarder: &ForwarderId,
        table: &TableName,
        read: &[&'static str],
        looked: Instant,
    ) {
        let mut seen = self.seen();
        if seen.at.is_some_and(|at| looked < at) {
            return;
        }
        seen.at = Some(looked);
        for name in read {
            if !seen.ever.contains(name) {
                seen.ever.push(name);
            }
        }
        let gone: Vec<&str> = seen.ever.iter().copied().filter(|name| !read.contains(name)).collect();
        if gone == seen.gone {
            return;
        }
        if gone.is_empty() {
            tracing::info!(forwarder = %forwarder, "{table} has all its columns again");
        } else {
            tracing::warn!(
                forwarder = %forwarder,
                "{table} has no column {} any more: it counts as NULL from now on; give it its name back, or see in \
                 docs/events.md what becomes of an event without it",
                gone.join(", ")
            );
        }
        seen.gone = gone;
    }

    /// Whether there were columns that are none of these.
    pub(crate) fn has_more_than(&self, read: &[&'static str]) -> bool {
        self.seen().ever.iter().any(|name| !read.contains(name))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
