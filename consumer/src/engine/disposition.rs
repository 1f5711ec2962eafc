//! From a verdict to what becomes of an event: for `outbox.failures`, and for the caller.

use std::time::Duration;

use common::{
    backoff::Backoff,
    failures::{NextStep, PriorAttempts, Reason},
};
use rand::Rng;

use crate::{engine::isolation::Attempt, forwarder::Verdict};

/// How often an event is tried, and when.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Failed attempts after which it is dead.
    pub max_attempts: u32,
    /// Waits between attempts.
    pub backoff: Backoff,
}

/// What becomes of one item of work, and so of the message it came from. [`Disposition::of`] decides for an attempt, and for a row
/// that is gone or cannot be read; the dispatcher and `missing_rows` for what is not tried; `batch_outcome` for what is malformed or
/// for another forwarder, and looks up the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Done: the message is acknowledged, and an earlier failure removed.
    Delivered,
    /// It is a dead letter already: the message is terminated, the dead letter stays as it is.
    AlreadyDead,
    /// Its row is gone, and no forwarder is owed it: the message is acknowledged.
    Obsolete,
    /// An operator decided that it is not to be delivered: the message is acknowledged, the decision stays.
    Discarded,
    /// It is another forwarder's: the message is acknowledged.
    Skipped,
    /// Nothing was tried: the message is redelivered after this long, or at once.
    Deferred(Option<Duration>),
    /// The message is redelivered after this long; the failure is recorded first.
    Retry {
        /// Failed attempts, this one included.
        attempts: u32,
        /// The wait.
        delay: Duration,
    },
    /// The message is terminated; the failure stays as a dead letter, recorded first.
    Dead {
        /// Failed attempts, this one included.
        attempts: u32,
        /// Why.
        reason: Reason,
    },
}

impl Disposition {
    /// Decides, by the attempts that `outbox.failures` knows of.
    pub fn of(
        attempt: &Attempt,
        earlier: Option<PriorAttempts>,
        policy: RetryPolicy,
        rng: &mut impl Rng,
    ) -> Self {
        let before = earlier.map_or(0, |earlier| earlier.attempts);
        let attempts = before.saturating_add(1);
        match &attempt.verdict {
            Verdict::Delivered | Verdict::AlreadyDelivered => Self::Delivered,
            Verdict::Retry(_) if !attempt.counts => {
                Self::Retry { attempts: before, delay: policy.backoff.delay(attempts, rng) }
            }
            Verdict::Retry(_) if attempts < policy.max_attempts => {
                Self::Retry { attempts, delay: policy.backoff.delay(attempts, rng) }
            }
            Verdict::Retry(_) => Self::Dead { attempts, reason: Reason::AttemptsExhausted },
            Verdict::DeadLetter(reason, _) => Self::Dead { attempts, reason: *reason },
        }
    }

    /// What is stored in `outbox.failures`; `None` where there is nothing new.
    #[must_use]
    pub fn outcome(self) -> Option<(NextStep, u32)> {
        match self {
            Self::Delivered
            | Self::Discarded
            | Self::Skipped
            | Self::Deferred(_)
            | Self::AlreadyDead
            | Self::Obsolete => None,
            Self::Retry { attempts, delay } => Some((NextStep::Retry(delay), attempts)),
            Self::Dead { attempts, reason } => Some((NextStep::Dead(reason), attempts)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn every_verdict_has_its_disposition() {
        let second = Duration::from_secs(1);
        let policy =
            RetryPolicy { max_attempts: 3, backoff: Backoff::Exponential { first: second, max: second } };
        let earlier = |attempts| {
            Some(PriorAttempts { attempts, wait: Duration::ZERO, discarded: false, dead: false, gone: false })
        };
        let retry = || Verdict::Retry("time-out".into());
        let cancel = |reason| Verdict::DeadLetter(reason, "gone".into());
        let table = [
            (Verdict::Delivered, None, "delivered", None),
            (Verdict::Delivered, earlier(2), "delivered", None),
            (Verdict::AlreadyDelivered, None, "delivered", None),
            (retry(), None, "retry", Some(1)),
            (retry(), earlier(1), "retry", Some(2)),
            (retry(), earlier(2), "dead", Some(3)),
            (retry(), earlier(9), "dead", Some(10)),
            (cancel(Reason::AuditEventNotFound), None, "dead", Some(1)),
            (cancel(Reason::IdConflict), earlier(1), "dead", Some(2)),
        ];
        for (verdict, earlier, expected, attempts) in table {
            let disposition =
                Disposition::of(&verdict.clone().into(), earlier, policy, &mut StdRng::seed_from_u64(1));
            let kind = match disposition {
                Disposition::Delivered => "delivered",
                Disposition::Retry { delay, .. } if (second..second * 2).contains(&delay) => "retry",
                Disposition::Dead { .. } => "dead",
                other => panic!("{other:?}"),
            };
            assert_eq!(kind, expected, "{verdict:?} after {earlier:?}");
            assert_eq!(
                disposition.outcome().map(|(_, attempts)| attempts),
                attempts,
                "{verdict:?} after {earlier:?}"
            );
        }
        let exhausted = Disposition::of(&retry().into(), earlier(2), policy, &mut StdRng::seed_from_u64(1));
        assert_eq!(exhausted.outcome(), Some((NextStep::Dead(Reason::AttemptsExhausted), 3)));
        let uncharged = Attempt { counts: false, ..retry().into() };
        let disposition = Disposition::of(&uncharged, earlier(2), policy, &mut StdRng::seed_from_u64(1));
        assert_eq!(disposition.outcome().map(|(_, attempts)| attempts), Some(2), "no attempt is used");
    }
}
