//! An audit table that becomes another one, or loses columns, under running services: rows that are there never become
//! dead letters.

use std::process::Command;

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{process::Process, wait, work_dir::free_port};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use uuid::Uuid;

use crate::operations::get;

const OPTIONS: [&str; 4] = ["--set", "consumer.batch_rows=4", "--set", "consumer.reconcile.interval=0s"];

/// A pipeline that has delivered one row, and whose consumer has stopped.
async fn begun() -> anyhow::Result<(Pipeline, Process, PgConnection)> {
    let pipeline = Pipeline::with_settings("").await?;
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    drop(consumer);
    let application = pipeline.source.connect().await?;
    Ok((pipeline, publisher, application))
}

fn signal(process: &Process, signal: &str) -> anyhow::Result<()> {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status()?;
    anyhow::ensure!(sent.success(), "kill {signal}: {sent}");
    Ok(())
}

/// Commits rows and changes the table behind them while the consumer stands still: then it is unready, says what `said` asks for, and
/// leaves no dead letter.
async fn held(
    pipeline: &Pipeline,
    application: &mut PgConnection,
    change: &str,
    said: &[&str],
) -> anyhow::Result<(Process, Vec<Uuid>)> {
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let arguments: Vec<&str> = ["--set", listen.as_str()].into_iter().chain(OPTIONS).collect();
    let consumer = pipeline.consumer_with(&arguments)?;
    wait::until("the consumer to be ready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    })?;
    signal(&consumer, "-STOP")?;
    let (rows, ids) = samples(10);
    pipeline.commit(&rows).await?;
    pipeline.references(11).await?;
    application.execute(AssertSqlSafe(change.to_owned())).await?;
    signal(&consumer, "-CONT")?;
    wait::until("the consumer to be unready and to say why", DEADLINE, || {
        get(port, "/readyz")
            .is_some_and(|(status, body)| status == 503 && said.iter().all(|words| body.contains(words)))
    })?;
    pipeline.charges_nobody().await?;
    assert_eq!(pipeline.projected().await?, 1);
    Ok((consumer, ids))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_column_id_became_another_one_are_held_until_it_has_its_name_back() -> anyhow::Result<()> {
    let (pipeline, _publisher, mut application) = begun().await?;
    let change = "alter table audit_events drop constraint audit_events_pkey, alter id drop not null;
         alter table audit_events rename id to legacy_id;
         alter table audit_events add id uuid not null default gen_random_uuid() primary key;
         grant select on audit_events to audit_consumer";
    let (_consumer, ids) =
        held(&pipeline, &mut application, change, &["\\\"id\\\"", "publisher attach"]).await?;
    application
        .execute("alter table audit_events drop id; alter table audit_events rename legacy_id to id")
        .await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_in_whose_place_an_empty_one_was_put_are_held_until_they_are_there()
-> anyhow::Result<()> {
    let (pipeline, _publisher, mut application) = begun().await?;
    let change = "begin; alter table audit_events rename to audit_events_2026;
         create table audit_events (like audit_events_2026 including all);
         grant select on audit_events to audit_consumer, audit_decider; commit";
    let said = ["another table is called public.audit_events now", "audit_events_2026"];
    let (_consumer, ids) = held(&pipeline, &mut application, change, &said).await?;
    application.execute("insert into audit_events select * from audit_events_2026").await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_was_let_go_of_and_swapped_are_held_until_they_are_there() -> anyhow::Result<()>
{
    let (pipeline, _publisher, mut application) = begun().await?;
    let change = "select outbox.detach(); begin; alter table audit_events rename to audit_old;
         create table audit_events (like audit_old including all);
         grant select on audit_events to audit_consumer, audit_decider; commit";
    let said = ["still to be delivered are in public.audit_old", "copy these rows"];
    let (_consumer, ids) = held(&pipeline, &mut application, change, &said).await?;
    application.execute("insert into audit_events select * from audit_old").await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_renamed_with_a_view_in_its_place_is_said_to_be_so_and_its_remedy_works()
-> anyhow::Result<()> {
    let (pipeline, publisher, mut application) = begun().await?;
    application
        .execute(
            "begin; alter table audit_events rename to audit_log; create view audit_events as select * from audit_log; commit",
        )
        .await?;
    // Rows that come in through the view are captured.
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    let (done, said) = pipeline.command("publisher", &["status"])?;
    assert!(
        !done && said.contains("called public.audit_log now") && !said.contains("another table"),
        "{said}"
    );
    let (_, doctor) = pipeline.ask("publisher", &["doctor"])?;
    assert!(doctor.to_string().contains("must name the table itself"), "{doctor}");
    drop(publisher);
    pipeline.configure("[source]\ntable = \"public.audit_log\"")?;
    for command in ["attach", "rebase"] {
        let (done, said) = pipeline.command("publisher", &[command])?;
        assert!(done, "{command}: {said}");
    }
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_a_forwarder_needs_and_that_goes_meanwhile_holds_delivery_until_it_is_back()
-> anyhow::Result<()> {
    let (pipeline, _publisher, mut application) = begun().await?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let consumer = pipeline.consumer_with(&["--set", &listen, "--set", "consumer.workers=1"])?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;

    application.execute("alter table audit_events rename action to event_name").await?;
    let renamed: Vec<Uuid> = sqlx::query_scalar(
        "insert into audit_events (id, occurred_at, event_name, outcome, inserted_at)
         select gen_random_uuid(), now(), 'two', 'success', now() from generate_series(1, 10) returning id",
    )
    .fetch_all(&mut application)
    .await?;
    wait::until("the consumer to be unready and to say why", DEADLINE, || {
        get(port, "/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains("has no column action"))
    })?;
    pipeline.charges_nobody().await?;
    application.execute("alter table audit_events rename event_name to action").await?;
    pipeline.arrive(&renamed).await?;
    wait::until("the consumer to be ready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    })?;

    // One that is optional: an event without it is delivered, and somebody is told.
    application.execute("alter table audit_events rename outcome to result").await?;
    let without: Vec<Uuid> = sqlx::query_scalar(
        "insert into audit_events (id, occurred_at, action, result, inserted_at)
         values (gen_random_uuid(), now(), 'three', 'success', now()) returning id",
    )
    .fetch_all(&mut application)
    .await?;
    pipeline.arrive(&without).await?;
    let log = consumer.log();
    assert_eq!(log.matches("has no column outcome any more").count(), 1, "{log}");
    Ok(())
}
