//! A broker that is there and does not hold what it had acknowledged; and messages that arrive twice.

use anyhow::Context as _;
use async_nats::{HeaderMap, jetstream, jetstream::publish::PublishAck};
use end_to_end::{DEADLINE, Pipeline, samples};
use futures::StreamExt as _;
use sandbox::{nats::SavedMessages, process::Process, wait, work_dir::free_port};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::operations::get;

/// Looks often; whatever every forwarder has settled leaves the stream at once.
const BUSY_MAINTENANCE: [&str; 4] =
    ["--set", "relay.maintenance_interval=200ms", "--set", "publisher.replay_window=0s"];

/// What the consumer counts of redeliveries without effect.
const ALREADY: &str = "audit_forward_already_delivered_total{forwarder=\"timeline\"}";

/// The server that the test may break.
fn nats(pipeline: &mut Pipeline) -> &mut sandbox::nats::Nats {
    &mut pipeline.own_nats.as_mut().unwrap().server
}

/// What the stream holds now is on the disk; what comes later is not.
fn flush(pipeline: &mut Pipeline) -> anyhow::Result<SavedMessages> {
    let stream = pipeline.name.clone();
    let nats = nats(pipeline);
    nats.stop()?;
    let saved = nats.save_messages(&stream)?;
    nats.restart()?;
    Ok(saved)
}

/// A power cut: what was not on the disk is gone. What the durables know is flushed separately, and is not.
fn lose_power(pipeline: &mut Pipeline, saved: &SavedMessages) -> anyhow::Result<()> {
    let nats = nats(pipeline);
    nats.stop()?;
    nats.lose_messages_since(saved)?;
    nats.restart()
}

/// Commits twenty rows.
async fn commit_twenty(pipeline: &Pipeline) -> anyhow::Result<Vec<Uuid>> {
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    Ok(ids)
}

/// Twenty rows that are on the broker's disk and were delivered.
async fn twenty_on_disk(
    pipeline: &mut Pipeline,
    mut publisher: Process,
) -> anyhow::Result<(Vec<Uuid>, SavedMessages)> {
    let ids = commit_twenty(pipeline).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    publisher.terminate(DEADLINE)?;
    let saved = flush(pipeline)?;
    Ok((ids, saved))
}

/// Waits until the publisher has begun again.
async fn begun_again(pipeline: &Pipeline) -> anyhow::Result<()> {
    wait::until_some("a new generation", DEADLINE, async || {
        Ok((pipeline.generation().await? >= Some(1)).then_some(()))
    })
    .await
}

/// Everything is there once, and nobody was charged for the broker.
async fn all_is_well(pipeline: &Pipeline) -> anyhow::Result<()> {
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}

