//! Whether a target answers, and takes events, at all: the failure of one event alone cannot show that.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
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
}

/// Counts one kind of activity.
#[derive(Debug, Default)]
pub(crate) struct ActivityCounter {
    count: AtomicU64,
    /// Events that failed alone while there was no other activity, with the count at that time.
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
        let since = suspected.remove(&event).unwrap_or(since).min(since);
        if since == now {
            if suspected.len() >= SUSPECTED_MAX {
                suspected.clear();
            }
            suspected.insert(event, now);
        }
        since != now
    }
}
