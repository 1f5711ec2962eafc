//! A broker whose stream is recreated, or restored from an older backup, under a running worker.

use async_nats::jetstream;
use common::settings::ConsumerSettings;
use consumer::forwarder::{ForwardError, Verdict};
use sandbox::{
    fixture::{shared, source_database},
    nats::Nats,
    wait,
    work_dir::WorkDir,
};

use crate::{DEADLINE, Running, Scripted};

/// Files of an older backup bring back the same times of creation, on every server.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_held_while_the_broker_was_restored_from_an_older_backup_settles_nothing_of_it()
-> anyhow::Result<()> {
    static BACK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let forwarder = Scripted::new(|action, _| {
        if action != "test.held" || BACK.load(std::sync::atomic::Ordering::Relaxed) {
            Ok(Verdict::Delivered)
        } else {
            Err(ForwardError::unavailable("connection refused"))
        }
    });
    let work_dir = WorkDir::create()?;
    let mut nats = Nats::start(&work_dir)?;
    let mut settings = ConsumerSettings::default();
    settings.ack_wait = DEADLINE;
    let worker = Running::between(source_database().await?, nats.url(), &forwarder, settings).await?;
    let first = worker.send("test.first").await?;
    wait::until("the first", DEADLINE, || !forwarder.times(first).is_empty())?;
    worker.settled().await?;
    nats.stop()?;
    let backup = nats.save_store()?;
    nats.restart()?;
    let held = worker.send("test.held").await?;
    wait::until("the batch to be held", DEADLINE, || forwarder.times(held).len() >= 3)?;
    nats.stop()?;
    nats.restore_store(&backup)?;
    nats.restart()?;
    let context = jetstream::new(async_nats::connect(nats.url()).await?);
    let stream = context.get_stream(&worker.stream.cached_info().config.name).await?;
    assert_eq!(stream.cached_info().state.last_sequence, 1, "what came since the backup is gone");
    // Another event under the same sequence, in the hand of another worker.
    worker.send("test.other").await?;
    let durable: jetstream::consumer::PullConsumer =
        stream.get_consumer("forward-scripted").await.map_err(|error| anyhow::anyhow!(error))?;
    let mut messages = durable.batch().max_messages(1).expires(DEADLINE).messages().await?;
    let other =
        futures::StreamExt::next(&mut messages).await.unwrap().map_err(|error| anyhow::anyhow!(error))?;
    assert_eq!(other.info().map_err(|error| anyhow::anyhow!(error))?.stream_sequence, 2);
    BACK.store(true, std::sync::atomic::Ordering::Relaxed);
    let after = worker.send("test.after").await?;
    wait::until("the worker to continue", DEADLINE, || !forwarder.times(after).is_empty())?;
    wait::until_some("it to be settled", DEADLINE, async || {
        Ok((durable.get_info().await?.num_ack_pending == 1).then_some(()))
    })
    .await?;
    let info = durable.get_info().await?;
    assert_eq!(info.ack_floor.stream_sequence, 1, "the other worker's message is still open: {info:?}");
    worker.stop().await
}

/// The broker knows a delivered message by its sequence alone. A batch that was held while stream and durable were recreated
/// must not settle what has its sequences now, in somebody else's hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_held_while_the_stream_was_recreated_settles_nothing_of_the_new_one() -> anyhow::Result<()> {
    static BACK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let forwarder = Scripted::new(|_, _| {
        if BACK.load(std::sync::atomic::Ordering::Relaxed) {
            Ok(Verdict::Delivered)
        } else {
            Err(ForwardError::unavailable("connection refused"))
        }
    });
    let worker = Running::with_ack_wait(&forwarder, DEADLINE).await?;
    let held = worker.send("test.held").await?;
    wait::until("the batch to be held", DEADLINE, || forwarder.times(held).len() >= 3)?;
    let context = jetstream::new(async_nats::connect(shared().nats.url()).await?);
    let config = worker.stream.cached_info().config.clone();
    context.delete_stream(&config.name).await?;
    let stream = context.create_stream(config).await?;
    let durable: jetstream::consumer::PullConsumer = stream
        .create_consumer(jetstream::consumer::pull::Config {
            durable_name: Some("forward-scripted".into()),
            ack_wait: DEADLINE,
            ..jetstream::consumer::pull::Config::default()
        })
        .await?;
    // Another event under the same sequence, in the hand of another worker.
    worker.send("test.other").await?;
    let mut messages = durable.batch().max_messages(1).expires(DEADLINE).messages().await?;
    let other =
        futures::StreamExt::next(&mut messages).await.unwrap().map_err(|error| anyhow::anyhow!(error))?;
    assert_eq!(other.info().map_err(|error| anyhow::anyhow!(error))?.stream_sequence, 1);
    BACK.store(true, std::sync::atomic::Ordering::Relaxed);
    // It has gone on once it takes the next message, and by then it would have settled the held one.
    let after = worker.send("test.after").await?;
    wait::until("the worker to continue", DEADLINE, || !forwarder.times(after).is_empty())?;
    let info = durable.get_info().await?;
    assert_eq!(info.ack_floor.stream_sequence, 0, "the other worker's message is still open: {info:?}");
    worker.stop().await
}