/// Publishes one message as the publisher would.
pub(crate) async fn publish(
    pipeline: &Pipeline,
    event: Uuid,
    message_id: Option<&str>,
) -> anyhow::Result<PublishAck> {
    let context = jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    let body = format!(r#"{{"forwarder":"*","audit_event_id":"{event}","occurred_at":null}}"#);
    let mut headers = HeaderMap::new();
    if let Some(message_id) = message_id {
        headers.insert("Nats-Msg-Id", message_id);
    }
    let subject = format!("{}.events", pipeline.name);
    Ok(context.publish_with_headers(subject, headers, body.into()).await?.await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_ahead_of_its_stream_is_reset_and_skips_nothing() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (_, saved) = twenty_on_disk(&mut pipeline, publisher).await?;
    let mut publisher = pipeline.publisher()?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    publisher.terminate(DEADLINE)?;
    // Somebody else's, which nobody may touch.
    let mut push = jetstream::consumer::push::Config {
        durable_name: Some("somebody".into()),
        deliver_subject: format!("somebody.{}", pipeline.name),
        ..jetstream::consumer::push::Config::default()
    };
    push.ack_policy = jetstream::consumer::AckPolicy::None;
    let mut inbox =
        async_nats::connect(&pipeline.nats_url).await?.subscribe(push.deliver_subject.clone()).await?;
    pipeline.stream().await?.create_consumer(push).await?;
    for _ in 0..40 {
        inbox.next().await.context("somebody else reads, too")?;
    }
    drop(inbox);
    lose_power(&mut pipeline, &saved)?;
    let stream = pipeline.stream().await?;
    assert_eq!(stream.cached_info().state.last_sequence, 20);
    let ahead = pipeline.durable("timeline").await?;
    // Newer servers take their consumers back themselves; what follows must hold on those, too.
    let client = async_nats::connect(&pipeline.nats_url).await?;
    let stands = if client.is_server_compatible(2, 10, 0) { 20 } else { 40 };
    assert_eq!(
        ahead.cached_info().delivered.stream_sequence,
        stands,
        "ahead of its stream, on an old server"
    );
    let other = stream.consumer_info("somebody").await?;
    assert_eq!(other.delivered.stream_sequence, stands, "and so is the other one");

    let publisher = pipeline.publisher()?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.generation().await?, Some(1));
    assert_eq!(publisher.log().contains("is ahead of its stream"), stands == 40, "{}", publisher.log());
    assert_eq!(stream.consumer_info("somebody").await?.created, other.created, "not ours, not recreated");
    pipeline.references(80).await?;
    pipeline.settled("timeline").await?;
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_and_lost_before_it_was_delivered_is_published_again() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (_, saved) = twenty_on_disk(&mut pipeline, publisher).await?;
    consumer.terminate(DEADLINE)?;
    let mut publisher = pipeline.publisher()?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.references(40).await?;
    publisher.terminate(DEADLINE)?;
    lose_power(&mut pipeline, &saved)?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 20);
    let _consumer = pipeline.consumer()?;
    let _publisher = pipeline.publisher()?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.generation().await?, Some(1));
    all_is_well(&pipeline).await
}

