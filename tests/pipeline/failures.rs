//! What cannot be delivered, and what that costs the others.

use end_to_end::{DEADLINE, Pipeline};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;

async fn failures(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
    wait::until_some("failure rows", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok((failures.len() >= count).then_some(failures))
    })
    .await
}

fn short(failure: &Value) -> [&str; 3] {
    ["forwarder", "state", "reason"].map(|field| failure[field].as_str().unwrap_or("-"))
}

#[tokio::test]
async fn a_row_deleted_before_delivery_is_a_dead_letter_with_its_reason() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (gone, kept) = (AuditRow::sample("test.gone"), AuditRow::sample("test.kept"));
    pipeline.commit(&[gone.clone(), kept.clone()]).await?;
    pipeline.source.connect().await?.execute("delete from audit_events where action = 'test.gone'").await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let failures = failures(&pipeline, 1).await?;
    assert_eq!(short(&failures[0]), ["timeline", "dead", "audit_event_not_found"]);
    assert_eq!(failures[0]["ref"], gone.id.to_string());
    pipeline.arrive(&[kept.id]).await
}

#[tokio::test]
async fn what_the_timeline_refuses_is_a_dead_letter_and_its_neighbours_arrive() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    pipeline
        .timeline
        .connect()
        .await?
        .execute("alter table audit_actions add constraint host_rule check (name <> 'test.refused')")
        .await?;
    let mut rows: Vec<_> = (0..30).map(|_| AuditRow::sample("test.fine")).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    rows.insert(17, AuditRow::sample("test.refused"));
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = failures(&pipeline, 1).await?;
    assert_eq!(failures.len(), 1);
    assert_eq!(short(&failures[0]), ["timeline", "dead", "schema_mismatch"]);
    assert_eq!(failures[0]["attempts"], 1);
    Ok(())
}

#[tokio::test]
async fn something_else_under_the_events_id_is_a_conflict_and_stays_untouched() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let row = AuditRow::sample("test.row");
    sqlx::query(
        "insert into audit_actions (id, name, actor_ref, status, correlation_id)
         values ($1, 'of.the.host', '{\"type\":\"anonymous\"}', 'ok', 'request-7')",
    )
    .bind(row.id)
    .execute(&mut pipeline.timeline.connect().await?)
    .await?;
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let failures = failures(&pipeline, 1).await?;
    assert_eq!(short(&failures[0]), ["timeline", "dead", "id_conflict"]);
    let action = end_to_end::action(&mut pipeline.timeline.connect().await?, row.id).await?;
    assert_eq!(action["name"], "of.the.host");
    Ok(())
}

#[tokio::test]
async fn what_is_no_reference_and_what_is_nobodys_end_as_dead_letters() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    pipeline.arrive(&[row.id]).await?;
    let client = async_nats::connect(&pipeline.nats_url).await?;
    let stray = format!(r#"{{"forwarder":"nobody","audit_event_id":"{}","occurred_at":null}}"#, row.id);
    // A NUL, which no text column of PostgreSQL can hold, in what the parser quotes.
    let nul = r#"{"forwarder":"*","audit_event_id":"\u0000","occurred_at":null}"#.to_owned();
    for body in ["this is not JSON".to_owned(), nul, stray] {
        client.publish(format!("{}.events", pipeline.name), body.into()).await?;
    }
    client.flush().await?;
    let failures = failures(&pipeline, 3).await?;
    assert_eq!(short(&failures[0]), ["nobody", "dead", "unknown_forwarder"]);
    assert_eq!(short(&failures[1]), ["timeline", "dead", "malformed_reference"]);
    assert_eq!(short(&failures[2]), ["timeline", "dead", "malformed_reference"]);
    assert!(failures[1]["ref"].as_str().unwrap().starts_with("stream:20"), "{}", failures[1]["ref"]);
    let stream = pipeline.stream().await?;
    let mut durable: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("forward-timeline").await.map_err(|error| anyhow::anyhow!(error))?;
    wait::until_some("both to be settled", DEADLINE, async || {
        Ok((durable.info().await?.num_ack_pending == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_retry_that_is_not_due_waits_out_the_rest_of_its_delay() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let mut source = pipeline.source.connect().await?;
    // As a crashed broker leaves it: the row says "in ten seconds", the broker has forgotten and delivers now.
    let due: time::OffsetDateTime = sqlx::query_scalar(
        "insert into outbox.failures (forwarder, ref, audit_event_id, state, error, attempts, next_attempt_at)
         values ('timeline', $1, $2, 'retrying', 'before', 2, clock_timestamp() + interval '10 seconds')
         returning next_attempt_at",
    )
    .bind(row.id.to_string())
    .bind(row.id)
    .fetch_one(&mut source)
    .await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&[row.id]).await?;
    let arrived: time::OffsetDateTime =
        sqlx::query_scalar("select pg_xact_commit_timestamp(xmin) from audit_actions where id = $1")
            .bind(row.id)
            .fetch_one(&mut pipeline.timeline.connect().await?)
            .await?;
    // Both times are of one server; the delay travels through the broker, which rounds to milliseconds.
    assert!(
        arrived > due - time::Duration::milliseconds(50),
        "it arrived before it was due: {arrived} {due}"
    );
    wait::until_some("the failure row to go with the delivery", DEADLINE, async || {
        Ok(pipeline.failures().await?.is_empty().then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_id_of_which_no_failure_is_known_is_an_error_for_every_command_that_takes_one()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (known, unknown) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    sqlx::query(
        "insert into outbox.failures (forwarder, ref, audit_event_id, state, reason, error, attempts)
         values ('timeline', $1, $1::uuid, 'dead', 'schema_mismatch', 'before', 1)",
    )
    .bind(&known)
    .execute(&mut pipeline.source.connect().await?)
    .await?;
    for arguments in [
        &["failures", "show", &unknown][..],
        &["failures", "redrive", "--id", &unknown],
        &["failures", "redrive", "--id", &unknown, "--dry-run"],
        &["failures", "discard", "--id", &unknown, "--reason", "why"],
        &["failures", "discard", "--id", &unknown, "--reason", "why", "--dry-run"],
    ] {
        let (done, said) = pipeline.command("consumer", arguments)?;
        assert!(
            !done && said.contains(&format!("there is no failure of {unknown}")),
            "{arguments:?}: {said}"
        );
    }
    for said in ["1 discarded", "0 discarded"] {
        let discard = ["failures", "discard", "--id", &known, "--reason", "why"];
        let (done, answer) = pipeline.command("consumer", &discard)?;
        assert!(done && answer.starts_with(said), "{answer}");
    }
    Ok(())
}
