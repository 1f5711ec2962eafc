//! Whether a target answers, and takes events, at all: what one event cannot tell of itself.

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
pub struct Pulse(Arc<Signs>);

#[derive(Debug, Default)]
struct Signs {
    answers: Beats,
    deliveries: Beats,
}

impl Pulse {
    /// Answers of any kind.
    pub(crate) fn answers(&self) -> &Beats {
        &self.0.answers
    }

    /// Answers that an event is in the target.
    pub(crate) fn deliveries(&self) -> &Beats {
        &self.0.deliveries
    }
}

/// Counts one kind of sign.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    count: AtomicU64,
    /// Events that failed alone while there was no other sign, with the count at that time.
    doubtful: Mutex<HashMap<Uuid, u64>>,
}

/// How many doubtful events are remembered; those that are forgotten are doubted once more.
const DOUBTFUL_MAX: usize = 10_000;

impl Beats {
    /// There was one.
    pub(crate) fn beat(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there was one since this event failed alone last, or since the count was `since`.
    pub(crate) fn proves(&self, event: Uuid, since: u64) -> bool {
        let now = self.count();
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let since = doubtful.remove(&event).unwrap_or(since).min(since);
        if since == now {
            if doubtful.len() >= DOUBTFUL_MAX {
                doubtful.clear();
            }
            doubtful.insert(event, now);
        }
        since != now
    }
}
