//! Many references in one message: when they travel so, and that each of them fails, comes again and is found by itself.

use std::fs;

use async_nats::jetstream::message::StreamMessage;
use common::{broker, reference::Body};
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, nats::delete_stream, wait, work_dir::free_port};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::operations::get;

/// The message at a sequence.
async fn message(pipeline: &Pipeline, sequence: u64) -> anyhow::Result<StreamMessage> {
    Ok(pipeline.stream().await?.get_raw_message(sequence).await?)
}

/// How many references each message of the stream holds, as its header says and as its body does.
async fn sizes(pipeline: &Pipeline) -> anyhow::Result<Vec<usize>> {
    let state = pipeline.stream().await?.cached_info().state.clone();
    let mut sizes = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = message(pipeline, sequence).await?;
        let references = Body::read(&message.payload)?.events().count();
        assert_eq!(broker::references(Some(&message.headers)), references);
        sizes.push(references);
    }
    Ok(sizes)
}

async fn message_id(pipeline: &Pipeline, sequence: u64) -> anyhow::Result<String> {
    let headers = message(pipeline, sequence).await?.headers;
    Ok(headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default())
}

async fn description(pipeline: &Pipeline) -> anyhow::Result<String> {
    Ok(pipeline.stream().await?.cached_info().config.description.clone().unwrap_or_default())
}

/// Commits so many rows at once.
async fn commit(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Uuid>> {
    let (rows, ids) = samples(count);
    pipeline.commit(&rows).await?;
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_many_entries_travels_in_packs_and_a_trickle_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let port = free_port()?;
    let _publisher = pipeline.publisher_with(&["--set", &format!("publisher.listen=127.0.0.1:{port}")])?;
    let consumer = pipeline.consumer()?;
    let few = commit(&pipeline, 3).await?;
    pipeline.arrive(&few).await?;
    let many = commit(&pipeline, 300).await?;
    pipeline.arrive(&many).await?;
    pipeline.settled("timeline").await?;
    assert_eq!(sizes(&pipeline).await?, [1, 1, 1, 256, 44]);
    assert_eq!(message_id(&pipeline, 1).await?, few[0].to_string());
    assert!(message_id(&pipeline, 4).await?.starts_with("pack:"));
    assert!(description(&pipeline).await?.ends_with(" (packed)"));
    let (_, metrics) = wait::until_some("metrics", DEADLINE, async || Ok(get(port, "/metrics"))).await?;
    for line in ["audit_publish_sent_total 303", "audit_publish_messages_total 5"] {
        assert!(metrics.lines().any(|there| there == line), "{line}: {metrics}");
    }
    pipeline.charges_nobody().await?;
    assert!(pipeline.verdict().await?.holds());
    // How newer brokers say that a request was fulfilled is no outage.
    assert!(!consumer.log().contains("waiting for the broker"), "{}", consumer.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_never_packs_sends_no_pack_and_leaves_the_stream_as_it_is() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let mut publisher = pipeline.publisher()?;
    commit(&pipeline, 20).await?;
    pipeline.references(20).await?;
    assert_eq!(sizes(&pipeline).await?, [1; 20]);
    assert!(!description(&pipeline).await?.contains("packed"));
    // One that packs, and one that does not any more: what the stream holds it holds.
    publisher.terminate(DEADLINE)?;
    let mut publisher =
        pipeline.publisher_with(&["--set", "publisher.pack=auto", "--set", "publisher.pack_rows=5"])?;
    commit(&pipeline, 20).await?;
    pipeline.references(40).await?;
    publisher.terminate(DEADLINE)?;
    let _publisher = pipeline.publisher()?;
    commit(&pipeline, 20).await?;
    pipeline.references(60).await?;
    assert_eq!(sizes(&pipeline).await?, [[1; 20].as_slice(), &[5; 4], &[1; 20]].concat());
    assert!(description(&pipeline).await?.ends_with(" (packed)"));
    Ok(())
}

/// A host's forwarder alone, for which `faulty.retry` fails for now. Its second attempt is seconds away.
async fn failing() -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::with_settings(
        "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"3s\"\nmax = \"3s\"",
    )
    .await?;
    let (path, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = \"{}\"\nfailing = \"{}\"",
        path.display(),
        failing.display()
    ))?;
    fs::write(&failing, "")?;
    Ok(pipeline)
}

