//! The conformance suite, run on what is bundled and on forwarders that violate it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use consumer::{
    prelude::*,
    testing::{
        Scripted,
        conformance::{self, Violation},
    },
};

fn events(count: usize) -> Vec<AuditEvent> {
    (0..count).map(|_| AuditEvent::new(Uuid::new_v4(), "test.row")).collect()
}

#[cfg(feature = "threadline")]
#[tokio::test]
async fn the_forwarder_into_a_timeline_conforms_and_knows_what_it_has_delivered() -> anyhow::Result<()> {
    let timeline = sandbox::fixture::timeline_database().await?;
    let mut settings = Settings::default();
    settings.threadline.url = Some(ConnectionUrl::new(&timeline.url));
    let configured = Registry::with_built_in().configure(&settings, MissingKinds::Refused)?;
    let mut events = events(5);
    // It can become no action: a dead letter, however often it comes.
    events[2].action = None;
    let capabilities = conformance::check(&*configured[0].1, &events).await?;
    assert!(capabilities.finds_delivered && capabilities.tells_serving, "{capabilities:?}");
    let arrived: i64 = sqlx::query_scalar("select count(*) from audit_actions")
        .fetch_one(&mut timeline.connect().await?)
        .await?;
    assert_eq!(arrived, 4);
    Ok(())
}

#[tokio::test]
async fn a_scripted_forwarder_follows_its_script_records_its_calls_and_conforms() -> anyhow::Result<()> {
    let sent = events(2);
    let script = [
        Err(ForwardError::unavailable("away")),
        Ok(vec![Verdict::Delivered, Verdict::Retry("not today".to_owned())]),
    ];
    let scripted = Scripted::new(script);
    let mut worker = scripted.build();
    assert_eq!(worker.forward(&sent).await, Err(ForwardError::unavailable("away")));
    let verdicts = worker.forward(&sent).await?;
    assert_eq!(verdicts[1], Verdict::Retry("not today".to_owned()));
    assert_eq!(scripted.delivered(), HashSet::from([sent[0].id]));
    let verdicts = scripted.build().forward(&sent).await?;
    assert_eq!(verdicts, [Verdict::AlreadyDelivered, Verdict::Delivered], "after its end it delivers");
    assert_eq!(scripted.calls().len(), 3);
    assert_eq!(scripted.calls()[2][1].id, sent[1].id);

    let capabilities = conformance::check(&Scripted::default(), &events(3)).await?;
    assert!(capabilities.finds_delivered && capabilities.tells_serving, "{capabilities:?}");
    Ok(())
}

/// What the suite says of a forwarder whose answers are these, after the empty batch.
async fn violation(answers: Vec<Vec<Verdict>>) -> Violation {
    let scripted = Scripted::new(answers.into_iter().map(Ok));
    conformance::check(&scripted, &events(2)).await.expect_err("it does not conform")
}

#[tokio::test]
async fn what_a_forwarder_must_not_do_is_found() {
    let (good, bad) = (Verdict::Delivered, Verdict::Retry("lost its place".to_owned()));
    let short = violation(vec![vec![good.clone()]]).await;
    assert!(matches!(short, Violation::Count { events: 2, verdicts: 1, .. }), "{short}");
    let batch = vec![good.clone(), bad.clone()];
    // The same verdicts whatever the order of the events.
    let unordered = violation(vec![batch.clone(), batch.clone(), batch.clone()]).await;
    assert!(matches!(unordered, Violation::Changed { .. }), "{unordered}");
    let refused = violation(vec![vec![good.clone(); 2], batch]).await;
    assert!(matches!(refused, Violation::Changed { then: Verdict::Retry(_), .. }), "{refused}");
    assert_eq!(violation(vec![vec![bad; 2]]).await, Violation::Input);
    let same = vec![AuditEvent::default(); 2];
    assert_eq!(conformance::check(&Scripted::default(), &same).await, Err(Violation::Input));
}
