//! A forwarder under guard: whatever it does, every event gets a verdict and the lane goes on.

use std::{
    any::Any,
    collections::HashMap,
    ops::Range,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use common::{event::AuditEvent, failures::Reason, identifier::ForwarderId, telemetry::names};
use futures::FutureExt as _;
use metrics::histogram;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::forwarder::{Configured, ForwardError, Forwarder, Verdict};

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
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    Rejected(String),
    Panic(String),
    Timeout(Duration),
}

impl Failure {
    fn kind(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "error",
            Self::Panic(_) => "panic",
            Self::Timeout(_) => "timeout",
        }
    }

    /// What a failure of a single event means for it.
    fn verdict(self) -> Verdict {
        match self {
            Self::Rejected(error) => Verdict::Cancel(Reason::SchemaMismatch, error),
            Self::Panic(message) => Verdict::Retry(format!("the forwarder panicked: {message}")),
            Self::Timeout(after) => Verdict::Retry(format!("the forwarder did not finish within {after:?}")),
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
    /// How often a batch has been held in a row because nothing in it was answered.
    held: u32,
}

/// How often a batch is held because nothing in it was answered, before its events are put off.
const HOLDS: u32 = 3;

/// Counts the answers of one target to all its workers: one that answers is not away, whatever else hangs.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    count: AtomicU64,
    /// Events that timed out alone while nothing else showed that the target was alive, with the count at that time.
    doubtful: Mutex<HashMap<Uuid, u64>>,
}

/// How many doubtful events are remembered; those that are forgotten are doubted once more.
const DOUBTFUL_MAX: usize = 10_000;

