//! Isolates a forwarder: whatever it does to a batch, every event gets a verdict and its worker continues. What fails or hangs as a
//! whole is divided by bisection.

use std::{
    any::Any,
    collections::HashSet,
    ops::Range,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{event::AuditEvent, failures::FailureKind, identifier::ForwarderId, process::telemetry::names};
use futures::FutureExt as _;
use metrics::histogram;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use self::batch_failure::{BatchFailure, ConsecutiveLimit};
pub use crate::engine::liveness::TargetLiveness;
use crate::forwarder::{ForwardError, Forwarder, ForwarderFactory, Verdict};

mod attribution;
mod batch_failure;

/// The target is away; nothing is known about any event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dependency}")]
pub struct Unavailable {
    /// What is away, and its own message.
    pub dependency: String,
    /// When it requested to be called again, if it did.
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
    /// From when to when the forwarder had it, the last time; `None` where it was not called.
    pub called_during: Option<Range<SystemTime>>,
}

impl Attempt {
    /// Whether the event is in the target.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered | Verdict::AlreadyDelivered)
    }
}

impl From<Verdict> for Attempt {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, kind: FailureKind::Error, counts: true, called_during: None }
    }
}

/// The turn of suspects: in a whole process one at a time is forwarded. Otherwise a death would be charged to whatever
/// other forwarders and workers had just begun, besides the event that caused it.
#[derive(Debug, Clone, Default)]
pub struct PoisonTurn(Arc<tokio::sync::Mutex<()>>);

