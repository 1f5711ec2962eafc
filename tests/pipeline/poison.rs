//! Forwarders that misbehave: what they cost their own events, and that they cost nobody else's anything.

use std::{fs, path::Path, time::Duration};

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

/// A faulty forwarder beside the timeline, with short waits.
async fn faulty(more: &str) -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::with_settings(&format!(
        "forward_timeout = \"1s\"\n{more}\n[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"100ms\"\nmax = \"200ms\""
    ))
    .await?;
    let (path, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = \"{}\"\nfailing = \"{}\"",
        path.display(),
        failing.display()
    ))?;
    Ok(pipeline)
}

/// The events that the faulty forwarder took, in order.
fn taken(path: &Path) -> Vec<Uuid> {
    fs::read_to_string(path).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_its_process_ends_as_a_dead_letter_and_its_neighbours_are_never_charged()
-> anyhow::Result<()> {
    let pipeline = faulty("").await?;
    let (mut rows, ids) = samples(40);
    let poison = AuditRow::sample("faulty.abort");
    rows.insert(23, poison.clone());
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    let mut deaths = 0;
    // As a supervisor would: whenever it dies, it is started again.
    let mut host = pipeline.custom_consumer()?;
    let path = pipeline.path("faulty");
    wait::until_some("the poison to be buried and its neighbours to be taken", 2 * DEADLINE, async || {
        if host.has_ended()? {
            deaths += 1;
            host = pipeline.custom_consumer()?;
        }
        let buried = pipeline.failures().await?.iter().any(|failure| failure["state"] == "dead");
        let taken = taken(&path);
        Ok((buried && ids.iter().all(|id| taken.contains(id))).then_some(()))
    })
    .await?;
    pipeline.settled("faulty").await?;
    pipeline.settled("timeline").await?;
    let failures = pipeline.failures().await?;
    assert_eq!(failures.len(), 1, "only the poison: {failures:?}");
    assert_eq!(failures[0]["ref"], poison.id.to_string());
    assert_eq!(failures[0]["reason"], "attempts_exhausted");
    assert!(failures[0]["error"].as_str().unwrap().contains("processes have died"), "{failures:?}");
    // Two deaths in company, then five alone.
    assert!((6..=9).contains(&deaths), "{deaths} deaths");
    assert!(pipeline.verdict().await?.holds(), "the other forwarder has everything");
    Ok(())
}

/// What another forwarder of the same process has in hand whenever it dies is not what kills it, however often that happens.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_kills_its_process_is_not_charged_to_what_another_forwarder_had_begun()
-> anyhow::Result<()> {
    let pipeline = faulty("").await?;
    let mut timeline = pipeline.timeline.connect().await?;
    // So that the other one has something in hand all the time.
    timeline.execute("begin; lock audit_actions in access exclusive mode").await?;
    let (rows, ids) = samples(1);
    let poison = AuditRow::sample("faulty.abort_late");
    pipeline.commit(&[&rows[..], std::slice::from_ref(&poison)].concat()).await?;
    let _publisher = pipeline.publisher()?;
    let mut host = pipeline.custom_consumer()?;
    wait::until_some("the poison to be buried", 2 * DEADLINE, async || {
        if host.has_ended()? {
            host = pipeline.custom_consumer()?;
        }
        let dead = |failure: &Value| failure["state"] == "dead" && failure["forwarder"] == "faulty";
        Ok(pipeline.failures().await?.iter().any(dead).then_some(()))
    })
    .await?;
    timeline.execute("rollback").await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let failures = pipeline.failures().await?;
    assert_eq!(failures.len(), 1, "only the poison, and only where it kills: {failures:?}");
    assert_eq!(failures[0]["ref"], poison.id.to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_and_a_hanging_forwarder_do_not_delay_another_forwarders_events() -> anyhow::Result<()> {
    let pipeline = faulty("attempts = 2").await?;
    let _publisher = pipeline.publisher()?;
    let host = pipeline.custom_consumer()?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let bad: Vec<_> =
        ["faulty.hang", "faulty.panic", "faulty.hang", "faulty.refuse"].map(AuditRow::sample).into();
    pipeline.commit(&bad).await?;
    wait::until("the forwarder to hang", DEADLINE, || host.log().contains("sigra.audit.forward.error"))?;
    // While one worker waits for time-outs, the other one delivers as always.
    for _ in 0..10 {
        let (rows, ids) = samples(3);
        pipeline.commit(&rows).await?;
        pipeline.arrive_within(&ids, Duration::from_secs(5)).await?;
    }
    wait::until_some("each of them to end as a dead letter", DEADLINE, async || {
        // That one hangs is charged to it only while the target answers for others.
        pipeline.commit(&samples(1).0).await?;
        let failures = pipeline.failures().await?;
        Ok((failures.iter().filter(|failure| failure["state"] == "dead").count() == 4).then_some(()))
    })
    .await?;
    let mut reasons: Vec<String> =
        pipeline.failures().await?.iter().map(|failure| failure["reason"].as_str().unwrap().into()).collect();
    reasons.sort();
    assert_eq!(
        reasons,
        ["attempts_exhausted", "attempts_exhausted", "attempts_exhausted", "schema_mismatch"]
    );
    pipeline.settled("faulty").await?;
    pipeline.settled("timeline").await?;
    assert!(pipeline.verdict().await?.holds(), "the timeline took them all");
    Ok(())
}

/// The broker keeps its delays in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_delay_that_a_crashed_broker_forgot_is_waited_out_all_the_same() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let (taken_path, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"8s\"\nmax = \"8s\"\n\
         [[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = {taken_path:?}\nfailing = {failing:?}"
    ))?;
    fs::write(&failing, "")?;
    let _publisher = pipeline.publisher()?;
    let _host = pipeline.custom_consumer()?;
    let row = AuditRow::sample("faulty.retry");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let due: time::OffsetDateTime = wait::until_some("the first attempt to fail", DEADLINE, async || {
        let due = sqlx::query_scalar("select next_attempt_at from outbox.failures");
        Ok(due.fetch_optional(&mut pipeline.source.connect().await?).await?.flatten())
    })
    .await?;
    fs::remove_file(&failing)?;
    let nats = &mut pipeline.own_nats.as_mut().unwrap().server;
    nats.kill()?;
    nats.restart()?;
    wait::until("the second attempt", DEADLINE, || taken(&taken_path) == [row.id])?;
    // One clock for both: the database's.
    let now: time::OffsetDateTime = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
    assert!(now >= due, "taken before it was due: {now} {due}");
    Ok(())
}

/// Its message waits at the broker, and is gone with the stream; what comes again for it is a pack, which waits for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_retry_while_the_stream_is_lost_is_tried_when_it_comes_again() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let (taken_path, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"4m\"\nmax = \"5m\"\n\
         [[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = {taken_path:?}\nfailing = {failing:?}"
    ))?;
    fs::write(&failing, "")?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _host = pipeline.custom_consumer()?;
    let waiting = AuditRow::sample("faulty.retry");
    pipeline.commit(std::slice::from_ref(&waiting)).await?;
    wait::until_some("the first attempt to fail", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok(failures.iter().any(|failure| !failure["next_attempt_at"].is_null()).then_some(()))
    })
    .await?;
    fs::remove_file(&failing)?;
    let others: Vec<_> = (0..20).map(|_| AuditRow::sample("faulty.retry")).collect();
    pipeline.commit(&others).await?;
    wait::until("the others", DEADLINE, || taken(&taken_path).len() == 20)?;
    assert!(!taken(&taken_path).contains(&waiting.id), "it waits");
    pipeline.stream().await?.purge().await?;
    wait::until("it to be tried", DEADLINE, || taken(&taken_path).contains(&waiting.id))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dead_letters_is_held_back_and_continues_when_its_cause_is_fixed() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let rule = "alter table audit_actions add constraint host_rule check (name <> 'test.refused')";
    sqlx::raw_sql(rule).execute(&mut pipeline.timeline.connect().await?).await?;
    let rows: Vec<_> = (0..60).map(|_| AuditRow::sample("test.refused")).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    // One transaction, one page, one batch: more than fifty at once.
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(60).await?;
    let consumer = pipeline.consumer()?;
    wait::until("the worker to be held", DEADLINE, || {
        consumer.log().contains("within a minute would become dead letters")
    })?;
    assert!(pipeline.failures().await?.len() <= 50, "no more than fifty in a minute");
    sqlx::raw_sql("alter table audit_actions drop constraint host_rule")
        .execute(&mut pipeline.timeline.connect().await?)
        .await?;
    let held = ids.len() - pipeline.failures().await?.len();
    wait::until_some("the rest to arrive", DEADLINE, async || {
        Ok((pipeline.projected().await? == i64::try_from(held)?).then_some(()))
    })
    .await
}