impl Pulse {
    fn beat(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    fn beats(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Whether the target has answered anything since this event timed out last, or since `beats`.
    fn proves(&self, event: Uuid, beats: u64) -> bool {
        let now = self.beats();
        let mut doubtful = self.0.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let since = doubtful.remove(&event).unwrap_or(beats).min(beats);
        if since == now {
            if doubtful.len() >= DOUBTFUL_MAX {
                doubtful.clear();
            }
            doubtful.insert(event, now);
        }
        since != now
    }
}

impl Guarded {
    /// A fresh forwarder that may take `limit` for one batch; `pulse` is its target's.
    #[must_use]
    pub fn new(id: ForwarderId, configured: Arc<dyn Configured>, limit: Duration, pulse: Pulse) -> Self {
        let worker = configured.worker();
        Self { id, configured, worker, limit, pulse, held: 0 }
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
        let mut timeouts_left = halvings;
        let begun = self.pulse.beats();
        let mut beats = begun;
        while let Some(range) = ranges.pop() {
            let asked = SystemTime::now();
            let answer = self.once(&events[range.clone()]).await?;
            let asked = Some(asked..SystemTime::now());
            if let Err(Failure::Timeout(after)) = &answer {
                if self.pulse.beats() != beats {
                    beats = self.pulse.beats();
                    timeouts_left = halvings;
                }
                if timeouts_left == 0 {
                    self.held += 1;
                    if self.held <= HOLDS {
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
                timeouts_left -= 1;
            }
            // A panic is the forwarder's own, and no answer of its target.
            if matches!(answer, Ok(_) | Err(Failure::Rejected(_))) {
                self.pulse.beat();
            }
            match answer {
                Ok(some) => {
                    for (place, verdict) in range.zip(some) {
                        verdicts[place] = Judged { asked: asked.clone(), ..verdict.into() };
                    }
                }
                Err(failure) if range.len() == 1 => {
                    let kind = failure.kind();
                    let event = events[range.start].id;
                    let charged = !matches!(failure, Failure::Timeout(_)) || self.pulse.proves(event, begun);
                    verdicts[range.start] = Judged { verdict: failure.verdict(), kind, charged, asked };
                }
                Err(_) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
            }
        }
        self.held = 0;
        histogram!(names::FORWARD_SECONDS, "forwarder" => self.id.to_string()).record(started.elapsed());
        Ok(verdicts)
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
mod tests {
    use futures::future::BoxFuture;

    use super::*;

    /// Misbehaves on events by their action; delivers the others.
    #[derive(Clone)]
    struct Moody;

    impl Configured for Moody {
        fn worker(&self) -> Box<dyn Forwarder> {
            Box::new(self.clone())
        }
    }

    impl Forwarder for Moody {
        fn forward<'a>(
            &'a mut self,
            events: &'a [AuditEvent],
        ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
            Box::pin(async move {
                for event in events {
                    match event.action.as_deref() {
                        Some("panic") => panic!("boom"),
                        Some("hang") => std::future::pending().await,
                        Some("reject") => return Err(ForwardError::Rejected("22001".into())),
                        Some("away") => return Err(ForwardError::unavailable("connection refused")),
                        _ => {}
                    }
                }
                Ok(vec![Verdict::Delivered; events.len()])
            })
        }
    }

    fn events(actions: &[&str]) -> Vec<AuditEvent> {
        actions
            .iter()
            .map(|action| AuditEvent {
                id: Uuid::new_v4(),
                action: Some((*action).to_owned()),
                ..AuditEvent::default()
            })
            .collect()
    }

    async fn forward(actions: &[&str]) -> Result<Vec<&'static str>, Unavailable> {
        let id = "test".parse().expect("an id");
        let mut guarded = Guarded::new(id, Arc::new(Moody), Duration::from_secs(30), Pulse::default());
        let verdicts = guarded.forward(&events(actions)).await?;
        Ok(verdicts
            .iter()
            .map(|judged| match judged.verdict {
                Verdict::Delivered | Verdict::Present => "delivered",
                Verdict::Retry(_) => "retry",
                Verdict::Cancel(..) => "cancel",
            })
            .collect())
    }

    #[tokio::test(start_paused = true)]
    async fn one_bad_event_is_found_and_its_neighbours_are_delivered() {
        for (bad, verdict) in [("panic", "retry"), ("hang", "retry"), ("reject", "cancel")] {
            for place in 0..9 {
                let mut actions = ["fine"; 9];
                actions[place] = bad;
                let mut expected = ["delivered"; 9];
                expected[place] = verdict;
                assert_eq!(forward(&actions).await, Ok(expected.to_vec()), "{bad} at {place}");
            }
        }
    }

    #[tokio::test]
    async fn a_target_that_is_away_charges_nobody() {
        let answer = forward(&["fine", "away", "fine"]).await;
        assert_eq!(answer, Err(Unavailable::new("connection refused")));
    }

    /// Held at first, as in any outage; put off in the end, because it may be the events.
    #[tokio::test(start_paused = true)]
    async fn a_target_that_hangs_charges_nobody_and_its_batch_does_not_block_the_lane_for_ever() {
        let id = "test".parse().expect("an id");
        let mut guarded = Guarded::new(id, Arc::new(Moody), Duration::from_secs(30), Pulse::default());
        let hanging = events(&["hang"; 9]);
        for _ in 0..HOLDS {
            let answer = guarded.forward(&hanging).await;
            assert_eq!(answer, Err(Unavailable::new("the forwarder does not answer within 30s")));
        }
        let judged = guarded.forward(&hanging).await.expect("verdicts");
        assert!(judged.iter().all(|judged| !judged.charged && matches!(judged.verdict, Verdict::Retry(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn several_hanging_events_are_charged_while_the_target_answers_for_others() {
        assert_eq!(
            forward(&["hang", "fine", "hang", "reject"]).await,
            Ok(vec!["retry", "delivered", "retry", "cancel"])
        );
    }

    /// On a quiet day an event is alone in its batch: that it hangs says nothing, until the target answers for another one.
    #[tokio::test(start_paused = true)]
    async fn a_lone_event_that_hangs_is_charged_only_once_the_target_has_answered_since() {
        let id = "test".parse().expect("an id");
        let mut guarded = Guarded::new(id, Arc::new(Moody), Duration::from_secs(30), Pulse::default());
        let hanging = events(&["hang"]);
        for _ in 0..3 {
            let judged = guarded.forward(&hanging).await.expect("a verdict").remove(0);
            assert!(matches!(judged.verdict, Verdict::Retry(_)) && !judged.charged, "{judged:?}");
        }
        guarded.forward(&events(&["fine"])).await.expect("a verdict");
        let judged = guarded.forward(&hanging).await.expect("a verdict").remove(0);
        assert!(judged.charged, "{judged:?}");
    }

    /// Two that hang, alone in their batch, look like a target that hangs, until another worker has an answer.
    #[tokio::test(start_paused = true)]
    async fn hanging_events_are_charged_when_another_worker_has_an_answer() {
        let pulse = Pulse::default();
        let new = || {
            Guarded::new(
                "test".parse().expect("an id"),
                Arc::new(Moody),
                Duration::from_secs(30),
                pulse.clone(),
            )
        };
        let (mut hanging, mut other) = (new(), new());
        assert!(hanging.forward(&events(&["hang", "hang"])).await.is_err());
        let (hung, fine) = (events(&["hang", "hang"]), events(&["fine"]));
        let later = async {
            tokio::time::sleep(Duration::from_secs(45)).await;
            other.forward(&fine).await
        };
        let (judged, _) = tokio::join!(hanging.forward(&hung), later);
        let judged = judged.expect("the target answers");
        assert!(
            judged
                .iter()
                .all(|judged| matches!(judged.verdict, Verdict::Retry(_)) && judged.kind == "timeout")
        );
    }

    #[tokio::test]
    async fn an_empty_batch_asks_nobody() {
        assert_eq!(forward(&[]).await, Ok(vec![]));
    }
}
