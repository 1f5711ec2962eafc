//! The timeline compared with its source, and fixed.

use std::collections::BTreeSet;

use async_nats::jetstream;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait, work_dir::free_port};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::operations::get;

/// Looks not at all.
const NEVER: [&str; 2] = ["--set", "consumer.reconcile.interval=0s"];

/// Looks often.
const OFTEN: [&str; 2] = ["--set", "consumer.reconcile.interval=1s"];

fn reconcile(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<(bool, Value)> {
    let arguments: Vec<&str> = ["reconcile", "--limit", "1000"].iter().chain(arguments).copied().collect();
    pipeline.ask("consumer", &arguments)
}

fn named(answer: &Value, finding: &str) -> BTreeSet<Uuid> {
    let examples = answer["examples"].as_array().cloned().unwrap_or_default();
    let of_finding = examples.iter().filter(|example| example["finding"] == finding);
    of_finding.map(|example| example["id"].as_str().unwrap().parse().unwrap()).collect()
}

/// Waits until both sides are equal.
async fn equal(pipeline: &Pipeline) -> anyhow::Result<Value> {
    wait::until_some("both sides to be equal", DEADLINE, async || {
        let (done, answer) = reconcile(pipeline, &[])?;
        Ok((done && answer["equal"] == true && answer["pending"] == 0).then_some(answer))
    })
    .await
}

/// Conformance: CT-31.
#[tokio::test(flavor = "multi_thread")]
async fn every_removed_altered_and_foreign_action_is_found_and_repaired() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    // The continuous reconciliation would find the removed ones, too.
    let _consumer = pipeline.consumer_with(&NEVER)?;
    let (rows, ids) = samples(400);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let clean = equal(&pipeline).await?;
    assert_eq!(clean["matched"], 400);
    assert_eq!(clean["source"], clean["timeline"], "one digest for both sides");

    // In the order of writing; the ids are random.
    let (removed, altered) = (&ids[..25], &ids[25..60]);
    let mut timeline = pipeline.timeline.connect().await?;
    let delete = sqlx::query("delete from audit_actions where id = any ($1)");
    delete.bind(removed).execute(&mut timeline).await?;
    let columns = [
        "name = 'spoilt'",
        "actor_ref = '{\"type\": \"user\", \"id\": \"somebody else\"}'",
        "status = 'error'",
        "verb = null",
        "reason = 'spoilt'",
        "comment = ''",
        "inserted_at = inserted_at + interval '1 microsecond'",
    ];
    for (id, change) in altered.iter().zip(columns.iter().cycle()) {
        let spoil = format!("update audit_actions set {change} where id = '{id}'");
        timeline.execute(sqlx::AssertSqlSafe(spoil)).await?;
    }
    let foreign: Vec<Uuid> = sqlx::query_scalar(
        "insert into audit_actions (id, name, actor_ref, status, correlation_id)
         select id, 'slipped.in', '{\"type\":\"anonymous\"}', 'ok', id::text from
             (select gen_random_uuid() as id from generate_series(1, 15)) new returning id",
    )
    .fetch_all(&mut timeline)
    .await?;
    timeline
        .execute("insert into audit_actions (name, actor_ref, status) values ('host.own', '{}', 'ok')")
        .await?;

    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(!done && found["equal"] == false, "{found}");
    for (finding, expected) in [("missing", removed), ("differing", altered), ("extra", &foreign)] {
        assert_eq!(found[finding], expected.len(), "{finding}");
        assert_eq!(named(&found, finding), expected.iter().copied().collect(), "{finding}");
    }
    assert_ne!(found["source"]["digest"], found["timeline"]["digest"]);
    assert_eq!(found["source"]["digest"], clean["source"]["digest"]);

    let (_, repaired) = reconcile(&pipeline, &["--repair"])?;
    assert_eq!(repaired["repaired"], 60, "actions without an event are left alone: {repaired}");
    let (done, said) = pipeline.command("consumer", &["reconcile", "--repair"])?;
    assert!(!done && said.contains("with --remove-extra REASON only"), "{said}");
    assert!(!said.contains("--repair enters"), "{said}");
    let (_, repaired) = reconcile(&pipeline, &["--repair", "--remove-extra", "slipped in"])?;
    assert!(repaired["repaired"].as_i64() >= Some(15), "{repaired}");
    let fixed = equal(&pipeline).await?;
    assert_eq!((&fixed["matched"], &fixed["timeline"]), (&400.into(), &clean["timeline"]));
    assert_eq!(pipeline.projected().await?, 401, "what the host recorded by itself is nobody's business");
    let acts: Vec<(String, Option<String>)> =
        sqlx::query_as("select kind, reason from outbox.acts order by id")
            .fetch_all(&mut pipeline.source.connect().await?)
            .await?;
    let repair = |reason: Option<&str>| ("repair".to_owned(), reason.map(str::to_owned));
    assert_eq!(acts, [repair(None), repair(None), repair(Some("slipped in"))]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_or_a_dead_letter_is_no_difference() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    pipeline
        .timeline
        .connect()
        .await?
        .execute("alter table audit_actions add constraint host_rule check (name <> 'test.refused')")
        .await?;
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let fine = AuditRow::sample("test.row");
    pipeline.commit(&[AuditRow::sample("test.refused"), fine.clone()]).await?;
    wait::until_some("a dead letter", DEADLINE, async || {
        Ok((!pipeline.failures().await?.is_empty()).then_some(()))
    })
    .await?;
    pipeline.arrive(&[fine.id]).await?;
    drop(consumer);
    let (rows, _) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(7).await?;
    let (done, answer) = reconcile(&pipeline, &[])?;
    assert!(done, "{answer}");
    assert_eq!((&answer["pending"], &answer["dead"], &answer["matched"]), (&5.into(), &1.into(), &1.into()));
    drop(publisher);
    let (rows, _) = samples(3);
    pipeline.commit(&rows).await?;
    let (done, answer) = reconcile(&pipeline, &["--by", "hour"])?;
    assert!(done && answer["pending"] == 8, "nor is what nobody has read yet: {answer}");
    assert!(!answer["parts"].as_array().unwrap().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_beside_live_traffic_raises_no_false_alarm() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&OFTEN)?;
    let playing = pipeline.play(1_500, 250, 31);
    let mut compared = 0;
    while !playing.is_finished() {
        let (done, answer) = reconcile(&pipeline, &[])?;
        assert!(done, "{answer}");
        compared += 1;
    }
    assert!(compared > 0, "it was compared while rows arrived");
    playing.await??;
    equal(&pipeline).await?;
    let acts: i64 = sqlx::query_scalar("select count(*) from outbox.entries where forwarder is not null")
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
    assert_eq!(acts, 0, "nor does the continuous reconciliation");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_escaped_the_trigger_are_missing_until_they_are_repaired() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (seen, ids) = samples(3);
    pipeline.commit(&seen).await?;
    pipeline.arrive(&ids).await?;
    let mut source = pipeline.source.superuser().await?;
    source
        .execute("set session_replication_role = replica; alter table audit_events disable trigger user")
        .await?;
    let (escaped, ids) = samples(4);
    sandbox::audit::insert(&mut source, &sandbox::fixture::audit_events(), &escaped).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    let (done, said) = pipeline.command("consumer", &["reconcile"])?;
    assert!(!done && said.contains("NOT EQUAL") && said.contains("--repair"), "{said}");
    let (_, answer) = reconcile(&pipeline, &["--repair"])?;
    assert_eq!(answer["repaired"], 4, "{answer}");
    pipeline.arrive(&ids).await?;
    equal(&pipeline).await.map(drop)
}

/// The durable's floor goes past messages that are not there; nobody else would ever look for them.
#[tokio::test(flavor = "multi_thread")]
async fn the_continuous_reconciliation_heals_a_stream_that_lost_acknowledged_messages() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher()?;
    let (rows, ids) = samples(50);
    pipeline.commit(&rows).await?;
    pipeline.references(50).await?;
    let context = jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    let stream = context.get_stream(&pipeline.name).await?;
    for sequence in [7, 8, 30] {
        stream.delete_message(sequence).await?;
    }
    let _consumers = [pipeline.consumer_with(&OFTEN)?, pipeline.consumer_with(&OFTEN)?];
    pipeline.arrive(&ids).await?;
    equal(&pipeline).await?;
    let (checked, missing): (i64, i64) =
        sqlx::query_as("select checked, missing from outbox.reconciled where forwarder = 'timeline'")
            .fetch_one(&mut pipeline.source.connect().await?)
            .await?;
    assert!(checked >= 50 && missing == 3, "{checked} checked, {missing} missing: one process did it, once");
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    drop(publisher);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn told_not_to_repair_the_continuous_reconciliation_makes_the_process_unready() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let _publisher = pipeline.publisher()?;
    let (rows, _) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(5).await?;
    let context = jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    context.get_stream(&pipeline.name).await?.delete_message(3).await?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let mut arguments = vec!["--set", "consumer.reconcile.repair=false", "--set", listen.as_str()];
    arguments.extend(OFTEN);
    let _consumer = pipeline.consumer_with(&arguments)?;
    let said = wait::until_some("it to be unready for what is missing", DEADLINE, async || {
        Ok(get(port, "/readyz").map(|(_, body)| body).filter(|body| body.contains("settled event(s)")))
    })
    .await?;
    assert!(said.contains("1 settled event(s)") && said.contains("consumer reconcile --repair"), "{said}");
    let (_, metrics) = get(port, "/metrics").unwrap();
    assert!(metrics.contains("audit_reconcile_missing_rows{forwarder=\"timeline\"} 1"), "{metrics}");
    assert_eq!(reconcile(&pipeline, &["--repair"])?.1["repaired"], 1);
    wait::until_some("it to be ready again", DEADLINE, async || {
        Ok(get(port, "/readyz").filter(|(status, _)| *status == 200).map(drop))
    })
    .await
}

