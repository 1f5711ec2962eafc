//! A forwarder under guard: whatever it does, every event gets a verdict and the lane goes on.

use std::{
    any::Any,
    ops::Range,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{event::AuditEvent, failures::Reason, identifier::ForwarderId, telemetry::names};
use futures::FutureExt as _;
use metrics::histogram;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::forwarder::{Configured, ForwardError, Forwarder, Verdict};
use crate::pulse::Beats;
pub use crate::pulse::Pulse;

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

/// What became of one event, and how it failed if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// `error`, `panic` or `timeout`; says nothing about a delivery.
    pub kind: &'static str,
    /// Whether a failure counts as an attempt. A time-out does not, where nothing shows that the target is alive.
    pub charged: bool,
    /// From when to when the forwarder had it, the last time; `None` where it was not asked.
    pub asked: Option<Range<SystemTime>>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, kind: "error", charged: true, asked: None }
    }
}

/// How a forwarder failed on a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Failure {
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

impl Failure {
    fn kind(&self) -> &'static str {
        match self {
            Self::Rejected(_) | Self::Failed(_) => "error",
            Self::Panic(_) => "panic",
            Self::Timeout(_) => "timeout",
        }
    }

    /// What a failure of a single event means for it.
    fn verdict(self) -> Verdict {
        match self {
            Self::Rejected(error) | Self::Failed(error) => Verdict::Cancel(Reason::SchemaMismatch, error),
            Self::Panic(_) | Self::Timeout(_) => Verdict::Retry(self.to_string()),
        }
    }
}

/// One worker's forwarder with its time limit.
pub struct Guarded {
    id: ForwarderId,
    configured: Arc<dyn Configured>,
    worker: Box<dyn Forwarder>,
    limit: Duration,
    pulse: Pulse,
    /// How often the batch has been held because nothing was answered.
    held: u32,
}

/// How often a batch is held because nothing in it was answered, before its events are put off.
const HOLDS: u32 = 3;

/// So many failures in a row, with nothing taken in between, are the target's: twice as many as the breaker lets become
/// dead letters, because one event is found by way of all the halves that it is in.
const FAILURES: u32 = 100;

/// How often more a target may fail in one way without a sign of life in between.
struct Tries {
    most: u32,
    left: u32,
    seen: u64,
}

impl Tries {
    fn new(most: u32, signs: &Beats) -> Self {
        Self { most, left: most, seen: signs.count() }
    }

