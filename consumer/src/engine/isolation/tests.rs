use std::sync::atomic::{AtomicU32, Ordering};

use common::failures::Reason;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::*;

/// Misbehaves on events by their action; delivers the others.
#[derive(Clone)]
struct ScriptedForwarder;

impl ForwarderFactory for ScriptedForwarder {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for ScriptedForwarder {
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
                    Some("fail") => return Err(ForwardError::Failed("P0001".into())),
                    Some("away") => return Err(ForwardError::unavailable("connection refused")),
                    _ => {}
                }
            }
            Ok(vec![Verdict::Delivered; events.len()])
        })
    }
}

fn events(actions: &[&str]) -> Vec<AuditEvent> {
    actions.iter().map(|action| AuditEvent::new(Uuid::new_v4(), *action)).collect()
}

async fn forward(actions: &[&str]) -> Result<Vec<&'static str>, Unavailable> {
    let id = "test".parse().expect("an id");
    let mut isolated = IsolatedForwarder::new(
        id,
        Arc::new(ScriptedForwarder),
        Duration::from_secs(30),
        TargetLiveness::default(),
    );
    let verdicts = isolated.forward(&events(actions)).await?;
    Ok(verdicts
        .iter()
        .map(|attempt| match attempt.verdict {
            Verdict::Delivered | Verdict::AlreadyDelivered => "delivered",
            Verdict::Retry(_) => "retry",
            Verdict::DeadLetter(..) => "cancel",
        })
        .collect())
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_is_found_and_its_neighbours_are_delivered() {
    for (bad, verdict) in [("panic", "retry"), ("hang", "retry"), ("reject", "cancel"), ("fail", "cancel")] {
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
async fn a_target_that_hangs_charges_nobody_and_its_batch_does_not_block_the_worker_for_ever() {
    let id = "test".parse().expect("an id");
    let mut isolated = IsolatedForwarder::new(
        id,
        Arc::new(ScriptedForwarder),
        Duration::from_secs(30),
        TargetLiveness::default(),
    );
    let hanging = events(&["hang"; 9]);
    for _ in 0..MAX_CONSECUTIVE_HOLDS {
        let answer = isolated.forward(&hanging).await;
        assert_eq!(answer, Err(Unavailable::new("the forwarder does not answer within 30s")));
    }
    let attempts = isolated.forward(&hanging).await.expect("verdicts");
    assert!(attempts.iter().all(|attempt| !attempt.counts && matches!(attempt.verdict, Verdict::Retry(_))));
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
    let mut isolated = IsolatedForwarder::new(
        id,
        Arc::new(ScriptedForwarder),
        Duration::from_secs(30),
        TargetLiveness::default(),
    );
    let hanging = events(&["hang"]);
    for _ in 0..3 {
        let attempt = isolated.forward(&hanging).await.expect("a verdict").remove(0);
        assert!(matches!(attempt.verdict, Verdict::Retry(_)) && !attempt.counts, "{attempt:?}");
    }
    isolated.forward(&events(&["fine"])).await.expect("a verdict");
    let attempt = isolated.forward(&hanging).await.expect("a verdict").remove(0);
    assert!(attempt.counts, "{attempt:?}");
}

/// Two that hang, alone in their batch, look like a target that hangs, until another worker has an answer.
#[tokio::test(start_paused = true)]
async fn hanging_events_are_charged_when_another_worker_has_an_answer() {
    let liveness = TargetLiveness::default();
    let new = || {
        IsolatedForwarder::new(
            "test".parse().expect("an id"),
            Arc::new(ScriptedForwarder),
            Duration::from_secs(30),
            liveness.clone(),
        )
    };
    let (mut hanging, mut other) = (new(), new());
    assert!(hanging.forward(&events(&["hang", "hang"])).await.is_err());
    let (hung, fine) = (events(&["hang", "hang"]), events(&["fine"]));
    let later = async {
        tokio::time::sleep(Duration::from_secs(45)).await;
        other.forward(&fine).await
    };
    let (attempts, _) = tokio::join!(hanging.forward(&hung), later);
    let attempts = attempts.expect("the target answers");
    assert!(
        attempts
            .iter()
            .all(|attempt| matches!(attempt.verdict, Verdict::Retry(_))
                && attempt.kind == FailureKind::Timeout)
    );
}

#[tokio::test]
async fn an_empty_batch_asks_nobody() {
    assert_eq!(forward(&[]).await, Ok(vec![]));
}

fn isolated(liveness: &TargetLiveness) -> IsolatedForwarder {
    IsolatedForwarder::new(
        "test".parse().expect("an id"),
        Arc::new(ScriptedForwarder),
        Duration::from_secs(30),
        liveness.clone(),
    )
}

/// However many they are, and wherever they stand.
#[tokio::test]
async fn events_that_fail_are_charged_while_the_target_takes_others() {
    for places in [vec![0, 1, 2, 3], vec![0, 2, 4, 5], vec![2, 3, 4, 5], (0..40).collect(), vec![7, 90, 199]]
    {
        let count = places.iter().max().map_or(0, |last| last + 2).max(6);
        let (mut actions, mut expected) = (vec!["fine"; count], vec!["delivered"; count]);
        for place in &places {
            (actions[*place], expected[*place]) = ("fail", "cancel");
        }
        assert_eq!(forward(&actions).await, Ok(expected), "{places:?}");
    }
}

/// A few that fail may be all there is; so many are not what is wrong.
#[tokio::test]
async fn a_target_that_fails_for_all_charges_nobody() {
    for (count, is_put_off) in [(1, true), (2, true), (9, true), (40, true), (100, false), (1_000, false)] {
        let mut isolated = isolated(&TargetLiveness::default());
        let failing = events(&vec!["fail"; count]);
        for _ in 0..MAX_CONSECUTIVE_HOLDS {
            assert_eq!(isolated.forward(&failing).await, Err(Unavailable::new("P0001")), "{count}");
        }
        let Ok(attempts) = isolated.forward(&failing).await else {
            assert!(!is_put_off, "{count}");
            continue;
        };
        assert!(is_put_off, "{count}");
        let put_off = |attempt: &Attempt| !attempt.counts && matches!(attempt.verdict, Verdict::Retry(_));
        assert!(attempts.iter().all(put_off), "{count}: {attempts:?}");
    }
}

/// A server that refuses data lives, but that says nothing of whether it would take any.
#[tokio::test]
async fn a_refusal_is_no_proof_that_the_target_takes_events() {
    let mut isolated = isolated(&TargetLiveness::default());
    let mixed = events(&["fail", "reject"]);
    assert_eq!(isolated.forward(&mixed).await, Err(Unavailable::new("P0001")));
}

#[tokio::test]
async fn a_lone_event_that_fails_is_held_then_put_off_and_charged_once_the_target_has_taken_another() {
    let liveness = TargetLiveness::default();
    let (mut failing, mut other) = (isolated(&liveness), isolated(&liveness));
    let (bad, fine) = (events(&["fail"]), events(&["fine"]));
    // Taken before says nothing about now.
    other.forward(&fine).await.expect("delivered");
    for _ in 0..MAX_CONSECUTIVE_HOLDS {
        assert_eq!(failing.forward(&bad).await, Err(Unavailable::new("P0001")));
    }
    let attempt = failing.forward(&bad).await.expect("a verdict").remove(0);
    assert!(!attempt.counts && matches!(attempt.verdict, Verdict::Retry(_)), "{attempt:?}");
    other.forward(&fine).await.expect("delivered");
    let attempt = failing.forward(&bad).await.expect("a verdict").remove(0);
    assert!(attempt.counts && matches!(attempt.verdict, Verdict::Retry(_)), "{attempt:?}");
    // In company there is no doubt.
    let attempt = failing.forward(&events(&["fine", "fail"])).await.expect("verdicts").remove(1);
    assert!(
        attempt.counts && matches!(attempt.verdict, Verdict::DeadLetter(Reason::SchemaMismatch, _)),
        "{attempt:?}"
    );
}

/// Fails for all, between two of its calls.
#[derive(Clone)]
struct Broken {
    during: Range<u32>,
    calls: Arc<AtomicU32>,
}

impl ForwarderFactory for Broken {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for Broken {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        let is_broken = self.during.contains(&self.calls.fetch_add(1, Ordering::Relaxed));
        let fails = is_broken || events.iter().any(|event| event.action.as_deref() == Some("fail"));
        Box::pin(async move {
            if fails {
                return Err(ForwardError::Failed("closed".into()));
            }
            Ok(vec![Verdict::Delivered; events.len()])
        })
    }
}

/// Whatever of a batch was written before it began, or after it ended.
#[tokio::test]
async fn a_target_that_fails_for_a_while_in_the_midst_of_a_batch_charges_nobody_for_it() {
    for (from, to) in (0..30).flat_map(|from| (from..40).map(move |to| (from, to))) {
        let broken = Broken { during: from..to, calls: Arc::default() };
        let id = "test".parse().expect("an id");
        let mut isolated =
            IsolatedForwarder::new(id, Arc::new(broken), Duration::from_secs(30), TargetLiveness::default());
        let batch = events(&["fine", "fine", "fail", "fine", "fine", "fine"]);
        let attempts = loop {
            if let Ok(attempts) = isolated.forward(&batch).await {
                break attempts;
            }
        };
        for (place, Attempt { verdict, counts, .. }) in attempts.iter().enumerate() {
            let is_blamed = *counts && *verdict != Verdict::Delivered;
            assert!(place == 2 || !is_blamed, "{from}..{to}: {place} {verdict:?}");
        }
    }
}

/// An error that passes by itself is never charged, whatever the target does for others meanwhile.
#[tokio::test]
async fn a_lone_event_that_failed_once_is_not_charged() {
    let liveness = TargetLiveness::default();
    let (mut failing, mut other) = (isolated(&liveness), isolated(&liveness));
    other.forward(&events(&["fine"])).await.expect("delivered");
    let mut event = events(&["fail"]);
    assert_eq!(failing.forward(&event).await, Err(Unavailable::new("P0001")));
    other.forward(&events(&["fine"])).await.expect("delivered");
    event[0].action = Some("fine".into());
    let attempt = failing.forward(&event).await.expect("a verdict").remove(0);
    assert_eq!(attempt.verdict, Verdict::Delivered);
}
