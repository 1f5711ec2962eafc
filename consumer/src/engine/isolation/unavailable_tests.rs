//! A target that says it is away: for all, or for one event.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::*;

const SECONDS: u64 = 30;

/// A target that says it is away for events of some actions, and for everything during some of its calls.
#[derive(Clone)]
struct Target {
    down: Range<u32>,
    asked: Arc<AtomicU32>,
    looks: Arc<AtomicU32>,
    can_tell: bool,
    has: Arc<Mutex<HashSet<Uuid>>>,
}

impl Target {
    fn up() -> Self {
        Self { down: 0..0, asked: Arc::default(), looks: Arc::default(), can_tell: true, has: Arc::default() }
    }

    fn is_down(&self) -> bool {
        self.down.contains(&self.asked.fetch_add(1, Ordering::Relaxed))
    }

    fn take(&self, event: Uuid) -> Verdict {
        let mut has = self.has.lock().unwrap_or_else(PoisonError::into_inner);
        if has.insert(event) { Verdict::Delivered } else { Verdict::AlreadyDelivered }
    }

    fn isolated(&self, liveness: &TargetLiveness) -> IsolatedForwarder {
        let id = "test".parse().expect("an id");
        let limit = Duration::from_secs(SECONDS);
        IsolatedForwarder::new(id, Arc::new(self.clone()), limit, liveness.clone())
    }
}

impl ForwarderFactory for Target {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for Target {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async move {
            if self.is_down() {
                return Err(ForwardError::unavailable("connection refused"));
            }
            for event in events {
                match event.action.as_deref() {
                    Some("40001") => return Err(ForwardError::unavailable("40001")),
                    Some("57014") => {
                        tokio::time::sleep(Duration::from_secs(SECONDS).mul_f64(0.8)).await;
                        return Err(ForwardError::unavailable("57014"));
                    }
                    Some("429") => {
                        let retry_after = Some(Duration::from_secs(1));
                        return Err(ForwardError::Unavailable { error: "429".into(), retry_after });
                    }
                    _ => {}
                }
            }
            Ok(events.iter().map(|event| self.take(event.id)).collect())
        })
    }

    fn is_serving(&mut self) -> BoxFuture<'_, bool> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(self.can_tell && !self.is_down()))
    }
}

fn events(actions: &[&str]) -> Vec<AuditEvent> {
    actions.iter().map(|action| AuditEvent::new(Uuid::new_v4(), *action)).collect()
}

fn among_fine(bad: &str, place: usize, count: usize) -> Vec<AuditEvent> {
    let mut actions = vec!["fine"; count];
    actions[place] = bad;
    events(&actions)
}

fn is_retry(attempt: &Attempt) -> bool {
    matches!(attempt.verdict, Verdict::Retry(_))
}

/// Only this one is charged, and the others are in the target.
fn assert_charged(attempts: &[Attempt], place: usize) {
    for (index, attempt) in attempts.iter().enumerate() {
        if index == place {
            assert!(attempt.counts && is_retry(attempt), "{index}: {attempt:?}");
        } else {
            let is_there = matches!(attempt.verdict, Verdict::Delivered | Verdict::AlreadyDelivered);
            assert!(is_there, "{index}: {attempt:?}");
        }
    }
}

#[tokio::test]
async fn an_event_that_its_target_is_away_for_is_found_the_third_time_and_its_neighbours_are_delivered() {
    for (place, count) in (0..9).map(|place| (place, 9)).chain([(0, 1_000), (517, 1_000), (999, 1_000)]) {
        let mut isolated = Target::up().isolated(&TargetLiveness::default());
        let batch = among_fine("40001", place, count);
        for _ in 0..2 {
            assert_eq!(isolated.forward(&batch).await, Err(Unavailable::new("40001")), "{place}");
        }
        assert_charged(&isolated.forward(&batch).await.expect("verdicts"), place);
    }
}

