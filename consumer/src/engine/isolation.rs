//! Isolates a forwarder: whatever it does to a batch, every event gets a verdict and its worker continues.

use std::{
    any::Any,
    ops::Range,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{
    event::AuditEvent,
    failures::{FailureKind, Reason},
    identifier::ForwarderId,
    service::telemetry::names,
};
use futures::FutureExt as _;
use metrics::histogram;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::engine::liveness::ActivityCounter;
pub use crate::engine::liveness::TargetLiveness;
use crate::forwarder::{ForwardError, Forwarder, ForwarderFactory, Verdict};

/// The target is away; nothing is known about any event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dependency}")]
pub struct Unavailable {
    /// What is away, and its own words.
    pub dependency: String,
    /// When it asked to be called again, if it did.
    pub retry_after: Option<Duration>,
}

impl Unavailable {
    /// Something that is away and does not say for how long.
    #[must_use]
    pub fn new(dependency: impl Into<String>) -> Self {
        Self { dependency: dependency.into(), retry_after: None }
    }
}

/// One attempt to forward one event: its verdict, and how it failed if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The verdict.
    pub verdict: Verdict,
    /// Says nothing about a delivery.
    pub kind: FailureKind,
    /// Whether a failure counts as an attempt. A time-out does not, where nothing shows that the target is alive.
    pub counts: bool,
    /// From when to when the forwarder had it, the last time; `None` where it was not asked.
    pub called_during: Option<Range<SystemTime>>,
}

impl From<Verdict> for Attempt {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, kind: FailureKind::Error, counts: true, called_during: None }
    }
}

/// How a forwarder failed on a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum BatchFailure {
    #[error("{0}")]
    Rejected(String),
    /// Perhaps the event, perhaps the target.
    #[error("{0}")]
    Failed(String),
    #[error("the forwarder panicked: {0}")]
    Panic(String),
    #[error("the forwarder did not finish within {0:?}")]
    Timeout(Duration),
}

impl BatchFailure {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Rejected(_) | Self::Failed(_) => FailureKind::Error,
            Self::Panic(_) => FailureKind::Panic,
            Self::Timeout(_) => FailureKind::Timeout,
        }
    }

    /// What a failure of a single event means for it.
    fn verdict(self) -> Verdict {
        match self {
            Self::Rejected(error) | Self::Failed(error) => Verdict::DeadLetter(Reason::SchemaMismatch, error),
            Self::Panic(_) | Self::Timeout(_) => Verdict::Retry(self.to_string()),
        }
    }
}

/// One worker's forwarder with its time limit.
pub struct IsolatedForwarder {
    id: ForwarderId,
    factory: Arc<dyn ForwarderFactory>,
    forwarder: Box<dyn Forwarder>,
    limit: Duration,
    liveness: TargetLiveness,
    /// How often the batch has been held because nothing was answered.
    consecutive_holds: u32,
}

/// How often a batch is held because nothing in it was answered, before its events are put off.
const MAX_CONSECUTIVE_HOLDS: u32 = 3;

/// So many failures in a row, with nothing taken in between, are the target's: twice as many as the breaker lets become
/// dead letters, because one event is found by way of all the halves that it is in.
const MAX_CONSECUTIVE_FAILURES: u32 = 100;

/// How often more a target may fail in one way without a sign of life in between.
struct ConsecutiveLimit {
    max: u32,
    remaining: u32,
    seen: u64,
}

impl ConsecutiveLimit {
    fn new(max: u32, activity: &ActivityCounter) -> Self {
        Self { max, remaining: max, seen: activity.count() }
    }

    /// Counts a failure; `false` when it is one too many.
    fn allow(&mut self, activity: &ActivityCounter) -> bool {
        let now = activity.count();
        if self.seen != now {
            (self.seen, self.remaining) = (now, self.max);
        }
        let may = self.remaining > 0;
        self.remaining = self.remaining.saturating_sub(1);
        may
    }
}

impl IsolatedForwarder {
    /// A fresh forwarder that may take `limit` for one batch; `liveness` is its target's.
    #[must_use]
    pub fn new(
        id: ForwarderId,
        factory: Arc<dyn ForwarderFactory>,
        limit: Duration,
        liveness: TargetLiveness,
    ) -> Self {
        let forwarder = factory.build();
        Self { id, factory, forwarder, limit, liveness, consecutive_holds: 0 }
    }

    /// Another batch begins.
    pub fn begin_batch(&mut self) {
        self.consecutive_holds = 0;
    }

