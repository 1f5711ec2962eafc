//! JetStream as a relay's sink: pipelined publishes, every acknowledgement checked.
//!
//! | part | file |
//! |---|---|
//! | whether references travel in packs | `packing.rs` |
//! | a page, cut into messages | `messages.rs` |
//! | one message, and its id | `message.rs` |
//! | pipelined publishing | `publish.rs` |
//! | what one acknowledgement means | `acknowledgement.rs` |
//! | what the acknowledgements of a page add up to | `page.rs` |
//! | whether the stream lost something | `continuity.rs` |
//! | whether another process publishes into it | `sequence_gaps.rs` |

mod acknowledgement;
mod continuity;
mod message;
mod messages;
mod packing;
mod page;
mod publish;
mod sequence_gaps;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    Client,
    jetstream::{Context, context::ContextBuilder, stream::Stream},
};
use common::{
    backoff::Probe,
    broker::{self, SourceIdentity, microseconds},
    outbox::{
        reader::{
            entries::Entry,
            rounds::{self, PublishedPosition, Round, StreamPosition},
        },
        relay::{Sink, SinkError, StreamContinuity},
    },
    process::{
        health::{Progress, Resumed},
        telemetry::{names, traces::Tracer},
    },
    session::Session,
    settings::{BrokerSettings, PublisherSettings},
};
use metrics::counter;
use time::OffsetDateTime;

use self::{
    acknowledgement::PublishOutcome,
    page::{PageProgress, Retained},
    sequence_gaps::SequenceGapDetector,
};

/// How often the log says during an outage that the broker is away.
const REPEAT_WARNING: Duration = Duration::from_secs(5);

/// Publishes pages of references.
#[derive(Debug)]
pub(crate) struct JetStreamSink {
    client: Client,
    context: Context,
    broker: BrokerSettings,
    source: SourceIdentity,
    stream: Stream,
    created: OffsetDateTime,
    settings: PublisherSettings,
    /// How many references a message may hold: 1 until a stream is known that may hold packs.
    references_max: usize,
    progress: Progress,
    /// The highest sequence that was acknowledged on this creation of the stream.
    highest: u64,
    /// A later one was not above it: the stream has lost its end.
    lost: bool,
    /// Whether this process has led with a stream before.
    has_led: bool,
    /// Whether another process publishes alongside this leader.
    sequences: SequenceGapDetector,
    /// What the pipeline itself has trimmed the stream to; maintenance says so.
    trimmed_below: Arc<AtomicU64>,
    tracer: Tracer,
    /// The broker's last error for a publish.
    last_error: Mutex<String>,
}

impl JetStreamSink {
    /// Publishes to `stream`, which has been compared with the settings, for `source`.
    #[must_use]
    pub(crate) fn new(
        client: Client,
        stream: Stream,
        broker: BrokerSettings,
        source: SourceIdentity,
        publisher: &PublisherSettings,
        progress: Progress,
        trimmed_below: Arc<AtomicU64>,
    ) -> Self {
        let context = ContextBuilder::new()
            .timeout(publisher.ack_timeout)
            // Bounded by `max_in_flight` below; permits must not be the narrower bound.
            .max_ack_inflight(publisher.max_in_flight * 2);
        let context = match (&broker.jetstream_domain, &broker.api_prefix) {
            (Some(domain), _) => context.domain(domain).build(client.clone()),
            (None, Some(prefix)) => context.api_prefix(prefix).build(client.clone()),
            (None, None) => context.build(client.clone()),
        };
        Self {
            client,
            context,
            created: microseconds(stream.cached_info().created),
            stream,
            broker,
            source,
            settings: publisher.clone(),
            references_max: 1,
            progress,
            highest: 0,
            lost: false,
            has_led: false,
            sequences: SequenceGapDetector::default(),
            trimmed_below,
            tracer: Tracer::default(),
            last_error: Mutex::default(),
        }
    }

    /// The same, with spans of its publishes.
    #[must_use]
    pub(crate) fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Every server responds; reports it if one had not.
    fn report_recovered(&self) {
        if let Some(Resumed { dependency, away }) = self.progress.resumed() {
            let away_ms = common::process::millis(away);
            tracing::info!(component = self.progress.name(), away_ms, waited_for = dependency, "recovered");
        }
    }

    /// Waits until the client is connected, and says every few seconds that it is not.
    async fn connected(&self) {
        let mut said: Option<Instant> = None;
        broker::connected(&self.client, || {
            self.progress.waiting("broker: not connected");
            if said.is_none_or(|at| at.elapsed() >= REPEAT_WARNING) {
                said = Some(Instant::now());
                tracing::warn!(component = self.progress.name(), "waiting for the broker: not connected");
            }
        })
        .await;
    }
}

