//! The event's messages, while they are in the stream.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::Stream,
};
use common::{broker, moment::written, outbox::life::Life, settings::Settings};
use futures::StreamExt as _;
use serde::Serialize;
use uuid::Uuid;

/// How many messages are looked through for those of the event.
const LOOK_THROUGH: u64 = 200_000;

/// How long the broker may take for the next of them.
const EXPIRES: Duration = Duration::from_secs(2);

/// The event's messages.
#[derive(Debug, Default, Serialize)]
pub(super) struct InStream {
    /// Why the broker was not asked, or says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unknown: Option<String>,
    pub(super) messages: Vec<Message>,
    /// How far each forwarder's durable has settled everything.
    pub(super) durables: Vec<Durable>,
}

#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) id: String,
    pub(super) stored_at: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Durable {
    pub(super) name: String,
    pub(super) settled_up_to: u64,
    pub(super) pending: u64,
}

/// Between the marks before and behind the entries, the stream is looked through for messages of the event.
pub(super) async fn of(settings: &Settings, life: &Life, id: Uuid) -> anyhow::Result<InStream> {
    if settings.broker.url.is_none() {
        return Ok(InStream { unknown: Some("no broker is configured".to_owned()), ..InStream::default() });
    }
    let client = broker::connect(&settings.broker, "audit-consumer-explain").await?;
    let stream = jetstream::new(client)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot look at the stream {}", settings.broker.stream))?;
    let durables = broker::floors(&stream)
        .await?
        .into_iter()
        .map(|floor| Durable { name: floor.durable, settled_up_to: floor.sequence, pending: floor.pending })
        .collect();
    let mut messages = Vec::new();
    for (from, until) in life.stream_ranges() {
        look_through(&stream, id, from, until, &mut messages).await?;
    }
    messages.dedup_by_key(|message: &mut Message| message.sequence);
    Ok(InStream { unknown: None, messages, durables })
}

async fn look_through(
    stream: &Stream,
    id: Uuid,
    from: u64,
    until: Option<u64>,
    found: &mut Vec<Message>,
) -> anyhow::Result<()> {
    let state = &stream.cached_info().state;
    let from = from.max(state.first_sequence);
    let until = until.unwrap_or(state.last_sequence).min(from + LOOK_THROUGH);
    if from > until || state.messages == 0 {
        return Ok(());
    }
    let config = pull::Config {
        // Named, so that it may be made by somebody who may make those of this stream only.
        name: Some(format!("explain-{id}")),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: -1,
        inactive_threshold: Duration::from_secs(30),
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.context("cannot look through the stream")?;
    let text = id.to_string();
    let mut last = from - 1;
    while last < until {
        let mut batch = consumer.fetch().max_messages(1_000).expires(EXPIRES).messages().await?;
        let mut any = false;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| anyhow::anyhow!("{error}"))?;
            let info = message.info().map_err(|error| anyhow::anyhow!("{error}"))?;
            (any, last) = (true, info.stream_sequence);
            if last <= until && std::str::from_utf8(&message.payload).is_ok_and(|body| body.contains(&text)) {
                let header = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
                found.push(Message {
                    sequence: last,
                    id: header.map(ToString::to_string).unwrap_or_default(),
                    stored_at: written(info.published),
                });
            }
        }
        if !any {
            break;
        }
    }
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(())
}