    /// One verdict per event, in order. A batch that fails as a whole is halved until the offender stands alone; its
    /// neighbours are written and never charged.
    ///
    /// # Errors
    /// When the target is away. Some events may have been written; writing them again has no effect.
    pub async fn forward(&mut self, events: &[AuditEvent]) -> Result<Vec<Attempt>, Unavailable> {
        let started = Instant::now();
        let mut verdicts: Vec<Attempt> = vec![Verdict::Delivered.into(); events.len()];
        let mut ranges: Vec<Range<usize>> = Vec::new();
        if !events.is_empty() {
            ranges.push(0..events.len());
        }
        // To find one hanging event takes a time-out per halving. More of them without any answer in between, to this
        // worker or another, mean that the target hangs.
        let halvings = events.len().next_power_of_two().ilog2() + 1;
        let mut timeouts = ConsecutiveLimit::new(halvings, self.liveness.answers());
        // The same of errors, which cost less than time-outs.
        let mut failures =
            ConsecutiveLimit::new(halvings + MAX_CONSECUTIVE_FAILURES, self.liveness.deliveries());
        let answers_before = self.liveness.answers().count();
        // Events that failed alone, whatever the cause.
        let mut failed_alone: Vec<(usize, String)> = Vec::new();
        while let Some(range) = ranges.pop() {
            let called_during = SystemTime::now();
            let answer = self.call(&events[range.clone()]).await?;
            let called_during = Some(called_during..SystemTime::now());
            match &answer {
                Err(BatchFailure::Timeout(after)) if !timeouts.allow(self.liveness.answers()) => {
                    if self.may_hold() {
                        return Err(Unavailable::new(format!(
                            "the forwarder does not answer within {after:?}"
                        )));
                    }
                    // It may be the events after all: put off, they let others show whether the target is alive.
                    ranges.push(range);
                    for index in std::mem::take(&mut ranges).into_iter().flatten() {
                        let verdict = BatchFailure::Timeout(*after).verdict();
                        let called_during = called_during.clone();
                        verdicts[index] =
                            Attempt { verdict, kind: FailureKind::Timeout, counts: false, called_during };
                    }
                    break;
                }
                // So many events in a row are not what is wrong.
                Err(BatchFailure::Failed(error)) if !failures.allow(self.liveness.deliveries()) => {
                    return Err(Unavailable::new(error));
                }
                _ => self.record_liveness(&answer),
            }
            match answer {
                Ok(some) => {
                    for (index, verdict) in range.zip(some) {
                        verdicts[index] = Attempt { called_during: called_during.clone(), ..verdict.into() };
                    }
                }
                Err(BatchFailure::Failed(error)) if range.len() == 1 => {
                    verdicts[range.start].called_during = called_during;
                    failed_alone.push((range.start, error));
                }
                Err(failure) if range.len() == 1 => {
                    let kind = failure.kind();
                    let event = events[range.start].id;
                    let counts = !matches!(failure, BatchFailure::Timeout(_))
                        || self.liveness.answers().advanced_since(event, answers_before);
                    verdicts[range.start] =
                        Attempt { verdict: failure.verdict(), kind, counts, called_during };
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        self.attribute_failures(events, failed_alone, &mut verdicts).await?;
        histogram!(names::FORWARD_SECONDS, "forwarder" => self.id.to_string()).record(started.elapsed());
        Ok(verdicts)
    }

    /// What an answer says of the target.
    fn record_liveness(&self, answer: &Result<Vec<Verdict>, BatchFailure>) {
        // A panic is the forwarder's own, and no answer of its target.
        if matches!(answer, Ok(_) | Err(BatchFailure::Rejected(_))) {
            self.liveness.answers().record();
        }
        let taken = |verdict: &Verdict| matches!(verdict, Verdict::Delivered | Verdict::AlreadyDelivered);
        if answer.as_ref().is_ok_and(|verdicts| verdicts.iter().any(taken)) {
            self.liveness.deliveries().record();
        }
    }

    /// Whether a batch without any answer may be held once more, before its events are put off.
    fn may_hold(&mut self) -> bool {
        self.consecutive_holds += 1;
        self.consecutive_holds <= MAX_CONSECUTIVE_HOLDS
    }

    /// Finds out whether the events that failed alone or their target are at fault. What was taken of their neighbours may have been before or
    /// after a time when nothing was. So one of these, which may come twice, is sent again, before and after the events
    /// are tried once more: what fails in between is the offender.
    async fn attribute_failures(
        &mut self,
        events: &[AuditEvent],
        failed_alone: Vec<(usize, String)>,
        verdicts: &mut [Attempt],
    ) -> Result<(), Unavailable> {
        if failed_alone.is_empty() {
            return Ok(());
        }
        let taken = |index: &usize| {
            verdicts[*index].called_during.is_some()
                && matches!(verdicts[*index].verdict, Verdict::Delivered | Verdict::AlreadyDelivered)
                && failed_alone.iter().all(|(failed, _)| failed != index)
        };
        let Some(known_good) = (0..events.len()).find(taken) else {
            return self.attribute_by_other_workers(events, failed_alone, verdicts);
        };
        let mut all_delivered = true;
        self.probe_with(&events[known_good]).await?;
        for (index, _) in failed_alone {
            let called_during = SystemTime::now();
            let again = self.call(std::slice::from_ref(&events[index])).await?;
            let called_during = Some(called_during..SystemTime::now());
            match again {
                Ok(verdict) => {
                    for verdict in verdict {
                        verdicts[index] = Attempt { called_during: called_during.clone(), ..verdict.into() };
                    }
                }
                Err(failure) => {
                    let (kind, counts) = (failure.kind(), !matches!(failure, BatchFailure::Timeout(_)));
                    verdicts[index] = Attempt { verdict: failure.verdict(), kind, counts, called_during };
                    all_delivered = false;
                }
            }
        }
        if all_delivered { Ok(()) } else { self.probe_with(&events[known_good]).await }
    }

    /// Sends an event again that the target has taken.
    async fn probe_with(&mut self, event: &AuditEvent) -> Result<(), Unavailable> {
        let answer = self.call(std::slice::from_ref(event)).await?;
        answer.map(drop).map_err(|failure| Unavailable::new(failure.to_string()))
    }

    /// The same where nothing was taken from this worker: an attempt is used if the target has taken something from
    /// another since the event failed last. Until then it is held, and then put off, to let others show that.
    fn attribute_by_other_workers(
        &mut self,
        events: &[AuditEvent],
        failed_alone: Vec<(usize, String)>,
        verdicts: &mut [Attempt],
    ) -> Result<(), Unavailable> {
        let deliveries = self.liveness.deliveries();
        let now = deliveries.count();
        let counts: Vec<bool> =
            failed_alone.iter().map(|(index, _)| deliveries.advanced_since(events[*index].id, now)).collect();
        if !counts.contains(&true)
            && let Some((_, error)) = failed_alone.first()
            && self.may_hold()
        {
            return Err(Unavailable::new(error));
        }
        for ((index, error), counts) in failed_alone.into_iter().zip(counts) {
            let called_during = verdicts[index].called_during.take();
            verdicts[index] =
                Attempt { verdict: Verdict::Retry(error), kind: FailureKind::Error, counts, called_during };
        }
        Ok(())
    }

    /// Those of these events that the target has, as far as it can say.
    ///
    /// # Errors
    /// When the target is away.
    pub async fn find_delivered(&mut self, events: &[Uuid]) -> Result<Vec<Uuid>, Unavailable> {
        let call = AssertUnwindSafe(async { self.forwarder.find_delivered(events).await }).catch_unwind();
        match timeout(self.limit, call).await {
            Ok(Ok(Ok(present))) => Ok(present),
            Ok(Ok(Err(ForwardError::Unavailable { error, retry_after }))) => {
                Err(Unavailable { dependency: error, retry_after })
            }
            // It cannot say.
            Ok(Ok(Err(ForwardError::Rejected(_) | ForwardError::Failed(_)))) => Ok(Vec::new()),
            Ok(Err(_)) => {
                self.forwarder = self.factory.build();
                Ok(Vec::new())
            }
            Err(_) => Err(Unavailable::new(format!("the forwarder does not answer within {:?}", self.limit))),
        }
    }

    async fn call(
        &mut self,
        events: &[AuditEvent],
    ) -> Result<Result<Vec<Verdict>, BatchFailure>, Unavailable> {
        // The call itself may panic, not only the future it returns.
        let call = AssertUnwindSafe(async { self.forwarder.forward(events).await }).catch_unwind();
        match timeout(self.limit, call).await {
            Ok(Ok(Ok(verdicts))) if verdicts.len() == events.len() => Ok(Ok(verdicts)),
            Ok(Ok(Ok(verdicts))) => Ok(Err(BatchFailure::Panic(format!(
                "{} verdicts for {} events",
                verdicts.len(),
                events.len()
            )))),
            Ok(Ok(Err(ForwardError::Unavailable { error, retry_after }))) => {
                Err(Unavailable { dependency: error, retry_after })
            }
            Ok(Ok(Err(ForwardError::Rejected(error)))) => Ok(Err(BatchFailure::Rejected(error))),
            Ok(Ok(Err(ForwardError::Failed(error)))) => Ok(Err(BatchFailure::Failed(error))),
            Ok(Err(panic)) => {
                // Whatever state it was in is gone with it.
                self.forwarder = self.factory.build();
                Ok(Err(BatchFailure::Panic(message(&*panic))))
            }
            Err(_) => Ok(Err(BatchFailure::Timeout(self.limit))),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests;