impl Sink for JetStreamSink {
    async fn begin(&mut self, connection: &mut Session, head: &Round) -> Result<StreamContinuity, SinkError> {
        let mut probe = Probe::default();
        let existed = self.has_led || self.lost || head.mark.is_some() || head.generation > 0;
        self.stream = self.wait_for_stream(existed, &mut probe).await?;
        self.progress.fault(None);
        self.has_led = true;
        self.created = microseconds(self.stream.cached_info().created);
        self.references_max = self.allowed_references().await;
        let trimmed_below = rounds::trimmed_below(connection, self.created).await?;
        self.trimmed_below.store(trimmed_below, Ordering::SeqCst);
        let lost = std::mem::take(&mut self.lost)
            || self.stream.cached_info().state.first_sequence > trimmed_below
            || match head.mark {
                None => false,
                Some(mark) => !self.still_holds(mark).await,
            };
        self.sequences = SequenceGapDetector::default();
        self.highest = head.mark.filter(|_| !lost).map_or(0, |mark| mark.position.sequence);
        if !lost {
            return Ok(StreamContinuity::Intact);
        }
        while let Err(error) = broker::reset_durables_ahead(&self.stream).await {
            self.progress.waiting(format!("broker: {error}"));
            tokio::time::sleep(probe.next_delay()).await;
        }
        // All that the stream still holds is published again, so it counts as trimmed.
        let sequence = continuity::first_retained(&self.stream.cached_info().state);
        self.trimmed_below.fetch_max(sequence, Ordering::SeqCst);
        Ok(StreamContinuity::DataLost { kept: StreamPosition { created: self.created, sequence } })
    }

    async fn deliver(
        &mut self,
        page: &[Entry],
        generation: i32,
    ) -> Result<Option<PublishedPosition>, SinkError> {
        let acknowledged_before = self.highest;
        let mut progress = PageProgress::new(messages::cut(page, self.references_max), acknowledged_before);
        let mut sent_once = true;
        let mut probe = Probe::default();
        loop {
            self.connected().await;
            let outcomes = self.publish(&progress.open, generation).await;
            let duplicates = duplicates(&progress.open, &outcomes);
            let first_sequence = if duplicates > 0 { self.first_sequence().await } else { None };
            let trimmed_below = self.trimmed_below.load(Ordering::SeqCst);
            progress.apply(&outcomes, Retained { first_sequence, trimmed_below });
            counter!(names::PUBLISH_DUPLICATES).increment(duplicates);
            self.lost |= progress.lost;
            if !progress.open.is_empty() {
                self.connected().await;
            }
            if self.lost || (!progress.open.is_empty() && self.is_recreated().await) {
                self.lost = true;
                return Err(SinkError::Lost);
            }
            if progress.open.is_empty() {
                self.report_recovered();
                let (sequence, event) = progress.highest();
                let events: Vec<_> = page.iter().map(|entry| entry.audit_event_id).collect();
                let given = progress.sequences;
                self.sequences.page(&self.stream, acknowledged_before, given, sent_once, &events).await;
                self.highest = sequence;
                let position = StreamPosition { created: self.created, sequence };
                return Ok(Some(PublishedPosition { position, event }));
            }
            sent_once = false;
            if let Some(why) = self.refuses_packs().await {
                tracing::warn!("references travel one by one from now on: {why}");
                self.references_max = 1;
                progress.send_one_by_one();
            }
            let unknown = progress.open_references();
            counter!(names::PUBLISH_UNKNOWN).increment(unknown as u64);
            let delay = probe.next_delay();
            let error = std::mem::take(&mut *self.last_error.lock().unwrap_or_else(PoisonError::into_inner));
            tracing::warn!(
                unknown,
                broker = if error.is_empty() { "no answer" } else { &error },
                retry_in_ms = common::process::millis(delay),
                "publishes without a certain acknowledgement are sent again under the same ids"
            );
            tokio::time::sleep(delay).await;
        }
    }
}

/// How many references the broker had stored before.
fn duplicates(messages: &[&[Entry]], outcomes: &[PublishOutcome]) -> u64 {
    let of_both = messages.iter().zip(outcomes);
    let stored_before = of_both.filter(|(_, outcome)| matches!(outcome, PublishOutcome::Duplicate(_)));
    publish::references(stored_before.map(|(message, _)| message))
}
