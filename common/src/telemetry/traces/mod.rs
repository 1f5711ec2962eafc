//! Traces: one for each audit event, under the event's own id, from the publish to the projection.
//!
//! Spans are told of when they have ended, with their times: whole batches are in work at once, so there is no one span
//! that code could be inside of. They hold ids, times and reasons; never what is in the row, and no error's words, which
//! may quote it.

mod context;
#[cfg(not(feature = "traces"))]
mod nowhere;
#[cfg(feature = "traces")]
mod otlp;

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use uuid::Uuid;

pub use context::{HEADER, Traceparent};
#[cfg(not(feature = "traces"))]
use nowhere::Exporter;
#[cfg(feature = "traces")]
use otlp::Exporter;

use crate::settings::TraceSettings;

/// Traces cannot be set up: `traces.url` is nothing that spans could be sent to.
#[derive(Debug, thiserror::Error)]
#[error("traces.url: {0}")]
pub struct TraceError(String);

/// Decides which events are traced, and knows where their spans go. Off by default.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    exporter: Option<Arc<Exporter>>,
    sample: f64,
}

/// A span that has begun and not ended.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "nobody reads it"))]
pub struct Span {
    exporter: Arc<Exporter>,
    own: Traceparent,
    parent: Option<Parent>,
    kind: Kind,
    begun: SystemTime,
    attributes: Attributes,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "nobody reads it"))]
struct Parent {
    span: u64,
    /// It is another process's: it came with a message.
    remote: bool,
}

/// What a span stands for, as OpenTelemetry distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message goes out.
    Producer,
    /// A message, or an entry of the log, comes in.
    Consumer,
    /// Another system is asked.
    Client,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Well,
    /// Not, and this in one word is why.
    Badly(&'static str),
}

/// Something to be known about a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Words, names, ids.
    Text(Cow<'static, str>),
    /// Counts and positions.
    Number(i64),
}

/// Names and what is to be known under them.
pub type Attributes = Vec<(&'static str, Value)>;

/// What OpenTelemetry's conventions ask of a span about a message: what was done, with a message to or from which subject.
#[must_use]
pub fn message(operation: &'static str, subject: &str) -> Attributes {
    vec![
        ("messaging.system", "nats".into()),
        ("messaging.operation.type", operation.into()),
        ("messaging.destination.name", subject.to_owned().into()),
    ]
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl Tracer {
    /// Spans of `service` go where the settings say; nowhere without `traces.url`, or in a binary without the cargo feature
    /// `traces`, about which its doctor has a word.
    ///
    /// # Errors
    /// When `traces.url` cannot be used.
    pub fn of(settings: &TraceSettings, service: &'static str) -> Result<Self, TraceError> {
        let exporter = match &settings.url {
            Some(url) => Exporter::to(url, service)?,
            None => None,
        };
        Ok(Self { exporter: exporter.map(Arc::new), sample: settings.sample })
    }

    /// Whether anything is traced.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.exporter.is_some()
    }

    /// Begins a span of `event`, if it is to be traced: when what it `came_with` says so, or, where nothing came with it,
    /// when it is among the share that is sampled. Every process finds the same share.
    #[must_use]
    pub fn begin(&self, kind: Kind, event: Uuid, came_with: Option<Traceparent>) -> Option<Span> {
        let exporter = self.exporter.as_ref()?.clone();
        let parent = match came_with {
            Some(parent) => Some(parent),
            // No trace may have the id 0.
            None if event.is_nil() || !context::is_sampled(event.as_u128(), self.sample) => return None,
            None => None,
        };
        if parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        let trace = parent.map_or(event.as_u128(), |parent| parent.trace);
        Some(Span {
            exporter,
            own: Traceparent { trace, span: context::new_span(), sampled: true },
            parent: parent.map(|parent| Parent { span: parent.span, remote: true }),
            kind,
            begun: SystemTime::now(),
            attributes: Vec::new(),
        })
    }

    /// Sends what is left, before the process ends. Not for long: traces are no reason to stay.
    pub async fn flush(self) {
        if let Some(exporter) = self.exporter {
            let flushed = tokio::task::spawn_blocking(move || exporter.shut_down()).await;
            if let Ok(Err(error)) = flushed {
                tracing::warn!(%error, "the last spans may be lost");
            }
        }
    }
}

impl Span {
    /// What goes with the message.
    #[must_use]
    pub fn traceparent(&self) -> Traceparent {
        self.own
    }

    /// The same span, of which more is known.
    #[must_use]
    pub fn with(mut self, attributes: Attributes) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Tells of a part of this span, from `begun` to `ended`.
    pub fn part(&self, kind: Kind, name: String, begun: SystemTime, ended: SystemTime) {
        let part = Self {
            exporter: self.exporter.clone(),
            own: Traceparent { span: context::new_span(), ..self.own },
            parent: Some(Parent { span: self.own.span, remote: false }),
            kind,
            begun,
            attributes: Vec::new(),
        };
        self.exporter.take(&part, name, ended, Ending::Well, Vec::new());
    }

    /// Ends it now. When more spans end than can be sent, they are dropped.
    pub fn end(&self, name: String, ending: Ending, attributes: Attributes) {
        self.exporter.take(self, name, SystemTime::now(), ending, attributes);
    }
}
