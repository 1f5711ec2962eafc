//! Spans to a collector, by OTLP over HTTP.

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status as OtelStatus, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks,
        SpanProcessor as _,
    },
};
use reqwest::{blocking::Client, redirect};

use super::{Attributes, Kind, Open, Status, Value};
use crate::settings::ConnectionUrl;

/// Where a collector takes spans.
const PATH: &str = "v1/traces";

/// How long it may take for them.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How many spans wait to be sent; the next one is dropped.
const QUEUE: usize = 16_384;

/// How long the end of a process may wait for the last ones.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

type ExporterError = Box<dyn Error + Send + Sync>;

/// A queue of spans, and a thread that sends them.
#[derive(Debug)]
pub(crate) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    pub(crate) fn to(url: &ConnectionUrl, service: &'static str) -> Result<Option<Self>, ExporterError> {
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client()?)
            .with_endpoint(endpoint(url)?)
            .with_timeout(TIMEOUT)
            .build()?;
        // In addition to `OTEL_RESOURCE_ATTRIBUTES`, which all spans have.
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        exporter.set_resource(&resource);
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        Ok(Some(Self {
            processor: BatchSpanProcessor::new(Outages { exporter, away: AtomicBool::default() }, queue),
            scope: InstrumentationScope::builder("threadline-pipeline")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }))
    }

    pub(crate) fn take(&self, span: &Open, ended: SystemTime, status: Status, attributes: Attributes) {
        let attributes = span.attributes.iter().cloned().chain(attributes);
        let mut attributes: Vec<KeyValue> = attributes.map(attribute).collect();
        let status = match status {
            Status::Unset => OtelStatus::Unset,
            Status::Error(why) => {
                attributes.push(KeyValue::new("error.type", why));
                OtelStatus::error(why)
            }
        };
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from(span.own.trace),
                SpanId::from(span.own.span),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span)),
            parent_span_is_remote: span.parent.is_some_and(|parent| parent.remote),
            span_kind: match span.kind {
                Kind::Producer => SpanKind::Producer,
                Kind::Consumer => SpanKind::Consumer,
                Kind::Client => SpanKind::Client,
            },
            name: span.name.clone().into(),
            start_time: span.begun,
            end_time: ended,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    pub(crate) fn shut_down(&self) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(FLUSH_TIMEOUT)
    }
}

/// As `url` writes it: what the HTTP library refuses in a URL is escaped there.
fn endpoint(url: &ConnectionUrl) -> Result<String, url::ParseError> {
    Ok(format!("{}/{PATH}", url::Url::parse(url.expose())?.as_str().trim_end_matches('/')))
}

/// The processor's thread waits for its answers, so it blocks; and it has a runtime of its own, which must not be made, or end,
/// inside another one.
fn client() -> Result<Client, ExporterError> {
    // What the binaries do at start; a host's own may not have, and the client panics without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = std::thread::spawn(|| {
        // A header with a password goes where it was meant to go, and nowhere else.
        Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).no_proxy().build()
    });
    Ok(client.join().map_err(|_| "the HTTP client cannot be made")??)
}

/// Logs once when the collector is away and once when it is back. Its absence is no emergency, and what it misses is
/// not kept.
#[derive(Debug)]
struct Outages<E> {
    exporter: E,
    away: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Outages<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self.exporter.export(batch).await {
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector takes spans again (traces.url)");
            }
            Err(error) if !self.away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the collector takes no spans (traces.url): they are lost until it does");
            }
            _ => {}
        }
        Ok(())
    }
}

fn attribute((key, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Number(number) => KeyValue::new(key, number),
    }
}