/// Its owner is unknown: it is not overwritten, and the event becomes a dead letter that says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_action_of_somebody_else_under_an_events_id_is_found_and_never_overwritten() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&NEVER)?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let theirs = format!("update audit_actions set correlation_id = 'theirs' where id = '{}'", ids[1]);
    pipeline.timeline.connect().await?.execute(sqlx::AssertSqlSafe(theirs)).await?;
    let (done, found) = reconcile(&pipeline, &["--repair"])?;
    assert!(done && found["repaired"] == 1, "{found}");
    assert_eq!(named(&found, "differing"), [ids[1]].into());
    wait::until_some("a dead letter", DEADLINE, async || {
        Ok((!pipeline.failures().await?.is_empty()).then_some(()))
    })
    .await?;
    assert_eq!(pipeline.failures().await?[0]["reason"], "id_conflict");
    let action = end_to_end::action(&mut pipeline.timeline.connect().await?, ids[1]).await?;
    assert_eq!(action["correlation_id"], "theirs");
    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(done && found["dead"] == 1, "a dead letter, from now on: {found}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sigras_own_forwarder_has_delivered_is_there_if_it_may_be_adopted() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&NEVER)?;
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table audit_events disable trigger outbox_capture").await?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    let theirs = format!(
        "insert into audit_actions (name, actor_ref, status, correlation_id)
         values ('test.row', '{{\"type\":\"anonymous\"}}', 'ok', '{}')",
        ids[0]
    );
    pipeline.timeline.connect().await?.execute(sqlx::AssertSqlSafe(theirs)).await?;
    assert_eq!(reconcile(&pipeline, &[])?.1["missing"], 1);
    let (done, found) = reconcile(&pipeline, &["--accept-foreign-ids"])?;
    assert!(done && found["adopted"] == 1 && found["missing"] == 0, "{found}");
    Ok(())
}