/// `idle`: nothing is published after it that could show it.
async fn tail_lost_under_a_running_publisher(idle: bool) -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (_, saved) = twenty_on_disk(&mut pipeline, publisher).await?;
    consumer.terminate(DEADLINE)?;
    let every = if idle { "relay.maintenance_interval=200ms" } else { "relay.maintenance_interval=1h" };
    let publisher = pipeline.publisher_with(&["--set", every])?;
    let mut ids = commit_twenty(&pipeline).await?;
    pipeline.references(40).await?;
    lose_power(&mut pipeline, &saved)?;
    if !idle {
        assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 20, "nobody has noticed yet");
        ids.append(&mut commit_twenty(&pipeline).await?);
    }
    begun_again(&pipeline).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    assert_eq!(publisher.log().matches("everything that the log still holds is published again").count(), 1);
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_lost_under_a_running_publisher_is_noticed_by_the_next_publish() -> anyhow::Result<()> {
    tail_lost_under_a_running_publisher(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_lost_under_a_publisher_that_has_nothing_to_do_is_noticed_by_its_maintenance()
-> anyhow::Result<()> {
    tail_lost_under_a_running_publisher(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_that_has_grown_again_with_other_messages_is_noticed() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (known, saved) = twenty_on_disk(&mut pipeline, publisher).await?;
    consumer.terminate(DEADLINE)?;
    let mut publisher = pipeline.publisher()?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.references(40).await?;
    publisher.terminate(DEADLINE)?;
    lose_power(&mut pipeline, &saved)?;
    // Another leader, for all that this one will know: beyond the last number that it has stored.
    for _ in 0..25 {
        publish(&pipeline, known[0], None).await?;
    }
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 45);
    let _consumer = pipeline.consumer()?;
    let _publisher = pipeline.publisher()?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.generation().await?, Some(1));
    all_is_well(&pipeline).await
}

/// Fills the stream with what nobody has read, one message of it addressed to one forwarder.
async fn undelivered(pipeline: &Pipeline) -> anyhow::Result<Vec<Uuid>> {
    let ids = commit_twenty(pipeline).await?;
    sqlx::query(
        "insert into outbox.entries (audit_event_id, occurred_at, forwarder) values ($1, now(), 'timeline')",
    )
    .bind(ids[0])
    .execute(&mut pipeline.source.connect().await?)
    .await?;
    pipeline.references(21).await?;
    Ok(ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_duplicate_window_does_not_swallow_a_rewind() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let mut publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let ids = undelivered(&pipeline).await?;
    let stream = pipeline.stream().await?;
    stream.purge().await?;
    // Well within the window of two minutes.
    pipeline.references(42).await?;
    assert_eq!(pipeline.generation().await?, Some(1));
    publisher.terminate(DEADLINE)?;
    stream.purge().await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(63).await?;
    assert_eq!(pipeline.generation().await?, Some(2));
    assert_eq!(stream.get_info().await?.state.messages, 21);
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_that_fails_is_made_up_for() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let ids = undelivered(&pipeline).await?;
    publisher.terminate(DEADLINE)?;
    pipeline.stream().await?.purge().await?;
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table outbox.rounds add constraint broken check (generation = 0)").await?;
    let publisher = pipeline.publisher()?;
    wait::until("the rewind to fail", DEADLINE, || publisher.log().contains("violates check constraint"))?;
    source.execute("alter table outbox.rounds drop constraint broken").await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_trimming_never_counts_as_a_purge() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let _consumer = pipeline.consumer()?;
    let mut publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let stream = pipeline.stream().await?;
    for turn in 1..=6 {
        let ids = commit_twenty(&pipeline).await?;
        pipeline.arrive(&ids).await?;
        wait::until_some("the stream to be trimmed", DEADLINE, async || {
            Ok((stream.get_info().await?.state.first_sequence > 20 * (turn - 1)).then_some(()))
        })
        .await?;
        if turn % 3 == 0 {
            publisher.terminate(DEADLINE)?;
            publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
        }
    }
    assert_eq!(pipeline.generation().await?, Some(0));
    assert_eq!(stream.get_info().await?.state.last_sequence, 120, "nothing was published twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_deleted_under_a_running_consumer_continues_where_it_was() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let before = pipeline.durable("timeline").await?.cached_info().created;
    // The server lets everybody see what is asked of it: the consumer looks at its durable, now that all is settled.
    let client = async_nats::connect(&pipeline.nats_url).await?;
    let asked = format!("$JS.API.CONSUMER.INFO.{}.forward-timeline", pipeline.name);
    let mut asked = client.subscribe(asked).await?;
    client.flush().await?;
    tokio::time::timeout(DEADLINE, asked.next()).await?.context("the consumer looks at its durable")?;

    let stream = pipeline.stream().await?;
    common::broker::remove_durable(&stream, "forward-timeline").await?;
    let ids = commit_twenty(&pipeline).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let durable = stream.consumer_info("forward-timeline").await?;
    assert_ne!(durable.created, before, "it was recreated");
    assert_eq!(durable.delivered.consumer_sequence, 20, "only what came later was delivered: {durable:?}");
    assert_eq!(durable.ack_floor.stream_sequence, 40);
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_again_after_the_duplicate_window_is_already_there() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let window = ["--set", "broker.duplicate_window=1s"];
    let mut source = pipeline.source.connect().await?;
    // The position cannot be closed, so that the round is read and published again and again, later than the window too.
    source
        .execute("alter table outbox.rounds add constraint open check (n = 0 or s::text <> t::text)")
        .await?;
    let _publisher = pipeline.publisher_with(&window)?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let _consumer = pipeline.consumer_with(&[&window[..], &["--set", &listen]].concat())?;
    let already = async |at_least: u32| {
        wait::until_some("events to arrive again", DEADLINE, async || {
            let metrics = get(port, "/metrics").map(|(_, metrics)| metrics).unwrap_or_default();
            let count = metrics.lines().find_map(|line| line.strip_prefix(ALREADY)).unwrap_or("0");
            Ok(Some(count.trim().parse::<u32>()?).filter(|count| *count >= at_least))
        })
        .await
    };
    let ids = commit_twenty(&pipeline).await?;
    already(20).await?;
    source.execute("alter table outbox.rounds drop constraint open").await?;
    let after = commit_twenty(&pipeline).await?;
    pipeline.arrive(&after).await?;
    pipeline.settled("timeline").await?;
    let before = already(20).await?;
    // And one that somebody else sends again under the same id, until the window has forgotten it.
    wait::until_some("the window to forget", DEADLINE, async || {
        let acknowledgement = publish(&pipeline, ids[0], Some(&ids[0].to_string())).await?;
        Ok((!acknowledgement.duplicate).then_some(()))
    })
    .await?;
    already(before + 1).await?;
    pipeline.settled("timeline").await?;
    assert_eq!(pipeline.projected().await?, 40);
    assert_eq!(pipeline.generation().await?, Some(0));
    all_is_well(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_back_pressure_and_not_loss() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    // The smallest there is: about 3,000 references.
    let small = ["--set", "broker.max_bytes=1048576"];
    let publishing = [&small[..], &BUSY_MAINTENANCE].concat();
    let mut publisher = pipeline.publisher_with(&publishing)?;
    let stream = pipeline.stream().await?;
    let mut consumer = pipeline.consumer_with(&small)?;
    let mut ids = commit_twenty(&pipeline).await?;
    pipeline.arrive(&ids).await?;
    consumer.terminate(DEADLINE)?;
    for _ in 0..6 {
        let (rows, mut some) = samples(1_000);
        pipeline.commit(&rows).await?;
        ids.append(&mut some);
    }
    wait::until("the publisher to wait", DEADLINE, || {
        publisher.log().contains("sent again under the same ids")
    })?;
    let held = stream.get_info().await?.state.messages;
    assert!(held < 6_000, "the stream took {held} messages: it is not small enough for this test");
    // The application does not notice, and the next leader is no better off.
    ids.append(&mut commit_twenty(&pipeline).await?);
    publisher.kill()?;
    let publisher = pipeline.publisher_with(&publishing)?;
    wait::until("the next one to wait", DEADLINE, || {
        publisher.log().contains("sent again under the same ids")
    })?;
    let _consumer = pipeline.consumer_with(&small)?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    wait::until_some("the stream to be trimmed", DEADLINE, async || {
        Ok((stream.get_info().await?.state.messages < 1_000).then_some(()))
    })
    .await?;
    assert_eq!(pipeline.generation().await?, Some(0), "trimming is no loss");
    all_is_well(&pipeline).await
}

/// The broker remembers ids of messages that were trimmed: they are not missed, and nothing waits until it forgets them.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_sent_again_after_it_was_settled_and_trimmed_holds_nothing_up() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let mut source = pipeline.source.connect().await?;
    let open = "alter table outbox.rounds add constraint open check (n = 0 or s::text <> t::text)";
    source.execute(open).await?;
    let small = ["--set", "broker.max_bytes=1048576"];
    let publishing = [&small[..], &BUSY_MAINTENANCE].concat();
    let mut publisher = pipeline.publisher_with(&publishing)?;
    let (rows, ids) = samples(2_900);
    pipeline.commit(&rows).await?;
    pipeline.references(2_900).await?;
    publisher.kill()?;
    source.execute("alter table outbox.rounds drop constraint open").await?;
    let _consumer = pipeline.consumer_with(&small)?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let publisher = pipeline.publisher_with(&publishing)?;
    let after = commit_twenty(&pipeline).await?;
    pipeline.arrive(&after).await?;
    wait::until("the stream to be trimmed", DEADLINE, || {
        publisher.log().contains("trimmed the stream behind every forwarder")
    })?;
    assert_eq!(pipeline.generation().await?, Some(0));
    all_is_well(&pipeline).await
}
