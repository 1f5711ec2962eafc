//! A circuit breaker on the rate of dead letters: a forwarder that turns one event after the other into a dead letter is
//! held, because then the target has changed, or the settings are wrong, and not the events.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::failures::Reason;
use tokio::time::Instant;

/// What the limit is counted over.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts the dead letters of one forwarder in this process.
#[derive(Debug, Clone)]
pub struct DeadLetterBreaker {
    /// Dead letters of one reason within [`WINDOW`]; 0 switches the breaker off.
    limit: usize,
    /// When each was written, by reason; never more than `limit`.
    seen: Arc<Mutex<HashMap<Reason, VecDeque<Instant>>>>,
}

impl DeadLetterBreaker {
    /// Lets `limit` dead letters of one reason pass in a minute; 0 lets all pass.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, seen: Arc::default() }
    }

    /// Looks at the dead letters that a batch is about to leave. What is no reference at all is not among them: it says
    /// nothing about this target, and is not the pipeline's own.
    ///
    /// # Errors
    /// When one reason has become too frequent; then nothing may be settled.
    pub fn check(&self, reasons: &[Reason]) -> Result<(), BreakerOpen> {
        if self.limit == 0 || reasons.is_empty() {
            return Ok(());
        }
        let mut counts: HashMap<Reason, usize> = HashMap::new();
        for reason in reasons {
            *counts.entry(*reason).or_default() += 1;
        }
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, count) in counts {
            if reason == Reason::MalformedReference {
                continue;
            }
            let times = seen.entry(reason).or_default();
            while times.front().is_some_and(|time| now.duration_since(*time) >= WINDOW) {
                times.pop_front();
            }
            if times.len() + count > self.limit {
                return Err(BreakerOpen { reason, count: times.len() + count, limit: self.limit });
            }
        }
        Ok(())
    }

    /// Counts the dead letters that a batch has left.
    pub fn record(&self, reasons: &[Reason]) {
        if self.limit == 0 {
            return;
        }
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in reasons {
            let times = seen.entry(*reason).or_default();
            times.push_back(now);
            // What lies further back than the limit makes no difference.
            if times.len() > self.limit {
                times.pop_front();
            }
        }
    }
}

/// Too many events in a minute would have ended for one reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} events within a minute would become dead letters for the reason {reason} (limit {limit}): held back, \
     because that is a fault of the target or of the settings rather than of the events. Fix it, and delivery continues \
     on by itself; if they are right to end like this, raise consumer.max_dead_letters_per_minute, or set it to 0"
)]
pub struct BreakerOpen {
    /// Which reason.
    pub reason: Reason,
    /// How many.
    pub count: usize,
    /// How many may be.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Reason = Reason::AuditEventNotFound;

    #[tokio::test(start_paused = true)]
    async fn a_few_pass_in_a_minute_and_more_do_not() {
        let breaker = DeadLetterBreaker::new(50);
        assert_eq!(breaker.check(&[GONE; 50]), Ok(()));
        assert_eq!(breaker.check(&[GONE; 50]), Ok(()), "a look is no count");
        breaker.record(&[GONE; 50]);
        let open = breaker.check(&[GONE]).expect_err("one too many");
        assert_eq!((open.reason, open.count), (GONE, 51));
        assert_eq!(breaker.check(&[Reason::IdConflict; 50]), Ok(()), "each reason counts on its own");
        tokio::time::advance(WINDOW).await;
        assert_eq!(breaker.check(&[GONE; 50]), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_too_much_by_itself_is_held_however_long_it_waits() {
        let breaker = DeadLetterBreaker::new(50);
        for _ in 0..3 {
            assert!(breaker.check(&[GONE; 51]).is_err());
            tokio::time::advance(WINDOW * 2).await;
        }
        assert_eq!(breaker.check(&[Reason::MalformedReference; 5_000]), Ok(()), "no fault of the target");
        assert!(breaker.check(&[Reason::UnknownForwarder; 51]).is_err(), "settings are wrong somewhere");
        assert_eq!(DeadLetterBreaker::new(0).check(&[GONE; 5_000]), Ok(()), "switched off");
    }
}
