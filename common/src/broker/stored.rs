//! What the broker has stored of a stream or a durable, as it says it. The client's types drop what they do not know.

use async_nats::jetstream::{self, Context, ErrorCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::BrokerError;

/// A stream or a durable.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stored {
    /// Its configuration, field by field.
    pub(super) config: Map<String, Value>,
    /// Everything else.
    #[serde(flatten)]
    pub(super) state: Map<String, Value>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    total: usize,
    consumers: Option<Vec<Stored>>,
}

/// The stream of that name; `None` when there is none.
pub(super) async fn stream(context: &Context, name: &str) -> Result<Option<Stored>, BrokerError> {
    let answer = ask(context, "stream info", format!("STREAM.INFO.{name}"), &json!({})).await;
    found(answer, ErrorCode::STREAM_NOT_FOUND)
}

/// Changes the stream of that name to what is given, whole.
pub(super) async fn update_stream(
    context: &Context,
    name: &str,
    config: Map<String, Value>,
) -> Result<(), BrokerError> {
    let subject = format!("STREAM.UPDATE.{name}");
    ask::<Value>(context, "update stream", subject, &Value::Object(config)).await.map(drop)
}

/// The last sequence that the stream has given. To compare a durable with it, read the durable first: both only grow.
pub(super) async fn last_sequence(context: &Context, name: &str) -> Result<u64, BrokerError> {
    let found = stream(context, name).await?;
    let found =
        found.ok_or_else(|| BrokerError::call("stream info", &format!("there is no stream {name}")))?;
    Ok(found.number("state.last_seq"))
}

/// The durable of that name; `None` when there is none.
pub(super) async fn durable(
    context: &Context,
    stream: &str,
    name: &str,
) -> Result<Option<Stored>, BrokerError> {
    let subject = format!("CONSUMER.INFO.{stream}.{name}");
    found(ask(context, "consumer info", subject, &json!({})).await, ErrorCode::CONSUMER_NOT_FOUND)
}

/// All consumers of the stream, ours and others'.
pub(super) async fn durables(context: &Context, stream: &str) -> Result<Vec<Stored>, BrokerError> {
    let mut all = Vec::new();
    loop {
        let subject = format!("CONSUMER.LIST.{stream}");
        let page: Page = ask(context, "list consumers", subject, &json!({ "offset": all.len() })).await?;
        let found = page.consumers.unwrap_or_default();
        if found.is_empty() {
            return Ok(all);
        }
        all.extend(found);
        if all.len() >= page.total {
            return Ok(all);
        }
    }
}

/// What the account may have and uses.
pub(super) async fn account<T: serde::de::DeserializeOwned>(context: &Context) -> Result<T, BrokerError> {
    ask(context, "account info", "INFO".to_owned(), &json!({})).await
}

fn found(answer: Result<Stored, BrokerError>, missing: ErrorCode) -> Result<Option<Stored>, BrokerError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(BrokerError::Refused { code, .. }) if code == missing.0 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask<T: serde::de::DeserializeOwned>(
    context: &Context,
    call: &'static str,
    subject: String,
    payload: &Value,
) -> Result<T, BrokerError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: jetstream::Error,
    }
    let answer: Value = context.request(subject, payload).await.map_err(|error| match error.kind() {
        jetstream::context::RequestErrorKind::NoResponders => BrokerError::no_jetstream(None, &error),
        _ => BrokerError::call(call, &error),
    })?;
    if answer.get("error").is_some() {
        let Refusal { error } = read(call, answer)?;
        return Err(BrokerError::refused(call, &error));
    }
    read(call, answer)
}

fn read<T: serde::de::DeserializeOwned>(call: &'static str, answer: Value) -> Result<T, BrokerError> {
    serde_json::from_value(answer).map_err(|error| BrokerError::call(call, &error))
}

impl Stored {
    /// A part of everything except the configuration.
    pub(super) fn number(&self, path: &str) -> u64 {
        let mut parts = path.split('.');
        let first = parts.next().and_then(|part| self.state.get(part));
        let value = parts.try_fold(first.unwrap_or(&Value::Null), |value, part| value.get(part));
        value.and_then(Value::as_u64).unwrap_or_default()
    }

    /// Its name, where it has one of its own.
    pub(super) fn name(&self) -> &str {
        self.state.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// A duration of the configuration.
    pub(super) fn duration(&self, field: &str) -> std::time::Duration {
        let nanos = self.config.get(field).and_then(Value::as_u64).unwrap_or_default();
        std::time::Duration::from_nanos(nanos)
    }

    /// When it was created, as its server reports it.
    pub(super) fn created(&self) -> OffsetDateTime {
        let text = self.state.get("created").and_then(Value::as_str).unwrap_or_default();
        OffsetDateTime::parse(text, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Until when an administrator lets a durable rest.
    pub(super) fn paused_until(&self) -> Option<String> {
        let paused = self.state.get("paused").and_then(Value::as_bool).unwrap_or_default();
        let until = self.config.get("pause_until").and_then(Value::as_str);
        paused.then(|| until.unwrap_or("an unknown time").to_owned())
    }
}