/// A clean-up uses the time of the insert, and events may be older than that.
#[tokio::test(flavor = "multi_thread")]
async fn actions_that_have_outlived_their_events_are_no_difference() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&NEVER)?;
    let at = |happened: i64, inserted: i64| {
        let row = AuditRow::sample("test.row");
        let ago = |hours| row.occurred_at - time::Duration::hours(hours);
        AuditRow { occurred_at: ago(happened), inserted_at: ago(inserted), ..row.clone() }
    };
    // The last one was imported: it is older than all, and was inserted just now.
    let rows = [at(50, 50), at(40, 40), at(3, 3), at(1_000, 1)];
    pipeline.commit(&rows).await?;
    pipeline.arrive(&rows.each_ref().map(|row| row.id)).await?;
    pipeline.settled("timeline").await?;
    let purge = "delete from audit_events where inserted_at < now() at time zone 'UTC' - interval '20 hours'";
    pipeline.source.connect().await?.execute(purge).await?;
    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(done && found["outlived"] == 2 && found["extra"] == 0 && found["matched"] == 2, "{found}");
    pipeline.source.connect().await?.execute("delete from audit_events").await?;
    let (done, found) = reconcile(&pipeline, &[])?;
    assert!(done && found["outlived"] == 4, "{found}");
    Ok(())
}
