//! The event's messages, while they are in the stream.

use anyhow::Context as _;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use common::{broker, outbox::admin::event_status::EventStatus, settings::Settings, time_arg::to_rfc3339};
use futures::StreamExt as _;
use serde::Serialize;
use uuid::Uuid;

/// How many messages are looked through for those of the event.
const SCAN_MAX: u64 = 50_000;

/// How many are requested at a time.
const WINDOW: usize = 64;

/// The event's messages.
#[derive(Debug, Default, Serialize)]
pub(crate) struct InStream {
    /// Why the broker was not queried, or does not respond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unknown: Option<String>,
    pub(crate) messages: Vec<Message>,
    /// How far each forwarder's durable has settled everything.
    pub(crate) durables: Vec<Durable>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    /// How many events it names.
    pub(crate) references: usize,
    pub(crate) id: String,
    pub(crate) stored_at: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Durable {
    pub(crate) name: String,
    pub(crate) settled_up_to: u64,
    pub(crate) pending: u64,
}

/// Between the marks before and behind the entries, the stream is looked through for messages of the event.
pub(crate) async fn of(settings: &Settings, status: &EventStatus, id: Uuid) -> anyhow::Result<InStream> {
    if settings.broker.url.is_none() {
        return Ok(InStream { unknown: Some("no broker is configured".to_owned()), ..InStream::default() });
    }
    let client = broker::connect(&settings.broker, "audit-consumer-explain").await?;
    let stream = broker::context(&client, &settings.broker)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot read the stream {}", settings.broker.stream))?;
    let durables = broker::ack_floors(&stream)
        .await?
        .into_iter()
        .map(|floor| Durable { name: floor.durable, settled_up_to: floor.sequence, pending: floor.pending })
        .collect();
    let mut messages = Vec::new();
    for (from, until) in status.stream_ranges() {
        scan_stream(&stream, id, from, until, &mut messages).await?;
    }
    messages.dedup_by_key(|message: &mut Message| message.sequence);
    Ok(InStream { unknown: None, messages, durables })
}

async fn scan_stream(
    stream: &Stream,
    id: Uuid,
    from: u64,
    until: Option<u64>,
    found: &mut Vec<Message>,
) -> anyhow::Result<()> {
    let state = &stream.cached_info().state;
    let from = from.max(state.first_sequence);
    let until = until.unwrap_or(state.last_sequence).min(from + SCAN_MAX);
    if from > until || state.messages == 0 {
        return Ok(());
    }
    let text = id.to_string();
    let read = |sequence| async move { (sequence, stream.get_raw_message(sequence).await) };
    let mut messages = futures::stream::iter(from..=until).map(read).buffered(WINDOW);
    while let Some((sequence, message)) = messages.next().await {
        let message = match message {
            Ok(message) => message,
            // Trimmed, or deleted.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => continue,
            Err(error) => return Err(error).context("cannot read the stream"),
        };
        if std::str::from_utf8(&message.payload).is_ok_and(|body| body.contains(&text)) {
            let header = message.headers.get("Nats-Msg-Id");
            found.push(Message {
                sequence,
                references: broker::references(Some(&message.headers)),
                id: header.map(ToString::to_string).unwrap_or_default(),
                stored_at: to_rfc3339(message.time),
            });
        }
    }
    Ok(())
}
