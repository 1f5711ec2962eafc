//! The status of one event.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{
    audit::{self, AuditRow},
    fixture::audit_events,
    wait,
};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

fn explain(pipeline: &Pipeline, id: Uuid) -> anyhow::Result<Value> {
    let (done, answer) = pipeline.ask("consumer", &["explain", &id.to_string()])?;
    anyhow::ensure!(done, "{answer}");
    Ok(answer)
}

fn verdict(pipeline: &Pipeline, id: Uuid) -> anyhow::Result<String> {
    Ok(explain(pipeline, id)?["diagnosis"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_explained_at_every_station_of_its_way() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let row = AuditRow::sample("test.row");
    let mut writer = pipeline.source.connect().await?;
    writer.execute("begin").await?;
    audit::insert(&mut writer, &audit_events(), std::slice::from_ref(&row)).await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut writer).await?;
    let said = verdict(&pipeline, row.id)?;
    assert!(said.contains(&format!("process {pid}")) && said.contains("idle in transaction"), "{said}");

    writer.execute("commit").await?;
    let said = verdict(&pipeline, row.id)?;
    assert!(said.contains("is the publisher running?"), "{said}");

    let publisher = pipeline.publisher()?;
    pipeline.references(1).await?;
    wait::until_some("the entry to be handed over", DEADLINE, async || {
        Ok((explain(&pipeline, row.id)?["entries"][0]["readers"][0]["state"] == "handed_over").then_some(()))
    })
    .await?;
    let answer = explain(&pipeline, row.id)?;
    assert!(answer["diagnosis"].as_str().unwrap_or_default().contains("on its way"), "{answer}");
    assert_eq!(answer["stream"]["messages"][0]["sequence"], 1, "{answer}");
    assert_eq!(answer["stream"]["messages"][0]["id"], row.id.to_string());

    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&[row.id]).await?;
    pipeline.settled("timeline").await?;
    let answer = explain(&pipeline, row.id)?;
    assert_eq!(answer["diagnosis"], "it has arrived");
    assert_eq!(answer["timelines"][0]["state"], "as it should be");
    // Its column has no zone.
    let occurred_at = common::time_arg::to_rfc3339(row.occurred_at);
    assert_eq!(answer["row"]["occurred_at"], occurred_at, "{answer}");
    assert_eq!(answer["stream"]["durables"][0]["settled_up_to"], 1);
    let (done, text) = pipeline.command("consumer", &["explain", &row.id.to_string()])?;
    assert!(
        done && text.contains("=> it has arrived") && text.contains("handed over and acknowledged"),
        "{text}"
    );
    assert!(text.contains(&format!("test.row at {occurred_at}")), "{text}");
    // What has one is shown in UTC as well.
    pipeline
        .source
        .connect()
        .await?
        .execute("alter table audit_events alter occurred_at type timestamptz using occurred_at at time zone 'UTC'")
        .await?;
    assert_eq!(explain(&pipeline, row.id)?["row"]["occurred_at"], occurred_at);

    let spoil = "update audit_actions set name = 'spoilt'";
    pipeline.timeline.connect().await?.execute(spoil).await?;
    let answer = explain(&pipeline, row.id)?;
    assert_eq!(answer["timelines"][0]["columns"], serde_json::json!(["name"]), "{answer}");

    let said = verdict(&pipeline, Uuid::new_v4())?;
    assert!(said.starts_with("no such row is committed"), "{said}");
    drop(publisher);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_a_row_that_was_never_captured_are_explained() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut timeline = pipeline.timeline.connect().await?;
    timeline
        .execute("alter table audit_actions add constraint host_rule check (name <> 'test.refused')")
        .await?;
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table audit_events disable trigger outbox_capture").await?;
    let (uncaptured, ids) = samples(1);
    pipeline.commit(&uncaptured).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    let refused = AuditRow::sample("test.refused");
    pipeline.commit(std::slice::from_ref(&refused)).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    wait::until_some("a dead letter", DEADLINE, async || {
        Ok((!pipeline.failures().await?.is_empty()).then_some(()))
    })
    .await?;
    let said = verdict(&pipeline, refused.id)?;
    assert!(said.contains("state dead (schema_mismatch)") && said.contains("failures show"), "{said}");
    let said = verdict(&pipeline, ids[0])?;
    assert!(said.contains("never captured") && said.contains("publisher backfill"), "{said}");
    Ok(())
}