impl PoisonTurn {
    /// Waits for the turn, which ends when the answer is dropped.
    pub(crate) async fn take(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.lock().await
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
    /// The events that the target was away for the last time, and how often in a row it was.
    unavailable: (HashSet<Uuid>, u32),
    /// When the target has shown that it serves others, in this pass.
    served_at: Option<Instant>,
}

/// How often a batch is held because nothing in it was answered, before its events are put off.
const MAX_CONSECUTIVE_HOLDS: u32 = 3;

/// So many failures in a row, with nothing taken in between, are the target's: twice as many as the breaker lets become
/// dead letters, because one event is found by way of all the halves that it is in.
const MAX_CONSECUTIVE_FAILURES: u32 = 100;

/// For how long a target that serves others is not checked again while a batch is split. Before an attempt is used it is.
const SERVING_GOOD_FOR: Duration = Duration::from_secs(1);

/// So often in a row a target may say that it is away for the same events before it is checked whether it serves others.
const MAX_CONSECUTIVE_UNAVAILABLE: u32 = 2;

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
        let unavailable = (HashSet::new(), 0);
        Self { id, factory, forwarder, limit, liveness, consecutive_holds: 0, unavailable, served_at: None }
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
        self.served_at = None;
        let forwarded = self.forward_by_halves(events).await;
        if !events.is_empty() {
            let repeated = if self.is_repeated(events) { self.unavailable.1 } else { 0 };
            self.unavailable = match forwarded {
                Ok(_) => (HashSet::new(), 0),
                Err(_) => (events.iter().map(|event| event.id).collect(), repeated.saturating_add(1)),
            };
        }
        forwarded
    }

    /// Whether one of these events is one that the target was away for the last time.
    fn is_repeated(&self, events: &[AuditEvent]) -> bool {
        events.iter().any(|event| self.unavailable.0.contains(&event.id))
    }

    async fn forward_by_halves(&mut self, events: &[AuditEvent]) -> Result<Vec<Attempt>, Unavailable> {
        let started = Instant::now();
        let mut verdicts: Vec<Attempt> = vec![Verdict::Delivered.into(); events.len()];
        let mut ranges = self.first_ranges(events);
        // To find one hanging event takes a time-out per halving. More of them without any answer in between, to this
        // worker or another, mean that the target hangs.
        let halvings = events.len().next_power_of_two().ilog2() + 1;
        let mut timeouts = ConsecutiveLimit::new(halvings, self.liveness.answers());
        // The same of errors, which cost less than time-outs.
        let mut failures =
            ConsecutiveLimit::new(halvings + MAX_CONSECUTIVE_FAILURES, self.liveness.deliveries());
        let answers_before = self.liveness.answers().count();
        let written_before = self.liveness.written().count();
        // Events that failed alone, whatever the cause.
        let mut failed_alone: Vec<(usize, BatchFailure)> = Vec::new();
        while let Some(range) = ranges.pop() {
            let called_during = SystemTime::now();
            let answer = self.call(&events[range.clone()]).await?;
            let called_during = Some(called_during..SystemTime::now());
            match &answer {
                Err(failure) if failure.is_slow(self.limit) => {
                    if !timeouts.allow(self.liveness.answers()) {
                        if self.may_hold() {
                            return Err(Unavailable::new(failure.of_target()));
                        }
                        // It may be the events after all: put off, they let others show whether the target is alive.
                        ranges.push(range);
                        for index in std::mem::take(&mut ranges).into_iter().flatten() {
                            let (verdict, kind) = (failure.clone().verdict(), failure.kind());
                            let called_during = called_during.clone();
                            verdicts[index] = Attempt { verdict, kind, counts: false, called_during };
                        }
                        break;
                    }
                }
                // So many events in a row are not what is wrong.
                Err(failure @ (BatchFailure::Failed(_) | BatchFailure::Unavailable { .. }))
                    if !failures.allow(self.liveness.deliveries()) =>
                {
                    return Err(Unavailable::new(failure.of_target()));
                }
                _ => self.record_liveness(&answer),
            }
            match answer {
                Ok(some) => {
                    for (index, verdict) in range.zip(some) {
                        verdicts[index] = Attempt { called_during: called_during.clone(), ..verdict.into() };
                    }
                }
                Err(failure @ (BatchFailure::Failed(_) | BatchFailure::Unavailable { .. }))
                    if range.len() == 1 =>
                {
                    verdicts[range.start].called_during = called_during;
                    failed_alone.push((range.start, failure));
                }
                Err(failure) if range.len() == 1 => {
                    let kind = failure.kind();
                    let event = events[range.start].id;
                    let counts = !matches!(failure, BatchFailure::Timeout(_))
                        || self.liveness.answers().advanced_since(event, answers_before);
                    verdicts[range.start] =
                        Attempt { verdict: failure.verdict(), kind, counts, called_during };
                }
                Err(failure) => ranges.extend(failure.parts(range, self.limit).rev()),
            }
        }
        self.attribute_failures(events, failed_alone, written_before, &mut verdicts).await?;
        histogram!(names::FORWARD_SECONDS, "forwarder" => self.id.to_string()).record(started.elapsed());
        Ok(verdicts)
    }

    /// What an answer says of the target.
    fn record_liveness(&self, answer: &Result<Vec<Verdict>, BatchFailure>) {
        // A panic is the forwarder's own, and no answer of its target.
        if matches!(answer, Ok(_) | Err(BatchFailure::Rejected(_))) {
            self.liveness.answers().record();
        }
        let Ok(verdicts) = answer else { return };
        let is_written = verdicts.contains(&Verdict::Delivered);
        if is_written {
            self.liveness.written().record();
        }
        if is_written || verdicts.contains(&Verdict::AlreadyDelivered) {
            self.liveness.deliveries().record();
        }
    }

    /// The whole batch at first; where the target has been away for some of its events before, and for no others, these are
    /// the last, each alone. In reverse.
    fn first_ranges(&self, events: &[AuditEvent]) -> Vec<Range<usize>> {
        let (mut alone, mut together, mut start) = (Vec::new(), Vec::new(), 0);
        for (index, event) in events.iter().enumerate() {
            if self.liveness.is_suspected(event.id) {
                alone.push(index..index + 1);
                together.push(start..index);
                start = index + 1;
            }
        }
        together.push(start..events.len());
        alone.into_iter().chain(together).filter(|range| !range.is_empty()).collect()
    }

    /// Whether a batch without any answer may be held once more, before its events are put off.
    fn may_hold(&mut self) -> bool {
        self.consecutive_holds += 1;
        self.consecutive_holds <= MAX_CONSECUTIVE_HOLDS
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

    /// A target that says it is away, and serves others, has failed for these events.
    async fn call(
        &mut self,
        events: &[AuditEvent],
    ) -> Result<Result<Vec<Verdict>, BatchFailure>, Unavailable> {
        let started = Instant::now();
        let unavailable = match self.call_once(events).await {
            Ok(answer) => return Ok(answer),
            Err(unavailable) => unavailable,
        };
        let failure =
            BatchFailure::Unavailable { error: unavailable.dependency.clone(), after: started.elapsed() };
        let is_persistent = failure.is_slow(self.limit)
            || self.unavailable.1 >= MAX_CONSECUTIVE_UNAVAILABLE && self.is_repeated(events)
            || events.iter().any(|event| self.liveness.is_suspected(event.id));
        if unavailable.retry_after.is_none() && is_persistent && self.is_serving().await {
            Ok(Err(failure))
        } else {
            Err(unavailable)
        }
    }

    /// Whether the target serves others; a forwarder that cannot check is believed.
    async fn is_serving(&mut self) -> bool {
        if self.served_at.is_some_and(|at| at.elapsed() < SERVING_GOOD_FOR) {
            return true;
        }
        let look = AssertUnwindSafe(async { self.forwarder.is_serving().await }).catch_unwind();
        let looked = timeout(self.limit, look).await;
        if let Ok(Err(_)) = looked {
            self.forwarder = self.factory.build();
        }
        let is_serving = matches!(looked, Ok(Ok(true)));
        self.served_at = is_serving.then(Instant::now);
        is_serving
    }

    async fn call_once(
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
#[cfg(test)]
mod unavailable_tests;
