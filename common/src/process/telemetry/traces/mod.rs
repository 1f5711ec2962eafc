//! Traces: one for each audit event, under the event's own id, from the publish to the projection.
//!
//! Spans are reported when they have ended, with their times: whole batches are in work at once, so there is no one span
//! that code could be inside of. They hold ids, times and reasons; never what is in the row, and no error's message, which
//! may quote it.

mod context;
#[cfg(not(feature = "traces"))]
mod disabled;
#[cfg(feature = "traces")]
mod otlp;

use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use uuid::Uuid;

pub use context::{HEADER, Traceparent};
#[cfg(not(feature = "traces"))]
use disabled::Exporter;
#[cfg(feature = "traces")]
use otlp::Exporter;

use crate::settings::TraceSettings;

/// Decides which events are traced, and knows where their spans go. Off by default.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    exporter: Option<Arc<Exporter>>,
    sample: f64,
}

/// A span that has begun. Dropped before it has ended, it ends as given up.
#[derive(Debug)]
pub struct Span {
    exporter: Arc<Exporter>,
    open: Open,
    ended: AtomicBool,
}

/// What is known of a span before its end.
#[derive(Debug)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "it is not read"))]
struct Open {
    own: Traceparent,
    parent: Option<Parent>,
    kind: Kind,
    name: String,
    begun: SystemTime,
    attributes: Attributes,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "it is not read"))]
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
    /// A request to another system.
    Client,
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should.
    Unset,
    /// It failed, and this is the reason: `error.type`.
    Error(&'static str),
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
    /// `traces`, about which its doctor has a word. Traces are no reason not to start: what keeps them is logged.
    #[must_use]
    pub fn of(settings: &TraceSettings, service: &'static str) -> Self {
        let exporter = settings.url.as_ref().and_then(|url| {
            Exporter::to(url, service)
                .inspect_err(|error| tracing::warn!(%error, "nothing is traced (traces.url)"))
                .ok()?
        });
        Self { exporter: exporter.map(Arc::new), sample: settings.sample }
    }

    /// Begins a span of `event` on a message to or from `destination`, if the event is to be traced: when its `parent`, which
    /// came with the message, says so; or, without one, when it is among the share that is sampled. Every process finds
    /// the same share. Where nothing is traced, no header is read.
    #[must_use]
    pub fn begin(
        &self,
        kind: Kind,
        destination: &str,
        event: Uuid,
        parent: impl FnOnce() -> Option<Traceparent>,
    ) -> Option<Span> {
        let exporter = self.exporter.as_ref()?.clone();
        let parent = parent();
        let traced = match parent {
            Some(parent) => parent.sampled,
            // No trace may have the id 0.
            None => !event.is_nil() && context::is_sampled(event.as_u128(), self.sample),
        };
        if !traced {
            return None;
        }
        // As OpenTelemetry's conventions for messaging have it.
        let operation = if kind == Kind::Producer { "send" } else { "process" };
        let attributes = vec![
            ("messaging.system", "nats".into()),
            ("messaging.operation.name", operation.into()),
            ("messaging.operation.type", operation.into()),
            ("messaging.destination.name", destination.to_owned().into()),
            ("audit.event_id", event.to_string().into()),
        ];
        let trace = parent.map_or(event.as_u128(), |parent| parent.trace);
        let open = Open {
            own: Traceparent { trace, span: context::new_span(), sampled: true },
            parent: parent.map(|parent| Parent { span: parent.span, remote: true }),
            kind,
            name: format!("{operation} {destination}"),
            begun: SystemTime::now(),
            attributes,
        };
        Some(Span { exporter, open, ended: AtomicBool::default() })
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
        self.open.own
    }

    /// The same span, of which more is known.
    #[must_use]
    pub fn with(mut self, attributes: Attributes) -> Self {
        self.open.attributes.extend(attributes);
        self
    }

    /// Reports a request to another system within this span.
    pub fn child(&self, name: String, time: &Range<SystemTime>, status: Status) {
        let child = Open {
            own: Traceparent { span: context::new_span(), ..self.open.own },
            parent: Some(Parent { span: self.open.own.span, remote: false }),
            kind: Kind::Client,
            name,
            begun: time.start,
            attributes: Vec::new(),
        };
        self.exporter.take(&child, time.end, status, Vec::new());
    }

    /// Ends it now, once. When more spans end than can be sent, they are dropped.
    pub fn end(&self, status: Status, attributes: Attributes) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            self.exporter.take(&self.open, SystemTime::now(), status, attributes);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end(Status::Error("given_up"), Vec::new());
    }
}
