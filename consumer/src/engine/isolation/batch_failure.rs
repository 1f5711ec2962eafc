//! How a forwarder fails on a batch, into which parts the batch is split then, and how often that may happen.

use std::{ops::Range, time::Duration};

use common::failures::{FailureKind, Reason};

use crate::{engine::liveness::ActivityCounter, forwarder::Verdict};

/// How a forwarder failed on a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchFailure {
    #[error("{0}")]
    Rejected(String),
    /// Perhaps the event, perhaps the target.
    #[error("{0}")]
    Failed(String),
    /// The target says that it is away, and serves others.
    #[error("{error}")]
    Unavailable {
        /// Its own message.
        error: String,
        /// How long that took.
        after: Duration,
    },
    #[error("the forwarder panicked: {0}")]
    Panic(String),
    #[error("the forwarder did not finish within {0:?}")]
    Timeout(Duration),
}

/// Into so many parts a batch is split that fails slowly: each level of halves would cost the same time again.
const PARTS_OF_SLOW: usize = 16;

impl BatchFailure {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::Rejected(_) | Self::Failed(_) | Self::Unavailable { .. } => FailureKind::Error,
            Self::Panic(_) => FailureKind::Panic,
            Self::Timeout(_) => FailureKind::Timeout,
        }
    }

    /// What a failure of a single event means for it.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Rejected(error) | Self::Failed(error) => Verdict::DeadLetter(Reason::SchemaMismatch, error),
            Self::Unavailable { .. } | Self::Panic(_) | Self::Timeout(_) => Verdict::Retry(self.to_string()),
        }
    }

    /// What it says of a target that fails for all.
    pub(super) fn of_target(&self) -> String {
        match self {
            Self::Timeout(after) => format!("the forwarder does not answer within {after:?}"),
            failure => failure.to_string(),
        }
    }

    /// Whether only few more like it may be waited for, where a batch may take `limit`.
    pub(super) fn is_slow(&self, limit: Duration) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Unavailable { after, .. } => *after >= limit / 2,
            Self::Rejected(_) | Self::Failed(_) | Self::Panic(_) => false,
        }
    }

    /// The parts of a batch that are tried next.
    pub(super) fn parts(
        &self,
        batch: Range<usize>,
        limit: Duration,
    ) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let parts = if self.is_slow(limit) { PARTS_OF_SLOW } else { 2 }.min(batch.len());
        let edge = move |part| batch.start + batch.len() * part / parts;
        (0..parts).map(move |part| edge(part)..edge(part + 1))
    }
}

/// How often more a target may fail in one way without a sign of life in between.
pub(super) struct ConsecutiveLimit {
    max: u32,
    remaining: u32,
    seen: u64,
}

impl ConsecutiveLimit {
    pub(super) fn new(max: u32, activity: &ActivityCounter) -> Self {
        Self { max, remaining: max, seen: activity.count() }
    }

    /// Counts a failure; `false` when it is one too many.
    pub(super) fn allow(&mut self, activity: &ActivityCounter) -> bool {
        let now = activity.count();
        if self.seen != now {
            (self.seen, self.remaining) = (now, self.max);
        }
        let may = self.remaining > 0;
        self.remaining = self.remaining.saturating_sub(1);
        may
    }
}
