//! Dead letters: listed, shown, delivered again, discarded.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;

/// A timeline that refuses some actions until the rule is dropped.
async fn refusing() -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::new().await?;
    let rule = "alter table audit_actions add constraint host_rule check (name not like 'test.refused%')";
    pipeline.timeline.connect().await?.execute(rule).await?;
    Ok(pipeline)
}

async fn accept(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.timeline.connect().await?.execute("alter table audit_actions drop constraint host_rule").await?;
    Ok(())
}

async fn dead(pipeline: &Pipeline, count: usize) -> anyhow::Result<()> {
    // A batch in which nothing is accepted is held three times before it is judged.
    wait::until_some("dead letters", 2 * DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok((failures.iter().filter(|failure| failure["state"] == "dead").count() == count).then_some(()))
    })
    .await
}

fn ask(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<Value> {
    let arguments: Vec<&str> = ["failures"].iter().chain(arguments).chain(&["--json"]).copied().collect();
    let (done, said) = pipeline.command("consumer", &arguments)?;
    anyhow::ensure!(done, "{arguments:?}: {said}");
    Ok(serde_json::from_str(&said)?)
}

async fn acts(pipeline: &Pipeline) -> anyhow::Result<Vec<(String, String, i64, Option<String>)>> {
    let acts = sqlx::query_as("select kind, filter, count, reason from outbox.acts order by id");
    Ok(acts.fetch_all(&mut pipeline.source.connect().await?).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_delivered_again_once_its_cause_is_fixed() -> anyhow::Result<()> {
    let pipeline = refusing().await?;
    let refused = AuditRow::sample("test.refused");
    pipeline.commit(std::slice::from_ref(&refused)).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    dead(&pipeline, 1).await?;

    let dry = ask(&pipeline, &["redrive", "--action", "test.*", "--dry-run"])?;
    assert_eq!((&dry["matched"], &dry["done"], &dry["dry_run"]), (&1.into(), &0.into(), &true.into()));
    assert_eq!(acts(&pipeline).await?, [], "a dry run leaves nothing behind");

    // The cause is still there: it comes back as dead as it was, and its message was not taken for a duplicate.
    assert_eq!(ask(&pipeline, &["redrive", "--reason-code", "schema_mismatch"])?["done"], 1);
    wait::until_some("a second death", DEADLINE, async || {
        let failure = pipeline.failures().await?.remove(0);
        Ok((failure["state"] == "dead" && failure["last_failed_at"] != failure["first_failed_at"])
            .then_some(()))
    })
    .await?;

    accept(&pipeline).await?;
    assert_eq!(ask(&pipeline, &["redrive", "--id", &refused.id.to_string()])?["done"], 1);
    pipeline.arrive(&[refused.id]).await?;
    wait::until_some("the failure row to go", DEADLINE, async || {
        Ok(pipeline.failures().await?.is_empty().then_some(()))
    })
    .await?;
    assert!(pipeline.verdict().await?.holds());
    let acts = acts(&pipeline).await?;
    assert_eq!(acts[0], ("redrive".into(), "state dead, reason schema_mismatch".into(), 1, None));
    assert_eq!(acts[1].2, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_and_discard_refuse_to_reach_everything_by_mistake() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    for arguments in [&["failures", "redrive"][..], &["failures", "discard", "--reason", "test"]] {
        let (done, said) = pipeline.command("consumer", arguments)?;
        assert!(!done && said.contains("--all"), "{said}");
    }
    let (done, said) = pipeline.command("consumer", &["failures", "discard", "--all"])?;
    assert!(!done && said.contains("--reason"), "{said}");
    assert_eq!(ask(&pipeline, &["redrive", "--all"])?["done"], 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dead_letters_are_delivered_again_in_chunks_and_each_once() -> anyhow::Result<()> {
    let pipeline = refusing().await?;
    pipeline.configure("[consumer.backoff]\nprofile = \"exponential\"")?;
    let rows: Vec<_> = (0..250).map(|_| AuditRow::sample("test.refused")).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    // More than the breaker lets pass: this one is told that they may.
    let (_, said) = pipeline
        .command("consumer", &["config", "check", "--set", "consumer.max_dead_letters_per_minute=0"])?;
    assert!(said.contains("valid"), "{said}");
    let _consumer = pipeline.consumer_with(&["--set", "consumer.max_dead_letters_per_minute=0"])?;
    dead(&pipeline, 250).await?;
    accept(&pipeline).await?;
    let answer = ask(&pipeline, &["redrive", "--forwarder", "timeline", "--rate", "5000"])?;
    assert_eq!(answer["done"], 250);
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_event_stays_with_its_reason_and_is_not_delivered_by_a_redelivery() -> anyhow::Result<()>
{
    let pipeline = refusing().await?;
    let refused = AuditRow::sample("test.refused");
    pipeline.commit(std::slice::from_ref(&refused)).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    dead(&pipeline, 1).await?;
    let id = refused.id.to_string();
    assert_eq!(ask(&pipeline, &["discard", "--id", &id, "--reason", "a test row"])?["done"], 1);
    accept(&pipeline).await?;
    // Sent once more, as a rewind would: the decision holds.
    let client = async_nats::connect(&pipeline.nats_url).await?;
    let body = format!(r#"{{"forwarder":"*","audit_event_id":"{id}","occurred_at":null}}"#);
    client.publish(format!("{}.events", pipeline.name), body.into()).await?;
    client.flush().await?;
    let (after, ids) = samples(1);
    pipeline.commit(&after).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let failures = pipeline.failures().await?;
    assert_eq!(failures[0]["state"], "discarded");
    assert_eq!(failures[0]["note"], "a test row");
    assert_eq!(pipeline.projected().await?, 1, "only the row after it");
    assert_eq!(acts(&pipeline).await?[0].3.as_deref(), Some("a test row"));

    // A decision can be taken back.
    let answer = ask(&pipeline, &["redrive", "--id", &id, "--discarded"])?;
    assert_eq!(answer["done"], 1);
    pipeline.arrive(&[refused.id]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_filtered_and_shown_with_personal_fields_masked() -> anyhow::Result<()> {
    let pipeline = refusing().await?;
    let with_address = |action: &str| AuditRow {
        ip_address: Some("203.0.113.7".into()),
        user_agent: Some("Netscape".into()),
        ..AuditRow::sample(action)
    };
    let (one, other) = (with_address("test.refused.one"), with_address("test.refused.other"));
    pipeline.commit(&[one.clone(), other.clone()]).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    dead(&pipeline, 2).await?;
    for (arguments, count) in [
        (&["list"][..], 2),
        (&["list", "--action", "test.refused.one"], 1),
        (&["list", "--action", "test.refused.*"], 2),
        (&["list", "--action", "test.refused"], 0),
        (&["list", "--reason-code", "schema_mismatch", "--forwarder", "timeline"], 2),
        (&["list", "--reason-code", "id_conflict"], 0),
        (&["list", "--forwarder", "nobody"], 0),
        (&["list", "--state", "retrying", "--state", "queued"], 0),
        (&["list", "--state", "dead", "--limit", "1"], 1),
        (&["list", "--since", "1h"], 2),
        (&["list", "--until", "1h"], 0),
    ] {
        let listed = ask(&pipeline, arguments)?;
        assert_eq!(listed.as_array().unwrap().len(), count, "{arguments:?}: {listed}");
        assert!(!listed.to_string().contains("203.0.113.7"));
    }
    let id = one.id.to_string();
    let shown = ask(&pipeline, &["show", &id])?;
    assert_eq!(shown["failures"][0]["reason"], "schema_mismatch");
    assert!(shown["failures"][0]["error"].as_str().unwrap().contains("host_rule"));
    assert_eq!(shown["audit_row"]["action"], "test.refused.one");
    assert_eq!(shown["audit_row"]["ip_address"], "***");
    let (done, text) = pipeline.command("consumer", &["failures", "show", &id])?;
    assert!(done && text.contains("attempts       1") && !text.contains("203.0.113.7"), "{text}");
    let unmasked = ask(&pipeline, &["show", &id, "--unmask"])?;
    assert_eq!(unmasked["audit_row"]["ip_address"], "203.0.113.7");
    assert_eq!(acts(&pipeline).await?[0].0, "unmask", "whoever looks leaves a trace");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_any_more_is_left_where_it_is_by_a_redrive() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let mut source = pipeline.source.connect().await?;
    source
        .execute(
            "insert into outbox.failures (forwarder, ref, audit_event_id, state, reason)
             select 'timeline', id::text, id, 'dead', 'audit_event_not_found' from gen_random_uuid() id
             union all select 'removed', id::text, id, 'dead', 'schema_mismatch' from audit_events
             union all select 'timeline', 'stream:2026-01-01T00:00:00Z:7', null, 'dead', 'malformed_reference'",
        )
        .await?;
    let answer = ask(&pipeline, &["redrive", "--all"])?;
    assert_eq!((&answer["matched"], &answer["done"]), (&3.into(), &0.into()), "{answer}");
    assert_eq!(ask(&pipeline, &["discard", "--all", "--reason", "too late"])?["done"], 3);
    Ok(())
}
