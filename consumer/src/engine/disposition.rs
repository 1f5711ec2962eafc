//! From a verdict to what the broker and `outbox.failures` are told.

use std::time::Duration;

use async_nats::jetstream::AckKind;
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

/// What follows from a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Done: the message goes, and so does an earlier failure.
    Delivered,
    /// It is a dead letter already: the message goes, the dead letter stays as it is.
    AlreadyDead,
    /// Its row is gone, and no forwarder is owed it: the message goes.
    Obsolete,
    /// Somebody decided that it is not to be delivered: the message goes, their decision stays.
    Discarded,
    /// The message comes again after this long; the failure is recorded first.
    Retry {
        /// Failed attempts, this one included.
        attempts: u32,
        /// The wait.
        delay: Duration,
    },
    /// The message goes; the failure stays as a dead letter, recorded first.
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

    /// What the broker is told.
    #[must_use]
    pub fn ack_kind(self) -> AckKind {
        match self {
            Self::Delivered | Self::Discarded | Self::Obsolete => AckKind::Ack,
            Self::Retry { delay, .. } => AckKind::Nak(Some(delay)),
            Self::Dead { .. } | Self::AlreadyDead => AckKind::Term,
        }
    }

    /// What `outbox.failures` is told; `None` where there is nothing new to tell.
    #[must_use]
    pub fn outcome(self) -> Option<(NextStep, u32)> {
        match self {
            Self::Delivered | Self::Discarded | Self::AlreadyDead | Self::Obsolete => None,
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
    fn every_verdict_has_its_settlement() {
        let second = Duration::from_secs(1);
        let policy =
            RetryPolicy { max_attempts: 3, backoff: Backoff::Exponential { first: second, max: second } };
        let earlier = |attempts| {
            Some(PriorAttempts { attempts, wait: Duration::ZERO, discarded: false, dead: false, gone: false })
        };
        let retry = || Verdict::Retry("time-out".into());
        let cancel = |reason| Verdict::DeadLetter(reason, "gone".into());
        let table = [
            (Verdict::Delivered, None, "ack", None),
            (Verdict::Delivered, earlier(2), "ack", None),
            (Verdict::AlreadyDelivered, None, "ack", None),
            (retry(), None, "nak", Some(1)),
            (retry(), earlier(1), "nak", Some(2)),
            (retry(), earlier(2), "term", Some(3)),
            (retry(), earlier(9), "term", Some(10)),
            (cancel(Reason::AuditEventNotFound), None, "term", Some(1)),
            (cancel(Reason::IdConflict), earlier(1), "term", Some(2)),
        ];
        for (verdict, earlier, told, attempts) in table {
            let settlement =
                Disposition::of(&verdict.clone().into(), earlier, policy, &mut StdRng::seed_from_u64(1));
            let kind = match settlement.ack_kind() {
                AckKind::Ack => "ack",
                AckKind::Nak(Some(delay)) if (second..second * 2).contains(&delay) => "nak",
                AckKind::Term => "term",
                other => panic!("{other:?}"),
            };
            assert_eq!(kind, told, "{verdict:?} after {earlier:?}");
            assert_eq!(
                settlement.outcome().map(|(_, attempts)| attempts),
                attempts,
                "{verdict:?} after {earlier:?}"
            );
        }
        let exhausted = Disposition::of(&retry().into(), earlier(2), policy, &mut StdRng::seed_from_u64(1));
        assert_eq!(exhausted.outcome(), Some((NextStep::Dead(Reason::AttemptsExhausted), 3)));
        let uncharged = Attempt { counts: false, ..retry().into() };
        let settlement = Disposition::of(&uncharged, earlier(2), policy, &mut StdRng::seed_from_u64(1));
        assert_eq!(settlement.outcome().map(|(_, attempts)| attempts), Some(2), "no attempt is used");
    }
}