    /// Counts a failure; `false` when it is one too many.
    fn another(&mut self, signs: &Beats) -> bool {
        let now = signs.count();
        if self.seen != now {
            (self.seen, self.left) = (now, self.most);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

impl Guarded {
    /// A fresh forwarder that may take `limit` for one batch; `pulse` is its target's.
    #[must_use]
    pub fn new(id: ForwarderId, configured: Arc<dyn Configured>, limit: Duration, pulse: Pulse) -> Self {
        let worker = configured.worker();
        Self { id, configured, worker, limit, pulse, held: 0 }
    }

    /// Another batch begins.
    pub fn begin(&mut self) {
        self.held = 0;
    }

    /// One verdict per event, in order. A batch that fails as a whole is halved until the offender stands alone; its
    /// neighbours are written and never charged.
    ///
    /// # Errors
    /// When the target is away. Some events may have been written; writing them again has no effect.
    pub async fn forward(&mut self, events: &[AuditEvent]) -> Result<Vec<Judged>, Unavailable> {
        let started = Instant::now();
        let mut verdicts: Vec<Judged> = vec![Verdict::Delivered.into(); events.len()];
        let mut ranges: Vec<Range<usize>> = Vec::new();
        if !events.is_empty() {
            ranges.push(0..events.len());
        }
        // To find one hanging event takes a time-out per halving. More of them without any answer in between, to this
        // worker or another, mean that the target hangs.
        let halvings = events.len().next_power_of_two().ilog2() + 1;
        let mut timeouts = Tries::new(halvings, self.pulse.answers());
        // The same of errors, which cost less than time-outs.
        let mut failures = Tries::new(halvings + FAILURES, self.pulse.deliveries());
        let begun = self.pulse.answers().count();
        // Events that failed alone, whoever's fault it may be.
        let mut alone: Vec<(usize, String)> = Vec::new();
        while let Some(range) = ranges.pop() {
            let asked = SystemTime::now();
            let answer = self.once(&events[range.clone()]).await?;
            let asked = Some(asked..SystemTime::now());
            match &answer {
                Err(Failure::Timeout(after)) if !timeouts.another(self.pulse.answers()) => {
                    if self.hold() {
                        return Err(Unavailable::new(format!(
                            "the forwarder does not answer within {after:?}"
                        )));
                    }
                    // It may be the events after all: put off, they let others show whether the target is alive.
                    ranges.push(range);
                    for place in std::mem::take(&mut ranges).into_iter().flatten() {
                        let verdict = Failure::Timeout(*after).verdict();
                        let asked = asked.clone();
                        verdicts[place] = Judged { verdict, kind: "timeout", charged: false, asked };
                    }
                    break;
                }
                // So many events in a row are not what is wrong.
                Err(Failure::Failed(error)) if !failures.another(self.pulse.deliveries()) => {
                    return Err(Unavailable::new(error));
                }
                _ => self.feel(&answer),
            }
            match answer {
                Ok(some) => {
                    for (place, verdict) in range.zip(some) {
                        verdicts[place] = Judged { asked: asked.clone(), ..verdict.into() };
                    }
                }
                Err(Failure::Failed(error)) if range.len() == 1 => {
                    verdicts[range.start].asked = asked;
                    alone.push((range.start, error));
                }
                Err(failure) if range.len() == 1 => {
                    let kind = failure.kind();
                    let event = events[range.start].id;
                    let charged =
                        !matches!(failure, Failure::Timeout(_)) || self.pulse.answers().proves(event, begun);
                    verdicts[range.start] = Judged { verdict: failure.verdict(), kind, charged, asked };
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        self.judge(events, alone, &mut verdicts).await?;
        histogram!(names::FORWARD_SECONDS, "forwarder" => self.id.to_string()).record(started.elapsed());
        Ok(verdicts)
    }

    /// What an answer says of the target.
    fn feel(&self, answer: &Result<Vec<Verdict>, Failure>) {
        // A panic is the forwarder's own, and no answer of its target.
        if matches!(answer, Ok(_) | Err(Failure::Rejected(_))) {
            self.pulse.answers().beat();
        }
        let taken = |verdict: &Verdict| matches!(verdict, Verdict::Delivered | Verdict::Present);
        if answer.as_ref().is_ok_and(|verdicts| verdicts.iter().any(taken)) {
            self.pulse.deliveries().beat();
        }
    }

    /// Whether a batch of which nothing was answered is to be held once more, before its events are put off.
    fn hold(&mut self) -> bool {
        self.held += 1;
        self.held <= HOLDS
    }

    /// Says whose fault it is that some events failed alone. What was taken of their neighbours may have been before or
    /// after a time when nothing was. So one of these, which may come twice, is sent again, before and after the events
    /// are tried once more: what fails in between is the offender.
    async fn judge(
        &mut self,
        events: &[AuditEvent],
        alone: Vec<(usize, String)>,
        verdicts: &mut [Judged],
    ) -> Result<(), Unavailable> {
        if alone.is_empty() {
            return Ok(());
        }
        let taken = |place: &usize| {
            verdicts[*place].asked.is_some()
                && matches!(verdicts[*place].verdict, Verdict::Delivered | Verdict::Present)
                && alone.iter().all(|(failed, _)| failed != place)
        };
        let Some(witness) = (0..events.len()).find(taken) else {
            return self.judge_by_others(events, alone, verdicts);
        };
        let mut is_over = true;
        self.witness(&events[witness]).await?;
        for (place, _) in alone {
            let asked = SystemTime::now();
            let again = self.once(std::slice::from_ref(&events[place])).await?;
            let asked = Some(asked..SystemTime::now());
            match again {
                Ok(verdict) => {
                    for verdict in verdict {
                        verdicts[place] = Judged { asked: asked.clone(), ..verdict.into() };
                    }
                }
                Err(failure) => {
                    let (kind, charged) = (failure.kind(), !matches!(failure, Failure::Timeout(_)));
                    verdicts[place] = Judged { verdict: failure.verdict(), kind, charged, asked };
                    is_over = false;
                }
            }
        }
        if is_over { Ok(()) } else { self.witness(&events[witness]).await }
    }

    /// Sends an event again that the target has taken.
    async fn witness(&mut self, event: &AuditEvent) -> Result<(), Unavailable> {
        let answer = self.once(std::slice::from_ref(event)).await?;
        answer.map(drop).map_err(|failure| Unavailable::new(failure.to_string()))
    }

    /// The same where nothing was taken from this worker: an attempt is used if the target has taken something from
    /// another since the event failed last. Until then it is held, and then put off, to let others show that.
    fn judge_by_others(
        &mut self,
        events: &[AuditEvent],
        alone: Vec<(usize, String)>,
        verdicts: &mut [Judged],
    ) -> Result<(), Unavailable> {
        let deliveries = self.pulse.deliveries();
        let now = deliveries.count();
        let charged: Vec<bool> =
            alone.iter().map(|(place, _)| deliveries.proves(events[*place].id, now)).collect();
        if !charged.contains(&true)
            && let Some((_, error)) = alone.first()
            && self.hold()
        {
            return Err(Unavailable::new(error));
        }
        for ((place, error), charged) in alone.into_iter().zip(charged) {
            let asked = verdicts[place].asked.take();
            verdicts[place] = Judged { verdict: Verdict::Retry(error), kind: "error", charged, asked };
        }
        Ok(())
    }

    /// Those of these events that the target has, as far as it can say.
    ///
    /// # Errors
    /// When the target is away.
    pub async fn present(&mut self, events: &[Uuid]) -> Result<Vec<Uuid>, Unavailable> {
        let guarded = AssertUnwindSafe(async { self.worker.present(events).await }).catch_unwind();
        match timeout(self.limit, guarded).await {
            Ok(Ok(Ok(present))) => Ok(present),
            Ok(Ok(Err(ForwardError::Unavailable { error, retry_after }))) => {
                Err(Unavailable { dependency: error, retry_after })
            }
            // It cannot say.
            Ok(Ok(Err(ForwardError::Rejected(_) | ForwardError::Failed(_)))) => Ok(Vec::new()),
            Ok(Err(_)) => {
                self.worker = self.configured.worker();
                Ok(Vec::new())
            }
            Err(_) => Err(Unavailable::new(format!("the forwarder does not answer within {:?}", self.limit))),
        }
    }

    async fn once(&mut self, events: &[AuditEvent]) -> Result<Result<Vec<Verdict>, Failure>, Unavailable> {
        // The call itself may panic, not only the future it returns.
        let guarded = AssertUnwindSafe(async { self.worker.forward(events).await }).catch_unwind();
        match timeout(self.limit, guarded).await {
            Ok(Ok(Ok(verdicts))) if verdicts.len() == events.len() => Ok(Ok(verdicts)),
            Ok(Ok(Ok(verdicts))) => {
                Ok(Err(Failure::Panic(format!("{} verdicts for {} events", verdicts.len(), events.len()))))
            }
            Ok(Ok(Err(ForwardError::Unavailable { error, retry_after }))) => {
                Err(Unavailable { dependency: error, retry_after })
            }
            Ok(Ok(Err(ForwardError::Rejected(error)))) => Ok(Err(Failure::Rejected(error))),
            Ok(Ok(Err(ForwardError::Failed(error)))) => Ok(Err(Failure::Failed(error))),
            Ok(Err(panic)) => {
                // Whatever state it was in is gone with it.
                self.worker = self.configured.worker();
                Ok(Err(Failure::Panic(message(&*panic))))
            }
            Err(_) => Ok(Err(Failure::Timeout(self.limit))),
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
