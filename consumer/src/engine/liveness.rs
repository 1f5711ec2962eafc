//! Whether a target answers, and takes events, at all: the failure of one event alone cannot show that.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;

/// What one target has done for all its workers. One that answers is not away, whatever else hangs; one that takes events is
/// not broken, whatever else fails.
#[derive(Debug, Clone, Default)]
pub struct TargetLiveness(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    answers: ActivityCounter,
    deliveries: ActivityCounter,
    written: ActivityCounter,
    /// Events that it was away for while it served others; whether that was proven to be because of them.
    suspects: Mutex<HashMap<Uuid, bool>>,
}

impl TargetLiveness {
    /// Returns of any kind.
    pub(crate) fn answers(&self) -> &ActivityCounter {
        &self.0.answers
    }

    /// Returns that an event is in the target.
    pub(crate) fn deliveries(&self) -> &ActivityCounter {
        &self.0.deliveries
    }

    /// Returns that an event is in the target and was not before. A target without room still has what it had.
    pub(crate) fn written(&self) -> &ActivityCounter {
        &self.0.written
    }

    /// Remembers an event that the target was away for while it served others.
    pub(crate) fn suspect(&self, event: Uuid) {
        let mut suspects = self.suspects();
        if suspects.len() >= SUSPECTED_MAX {
            suspects.clear();
        }
        suspects.entry(event).or_default();
    }

    /// Whether it is remembered.
    pub(crate) fn is_suspected(&self, event: Uuid) -> bool {
        self.suspects().contains_key(&event)
    }

    /// Remembers that it is this event for which the target was away.
    pub(crate) fn set_at_fault(&self, event: Uuid) {
        self.suspects().insert(event, true);
    }

    /// Whether that is remembered.
    pub(crate) fn is_at_fault(&self, event: Uuid) -> bool {
        self.suspects().get(&event).copied().unwrap_or_default()
    }

    fn suspects(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        self.0.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one kind of activity.
#[derive(Debug, Default)]
pub(crate) struct ActivityCounter {
    count: AtomicU64,
    /// Events that failed alone, with the count at that time.
    suspected: Mutex<HashMap<Uuid, u64>>,
}

/// How many suspected events are remembered; those that are forgotten are suspected once more.
const SUSPECTED_MAX: usize = 10_000;

impl ActivityCounter {
    /// Counts one.
    pub(crate) fn record(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there was one since this event failed alone last, or since the count was `since`.
    pub(crate) fn advanced_since(&self, event: Uuid, since: u64) -> bool {
        let now = self.count();
        let mut suspected = self.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        let since = suspected.get(&event).copied().unwrap_or(since).min(since);
        if suspected.len() >= SUSPECTED_MAX {
            suspected.clear();
        }
        suspected.insert(event, now);
        since != now
    }
}