/// Each level costs its time.
#[tokio::test(start_paused = true)]
async fn an_event_that_makes_its_target_slow_is_found_at_once_and_within_a_few_time_outs() {
    for place in [0, 500, 999] {
        let mut isolated = Target::up().isolated(&TargetLiveness::default());
        let (batch, begun) = (among_fine("57014", place, 1_000), Instant::now());
        assert_charged(&isolated.forward(&batch).await.expect("verdicts"), place);
        assert!(begun.elapsed() <= Duration::from_secs(5 * SECONDS), "{place}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_event_that_was_found_before_is_tried_alone_after_its_neighbours() {
    let (target, liveness) = (Target::up(), TargetLiveness::default());
    let mut isolated = target.isolated(&liveness);
    let mut batch = among_fine("40001", 3, 9);
    while isolated.forward(&batch).await.is_err() {}
    for event in batch.iter_mut().filter(|event| event.action.as_deref() == Some("fine")) {
        event.id = Uuid::new_v4();
    }
    // Whichever worker it comes back to.
    let asked = target.asked.load(Ordering::Relaxed);
    let attempts = target.isolated(&liveness).forward(&batch).await.expect("verdicts at once");
    assert_charged(&attempts, 3);
    let asked = target.asked.load(Ordering::Relaxed) - asked;
    assert!(
        asked <= 10,
        "two parts, one event three times, each with a look, and a known one twice: {asked}"
    );
}

#[tokio::test]
async fn several_events_that_their_target_is_away_for_are_all_charged_while_it_takes_others() {
    for places in [vec![0, 1, 2, 3], vec![2, 5], (0..40).collect(), vec![7, 90, 199]] {
        let count = places.iter().max().map_or(0, |last| last + 2).max(6);
        let mut actions = vec!["fine"; count];
        for place in &places {
            actions[*place] = "40001";
        }
        let mut isolated = Target::up().isolated(&TargetLiveness::default());
        let batch = events(&actions);
        let attempts = loop {
            if let Ok(attempts) = isolated.forward(&batch).await {
                break attempts;
            }
        };
        for (place, attempt) in attempts.iter().enumerate() {
            let is_charged = attempt.counts && is_retry(attempt);
            assert_eq!(is_charged, places.contains(&place), "{places:?} {place}: {attempt:?}");
        }
    }
}

/// A forwarder that cannot check is believed, and so is one that says when to come back.
#[tokio::test]
async fn a_target_that_is_away_and_cannot_be_asked_is_held_for_ever() {
    let silent = Target { can_tell: false, ..Target::up() };
    for (target, bad) in [(silent, "40001"), (Target::up(), "429")] {
        let mut isolated = target.isolated(&TargetLiveness::default());
        let batch = among_fine(bad, 1, 3);
        for _ in 0..20 {
            assert!(isolated.forward(&batch).await.is_err(), "{bad}");
        }
    }
}

/// A look that shows nothing wrong proves nothing while it takes no event.
#[tokio::test(start_paused = true)]
async fn a_target_that_is_away_for_every_event_charges_nobody() {
    for bad in ["40001", "57014"] {
        for count in [1, 2, 9, 40, 200] {
            let target = Target::up();
            let mut isolated = target.isolated(&TargetLiveness::default());
            let batch = events(&vec![bad; count]);
            for _ in 0..8 {
                let looks = target.looks.swap(0, Ordering::Relaxed);
                assert!(bad == "57014" || looks <= 2, "{count}: {looks}");
                if let Ok(attempts) = isolated.forward(&batch).await {
                    let put_off = |attempts: &Attempt| !attempts.counts && is_retry(attempts);
                    assert!(attempts.iter().all(put_off), "{count}: {attempts:?}");
                }
            }
        }
    }
}

/// What is there already needs no room: it is no proof that the target takes anything.
#[tokio::test]
async fn a_lone_event_that_its_target_is_away_for_is_put_off_and_charged_once_another_was_written() {
    let (target, liveness) = (Target::up(), TargetLiveness::default());
    let (mut failing, mut other) = (target.isolated(&liveness), target.isolated(&liveness));
    let (bad, fine) = (events(&["40001"]), events(&["fine"]));
    other.forward(&fine).await.expect("delivered");
    for _ in 0..2 {
        assert_eq!(failing.forward(&bad).await, Err(Unavailable::new("40001")));
    }
    for _ in 0..3 {
        let attempts = failing.forward(&bad).await.expect("a verdict").remove(0);
        assert!(!attempts.counts && is_retry(&attempts), "{attempts:?}");
        other.forward(&fine).await.expect("there already");
    }
    other.forward(&events(&["fine"])).await.expect("delivered");
    // Proven once.
    for _ in 0..3 {
        let attempts = failing.forward(&bad).await.expect("a verdict").remove(0);
        assert!(attempts.counts && is_retry(&attempts), "{attempts:?}");
    }
}

/// Whenever it goes down and for how long, with a bad event in hand all the time.
#[tokio::test]
async fn an_outage_with_a_bad_event_in_hand_charges_nobody_else_whenever_it_begins_and_ends() {
    for bad in ["40001", "fine"] {
        for (from, to) in (0..30).flat_map(|from| (from..45).map(move |to| (from, to))) {
            let target = Target { down: from..to, ..Target::up() };
            let mut isolated = target.isolated(&TargetLiveness::default());
            let batch = among_fine(bad, 2, 6);
            let attempts = loop {
                if let Ok(attempts) = isolated.forward(&batch).await {
                    break attempts;
                }
            };
            for (place, attempt) in attempts.iter().enumerate() {
                assert!(
                    !is_retry(attempt) || (place == 2 && bad != "fine"),
                    "{from}..{to}: {place} {attempt:?}"
                );
            }
        }
    }
}

/// As a proxy or an administrator cuts connections: the next request succeeds.
#[tokio::test]
async fn connections_that_are_cut_again_and_again_charge_nobody() {
    for (every, count) in (2..9).flat_map(|every| [1, 2, 9, 100].map(|count| (every, count))) {
        let target = Flapping { target: Target::up(), every };
        let id = "test".parse().expect("an id");
        let limit = Duration::from_secs(SECONDS);
        let mut isolated = IsolatedForwarder::new(id, Arc::new(target), limit, TargetLiveness::default());
        for _ in 0..20 {
            let batch = events(&vec!["fine"; count]);
            for _ in 0..20 {
                if let Ok(attempts) = isolated.forward(&batch).await {
                    assert!(
                        !attempts.iter().any(|attempts| attempts.counts && is_retry(attempts)),
                        "{every} {count}"
                    );
                }
            }
        }
    }
}

/// Is away for every n-th call, and always serves whoever looks.
#[derive(Clone)]
struct Flapping {
    target: Target,
    every: u32,
}

impl ForwarderFactory for Flapping {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for Flapping {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async move {
            if self.target.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every) {
                return Err(ForwardError::unavailable("57P01"));
            }
            Ok(events.iter().map(|event| self.target.take(event.id)).collect())
        })
    }

    fn is_serving(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}
