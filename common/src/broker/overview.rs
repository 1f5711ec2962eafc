//! What a status command shows of the broker: the stream and how far each durable is, or why there is nothing to show.

use std::fmt::Write as _;

use serde::Serialize;

use super::{BrokerError, ack_floors, connect, context, find_stream};
use crate::settings::{BrokerSettings, Settings};

/// The stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamOverview {
    /// Its name.
    pub stream: String,
    /// How many messages it holds.
    pub messages: u64,
    /// How many bytes these are.
    pub bytes: u64,
    /// How many it may hold.
    pub max_bytes: i64,
    /// The first message that it holds.
    pub first_sequence: u64,
    /// The last one.
    pub last_sequence: u64,
    /// The durables of forwarders.
    pub forwarders: Vec<DurableOverview>,
}

/// One durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DurableOverview {
    /// Its name.
    pub durable: String,
    /// Everything up to this sequence is settled.
    pub settled_up_to: u64,
    /// Not settled, delivered or not.
    pub pending: u64,
    /// It passes over messages, so that nothing is known to be settled.
    pub skips: bool,
}

/// How the broker stands to this pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerState {
    /// There is none.
    None,
    /// It has the stream.
    Ok,
    /// It has no stream yet.
    NoStream,
    /// It cannot be reached.
    #[serde(rename = "failed")]
    Failed,
}

/// The broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    state: BrokerState,
    /// Whether any forwarder goes through it.
    needed: bool,
    /// Why it cannot be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    name: String,
}

/// Asks the broker of the settings.
pub async fn overview(settings: &Settings, application_name: &str) -> (Overview, Option<StreamOverview>) {
    let BrokerSettings { url, stream, .. } = &settings.broker;
    let needed = settings.forwarder.iter().any(|forwarder| !forwarder.reads_log(&settings.broker));
    let found = |state, error| Overview { state, needed, error, name: stream.clone() };
    if url.is_none() {
        return (found(BrokerState::None, None), None);
    }
    match read_stream(&settings.broker, application_name).await {
        Ok(Some(stream)) => (found(BrokerState::Ok, None), Some(stream)),
        Ok(None) => (found(BrokerState::NoStream, None), None),
        Err(error) => (found(BrokerState::Failed, Some(error.to_string())), None),
    }
}

async fn read_stream(
    settings: &BrokerSettings,
    application_name: &str,
) -> Result<Option<StreamOverview>, BrokerError> {
    let client = connect(settings, application_name).await?;
    let Some(stream) = find_stream(&context(&client, settings), settings).await? else {
        return Ok(None);
    };
    let forwarders = ack_floors(&stream)
        .await?
        .into_iter()
        .map(|floor| DurableOverview {
            durable: floor.durable,
            settled_up_to: floor.sequence,
            pending: floor.pending,
            skips: floor.skips,
        })
        .collect();
    let info = stream.cached_info();
    Ok(Some(StreamOverview {
        stream: info.config.name.clone(),
        messages: info.state.messages,
        bytes: info.state.bytes,
        max_bytes: info.config.max_bytes,
        first_sequence: info.state.first_sequence,
        last_sequence: info.state.last_sequence,
        forwarders,
    }))
}

impl Overview {
    /// Its name, if it did not respond and something needs it.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        (self.needed && matches!(self.state, BrokerState::Failed | BrokerState::None)).then_some("the broker")
    }

    /// For people.
    #[must_use]
    pub fn text(&self, stream: Option<&StreamOverview>) -> String {
        let mut text = String::new();
        match (self.state, stream) {
            (BrokerState::Ok, Some(stream)) => {
                let StreamOverview {
                    stream, messages, bytes, max_bytes, first_sequence, last_sequence, ..
                } = stream;
                let _ = writeln!(
                    text,
                    "stream    {stream}: {messages} messages ({first_sequence} to {last_sequence}), {} of {} KiB",
                    bytes / 1_024,
                    max_bytes / 1_024
                );
            }
            (BrokerState::NoStream, _) => {
                let _ = writeln!(
                    text,
                    "stream    {} is not there: `publisher run` creates it, and one that runs creates it again and fills it within \
                     relay.maintenance_interval",
                    self.name
                );
            }
            (BrokerState::None, _) if self.needed => {
                text.push_str("broker    none is configured, and a forwarder has dispatch \"async\": set broker.url or NATS_URL\n");
            }
            (BrokerState::None, _) => text.push_str("broker    none is configured, and none is needed\n"),
            (BrokerState::Ok | BrokerState::Failed, _) => {
                let why = self.error.as_deref().unwrap_or_default();
                let unneeded = if self.needed { "" } else { "no forwarder goes through it; " };
                let _ = writeln!(text, "broker    {unneeded}{why}");
            }
        }
        for DurableOverview { durable, settled_up_to, pending, skips } in
            stream.iter().flat_map(|stream| &stream.forwarders)
        {
            let _ = if *skips {
                writeln!(
                    text,
                    "consumer  {durable}: passes over messages, see `consumer doctor`; {pending} pending"
                )
            } else {
                writeln!(text, "consumer  {durable}: settled up to {settled_up_to}, {pending} pending")
            };
        }
        text
    }
}
