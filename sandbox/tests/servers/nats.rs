//! A broker that forgets, and one of several nodes.

use anyhow::Context as _;
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    stream,
};
use futures::StreamExt as _;
use sandbox::{
    Options, Sandbox,
    nats::{Nats, NatsCluster},
    wait,
    work_dir::WorkDir,
};

use super::{DEADLINE, listens};

const STREAM: &str = "KEPT";

async fn connect(nats: &Nats) -> anyhow::Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(nats.url()).await?))
}

async fn publish(context: &jetstream::Context, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        context.publish("kept.x", "text".into()).await?.await?;
    }
    Ok(())
}

/// The durable of the stream, as the server has it.
async fn durable(context: &jetstream::Context) -> anyhow::Result<PullConsumer> {
    context.get_consumer_from_stream("reader", STREAM).await.map_err(|error| anyhow::anyhow!(error))
}

#[tokio::test]
async fn a_durable_of_a_stream_that_lost_its_tail_passes_over_what_gets_the_lost_numbers_again()
-> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(&Options::default())?;
    let context = connect(&sandbox.nats).await?;
    let config =
        stream::Config { name: STREAM.into(), subjects: vec!["kept.*".into()], ..stream::Config::default() };
    let stream = context.create_stream(config).await?;
    let config = pull::Config {
        durable_name: Some("reader".into()),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await?;
    publish(&context, 10).await?;
    assert!(sandbox.nats.save_messages(STREAM).is_err(), "it runs");
    sandbox.nats.stop()?;
    assert!(sandbox.nats.save_messages("ANOTHER").is_err(), "there is none");
    let saved = sandbox.nats.save_messages(STREAM)?;

    sandbox.nats.restart()?;
    let context = connect(&sandbox.nats).await?;
    publish(&context, 10).await?;
    let mut messages = durable(&context).await?.messages().await?.take(20);
    while let Some(message) = messages.next().await {
        message?.double_ack().await.map_err(|error| anyhow::anyhow!(error))?;
    }
    drop(messages);
    sandbox.nats.stop()?;
    sandbox.nats.lose_messages_since(&saved)?;
    sandbox.nats.restart()?;

    let context = connect(&sandbox.nats).await?;
    assert_eq!(context.get_stream(STREAM).await?.cached_info().state.last_sequence, 10);
    let durable = durable(&context).await?;
    let info = durable.cached_info();
    assert_eq!((info.delivered.stream_sequence, info.ack_floor.stream_sequence), (20, 20));

    publish(&context, 15).await?;
    assert_eq!(context.get_stream(STREAM).await?.cached_info().state.last_sequence, 25);
    let mut messages = durable.messages().await?;
    let first = messages.next().await.context("the stream of messages does not end")??;
    let first = first.info().map_err(|error| anyhow::anyhow!(error))?.stream_sequence;
    assert_eq!(first, 21, "eleven to twenty are taken for settled");
    Ok(())
}

#[tokio::test]
async fn a_replicated_stream_survives_its_leader_and_the_node_catches_up() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let mut cluster = NatsCluster::start(&work_dir, 3).await?;
    assert_eq!(cluster.url().split(',').count(), 3);
    let context = jetstream::new(async_nats::connect(cluster.urls()).await?);
    let config = stream::Config {
        name: STREAM.into(),
        subjects: vec!["kept.*".into()],
        num_replicas: 3,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    publish(&context, 10).await?;

    let leader = cluster.leader_of(STREAM).await?;
    cluster.kill(leader)?;
    let next = cluster.leader_of(STREAM).await?;
    assert_ne!(next, leader);
    let context = jetstream::new(async_nats::connect(cluster.urls()).await?);
    publish(&context, 10).await?;

    cluster.restart(leader)?;
    wait::until_some("the node to have what it missed", DEADLINE, async || {
        let Ok(stream) = context.get_stream(STREAM).await else {
            return Ok(None);
        };
        let replicas = stream.cached_info().cluster.as_ref().map(|cluster| &cluster.replicas[..]);
        let current = replicas.is_some_and(|replicas| {
            replicas.len() == 2 && replicas.iter().all(|replica| replica.current && !replica.offline)
        });
        Ok(current.then_some(()))
    })
    .await?;
    // What all have, each of the others can lead alone with one more.
    cluster.stop(next)?;
    let last = cluster.leader_of(STREAM).await?;
    assert_ne!(last, next);
    let context = jetstream::new(async_nats::connect(cluster.urls()).await?);
    let stream = context.get_stream(STREAM).await?;
    assert_eq!(stream.cached_info().state.messages, 20);
    Ok(())
}

#[tokio::test]
async fn a_folder_takes_the_nodes_of_a_cluster_along() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let cluster = NatsCluster::start(&work_dir, 3).await?;
    let folder = work_dir.path().to_owned();
    // As if this process had been killed: only the pid files tell the watchdog of the nodes.
    drop(work_dir);
    assert!(!folder.exists());
    assert!(cluster.urls().iter().all(|url| !listens(url)));
    Ok(())
}