/// The events that the forwarder took, in order.
fn taken(pipeline: &Pipeline) -> Vec<Uuid> {
    let lines = fs::read_to_string(pipeline.path("faulty")).unwrap_or_default();
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

/// Twenty rows of one transaction, one of which fails; all of them, and this one.
async fn commit_with_a_failing_one(pipeline: &Pipeline) -> anyhow::Result<(Vec<Uuid>, Uuid)> {
    let (mut rows, mut ids) = samples(19);
    let bad = AuditRow::sample("faulty.retry");
    ids.push(bad.id);
    rows.insert(7, bad.clone());
    pipeline.commit(&rows).await?;
    Ok((ids, bad.id))
}

/// Entries of the log that are for one forwarder.
async fn addressed(pipeline: &Pipeline) -> anyhow::Result<Vec<(Uuid, String)>> {
    let entries = "select audit_event_id, forwarder from outbox.entries where forwarder is not null";
    Ok(sqlx::query_as(entries).fetch_all(&mut pipeline.source.connect().await?).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_pack_that_fails_is_taken_out_and_travels_alone() -> anyhow::Result<()> {
    let pipeline = failing().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.custom_consumer()?;
    let (ids, bad) = commit_with_a_failing_one(&pipeline).await?;
    pipeline.references(21).await?;
    assert_eq!(sizes(&pipeline).await?, [20, 1], "the pack, and what was taken out of it");
    assert!(message_id(&pipeline, 2).await?.starts_with(&format!("{bad}:")));
    assert_eq!(addressed(&pipeline).await?, [(bad, "faulty".to_owned())]);
    let failures = pipeline.failures().await?;
    assert_eq!((failures.len(), &failures[0]["state"]), (1, &Value::from("retrying")), "{failures:?}");
    assert_eq!(taken(&pipeline).len(), 19, "its neighbours were taken");
    let durable = pipeline.durable("faulty").await?;
    wait::until_some("the pack to be settled", DEADLINE, async || {
        Ok((durable.get_info().await?.ack_floor.stream_sequence == 1).then_some(()))
    })
    .await?;
    fs::remove_file(pipeline.path("failing"))?;
    wait::until("it to be taken", DEADLINE, || taken(&pipeline).contains(&bad))?;
    pipeline.settled("faulty").await?;
    let mut taken = taken(&pipeline);
    assert_eq!(taken.len(), 20, "each once: {taken:?}");
    taken.sort_unstable();
    let mut ids = ids;
    ids.sort_unstable();
    assert_eq!(taken, ids);
    assert_eq!(pipeline.failures().await?, Vec::<Value>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_taking_out_and_acknowledging_has_no_effect() -> anyhow::Result<()> {
    let pipeline = failing().await?;
    let _publisher = pipeline.publisher()?;
    let (ids, bad) = commit_with_a_failing_one(&pipeline).await?;
    pipeline.references(20).await?;
    let dying = ["env", "FAILPOINTS=dispatch.recorded=return"];
    let mut consumer = pipeline.start_behind(&dying, "host", &[])?;
    wait::until_some("it to die", DEADLINE, async || Ok(consumer.has_ended()?.then_some(()))).await?;
    assert_eq!(addressed(&pipeline).await?.len(), 1, "what failed was taken out");
    assert_eq!(pipeline.durable("faulty").await?.cached_info().ack_floor.stream_sequence, 0);
    fs::remove_file(pipeline.path("failing"))?;
    let _consumer = pipeline.custom_consumer()?;
    wait::until("it to be taken", DEADLINE, || taken(&pipeline).contains(&bad))?;
    pipeline.settled("faulty").await?;
    let taken = taken(&pipeline);
    assert!(ids.iter().all(|id| taken.contains(id)), "{taken:?}");
    assert_eq!(addressed(&pipeline).await?.len(), 1, "once");
    assert_eq!(pipeline.failures().await?, Vec::<Value>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_filled_again_with_packs() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer()?;
    let ids = commit(&pipeline, 300).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    pipeline.timeline.connect().await?.execute("delete from audit_actions").await?;
    delete_stream(&pipeline.context().await?, &pipeline.name).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    assert_eq!(sizes(&pipeline).await?, [256, 44]);
    let id = message_id(&pipeline, 1).await?;
    assert!(id.starts_with("pack:") && id.ends_with(":1"), "an id of the new generation: {id}");
    assert!(description(&pipeline).await?.ends_with(" (packed)"));
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_packs_are_refused_since_a_limit_was_lowered_references_travel_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let ids = commit(&pipeline, 20).await?;
    pipeline.arrive(&ids).await?;
    let mut config = pipeline.stream().await?.cached_info().config.clone();
    config.max_message_size = 8 << 10;
    pipeline.context().await?.update_stream(config).await?;
    let ids = commit(&pipeline, 300).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    // The smaller pack was stored beside the one that was refused.
    let sizes = sizes(&pipeline).await?;
    assert_eq!((&sizes[..2], sizes.len()), (&[20, 44][..], 2 + 256), "{sizes:?}");
    assert!(publisher.log().contains("one by one from now on"), "{}", publisher.log());
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_packs() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let ids = commit(&pipeline, 300).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    for (arguments, messages, references) in [
        (&["--from-sequence", "2"][..], 1, 44),
        (&["--from-time", "1h", "--until-sequence", "1"], 1, 256),
        (&["--from-start", "--rate", "200"], 2, 300),
    ] {
        pipeline.timeline.connect().await?.execute("delete from audit_actions").await?;
        let replay = [&["replay", "--forwarder", "timeline"], arguments].concat();
        let (done, answer) = pipeline.ask("consumer", &replay)?;
        assert!(done && answer["messages"] == messages, "{arguments:?}: {answer}");
        assert!(
            answer["references"] == references && answer["settled"] == references,
            "{arguments:?}: {answer}"
        );
        assert_eq!(pipeline.projected().await?, references, "{arguments:?}");
    }
    pipeline.arrive(&ids).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_pack_is_explained_with_its_message() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let ids = commit(&pipeline, 20).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let id = ids[11].to_string();
    let (done, answer) = pipeline.ask("consumer", &["explain", &id])?;
    assert!(done && answer["diagnosis"] == "it has arrived", "{answer}");
    assert_eq!(answer["stream"]["messages"][0]["sequence"], 1, "{answer}");
    assert_eq!(answer["stream"]["messages"][0]["references"], 20, "{answer}");
    let (done, text) = pipeline.command("consumer", &["explain", &id])?;
    assert!(done && text.contains("sequence 1 with 19 others, id pack:"), "{text}");
    Ok(())
}
