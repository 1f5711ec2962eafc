//! Dispatch `sync`: without any broker; and the change from one to the other.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, postgres::Stop, wait, work_dir::free_port};

use crate::doctor::doctor;

const SYNC: &str = "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"sync\"";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_auto_reads_the_log_itself_and_loses_nothing_to_kills() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = String::new();
    let mut consumers = [pipeline.consumer()?, pipeline.consumer()?];
    let writing = pipeline.play(3_000, 600, 31);
    let mut projected = 0;
    for turn in 0..4 {
        projected = pipeline.progress(projected, 100, &writing).await?;
        consumers[turn % 2].kill()?;
        consumers[turn % 2] = pipeline.consumer()?;
    }
    let written = writing.await??;
    pipeline.arrive(&written.committed).await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    assert!(consumers.iter().all(|consumer| consumer.log().contains("\"chosen\":\"sync\"")));
    wait::until_some("start marks to be taken back", DEADLINE, async || {
        Ok(pipeline.failures().await?.is_empty().then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn async_without_a_broker_fails_at_boot_and_names_the_remedy() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.configure(&SYNC.replace("sync", "async"))?;
    pipeline.nats_url = String::new();
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(
        !done && said.contains("forwarder timeline: dispatch") && said.contains("needs a broker"),
        "{said}"
    );
    pipeline.nats_url = format!("nats://127.0.0.1:{}", free_port()?);
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("cannot connect to NATS at"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_event_of_the_log_is_swept_when_it_is_due_and_does_not_stop_the_others() -> anyhow::Result<()>
{
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = String::new();
    let (taken, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"200ms\"\nmax = \"200ms\"\n\
         [[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = {taken:?}\nfailing = {failing:?}"
    ))?;
    std::fs::write(&failing, "")?;
    let _host = pipeline.custom_consumer()?;
    let (retried, after) = (AuditRow::sample("faulty.retry"), AuditRow::sample("test.after"));
    pipeline.commit(std::slice::from_ref(&retried)).await?;
    pipeline.commit(std::slice::from_ref(&after)).await?;
    let lines = || std::fs::read_to_string(&taken).unwrap_or_default();
    wait::until("the event after it", DEADLINE, || lines().contains(&after.id.to_string()))?;
    wait::until_some("a second attempt", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok(failures.iter().any(|failure| failure["attempts"].as_i64() >= Some(2)).then_some(()))
    })
    .await?;
    std::fs::remove_file(&failing)?;
    wait::until("it to be taken", DEADLINE, || lines().contains(&retried.id.to_string()))?;
    wait::until_some("its failure row to go", DEADLINE, async || {
        Ok(pipeline.failures().await?.is_empty().then_some(()))
    })
    .await?;
    assert_eq!(lines().lines().count(), 2, "each once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_the_log_is_delivered_again_in_the_same_dispatch_mode() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = String::new();
    let rule = "alter table audit_actions add constraint host_rule check (name <> 'test.refused')";
    sqlx::raw_sql(rule).execute(&mut pipeline.timeline.connect().await?).await?;
    let row = AuditRow::sample("test.refused");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let _consumer = pipeline.consumer()?;
    wait::until_some("the dead letter", DEADLINE, async || {
        Ok(pipeline.failures().await?.iter().any(|failure| failure["state"] == "dead").then_some(()))
    })
    .await?;
    sqlx::raw_sql("alter table audit_actions drop constraint host_rule")
        .execute(&mut pipeline.timeline.connect().await?)
        .await?;
    let (done, said) = pipeline.command("consumer", &["failures", "redrive", "--all"])?;
    assert!(done, "{said}");
    pipeline.arrive(&[row.id]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatch_changes_both_ways_and_a_path_that_is_not_drained_is_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let (rows, first) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    let mut consumer = pipeline.consumer()?;
    pipeline.arrive(&first).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;

    // Published, and nobody has it.
    let (rows, second) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(25).await?;
    pipeline.configure(SYNC)?;
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("not drained (1 message(s)"), "{said}");
    let mut consumer = pipeline.consumer_with(&["--set", "forwarder.0.dispatch=async"])?;
    pipeline.arrive(&second).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    publisher.terminate(DEADLINE)?;

    let mut consumer = pipeline.consumer()?;
    let (rows, third) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&third).await?;
    assert!(consumer.log().contains("from async to sync"), "{}", consumer.log());
    consumer.terminate(DEADLINE)?;
    let names: Vec<String> =
        futures::TryStreamExt::try_collect(pipeline.stream().await?.consumer_names()).await?;
    assert!(names.is_empty(), "the durable holds nothing back any more: {names:?}");

    // And back: what JetStream was handed and the log's reader was not is not drained.
    let mut publisher = pipeline.publisher()?;
    let (rows, fourth) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(35).await?;
    publisher.terminate(DEADLINE)?;
    let change = ["--set", "forwarder.0.dispatch=async"];
    let (done, said) = pipeline.command("consumer", &["run", change[0], change[1]])?;
    assert!(!done && said.contains("Stop the publisher"), "{said}");
    let mut consumer = pipeline.consumer()?;
    pipeline.arrive(&fourth).await?;
    consumer.terminate(DEADLINE)?;
    let consumer = pipeline.consumer_with(&change)?;
    wait::until("the change", DEADLINE, || consumer.log().contains("from sync to async"))?;
    let _publisher = pipeline.publisher()?;
    let (rows, fifth) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&fifth).await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds() && verdict.committed == 40, "{verdict}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_crash_under_direct_dispatch_lose_and_repeat_nothing() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_postgres().await?;
    pipeline.nats_url = String::new();
    let consumer = pipeline.consumer()?;
    wait::until("the consumer to lead", DEADLINE, || consumer.log().contains("\"leading\""))?;
    let mut ids = Vec::new();
    for how in [Stop::Kill, Stop::Immediate] {
        let (rows, mut some) = samples(200);
        pipeline.commit(&rows).await?;
        ids.append(&mut some);
        let postgres = &mut pipeline.own_postgres.as_mut().unwrap().server;
        postgres.stop(how)?;
        postgres.restart()?;
    }
    pipeline.arrive(&ids).await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds() && verdict.committed == 400, "{verdict}");
    Ok(())
}

/// It would deliver everything a second time, and the next consumer with a broker would not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_broker_is_refused_where_a_publisher_reads_the_log() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let broker = std::mem::take(&mut pipeline.nats_url);
    let mut refused = pipeline.spawn("consumer", &["run"])?;
    assert_eq!(refused.wait(DEADLINE)?.code(), Some(2), "no restart fixes it: {}", refused.log());
    let said = refused.log();
    assert!(said.contains("set broker.url") && said.contains("publisher drop-reader jetstream"), "{said}");
    // The doctor says so without a start.
    doctor(&pipeline, "consumer", &[])?.has("dispatch-without-broker", &["publisher drop-reader jetstream"]);
    pipeline.nats_url = broker;
    drop(consumer);
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await
}
