//! JetStream as a relay's sink: pipelined publishes, every acknowledgement checked.

mod sequence_gaps;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{
        Context,
        context::{ContextBuilder, PublishError},
        message::PublishMessage,
        publish::PublishAck,
        stream::{RawMessageErrorKind, State, Stream},
    },
};
use common::{
    backoff::Probe,
    broker::{self, BrokerError, SourceIdentity, microseconds},
    failpoint,
    outbox::{
        reader::{
            entries::Entry,
            rounds::{self, PublishedPosition, Round, StreamPosition},
        },
        relay::{Sink, SinkError, StreamContinuity},
    },
    reference::{MessageId, Reference, Target},
    service::{
        health::{Progress, Resumed},
        telemetry::{
            names,
            traces::{self, Kind, Span, Status, Tracer},
        },
    },
    session::Session,
    settings::{BrokerSettings, PublisherSettings},
};
use futures::{StreamExt as _, stream::FuturesOrdered};
use metrics::counter;
use time::OffsetDateTime;

use crate::sink::sequence_gaps::SequenceGapDetector;

/// How long a stream that was there is gone before it is made anew. A server that deletes one answers that there is none while it
/// still removes its files; nats-server 2.9 then removes those of a stream that is made meanwhile, too, which takes references
/// from then on and can hand out none.
const TIDY_UP: Duration = Duration::from_secs(1);

/// Publishes pages of references.
#[derive(Debug)]
pub struct JetStreamSink {
    client: Client,
    context: Context,
    broker: BrokerSettings,
    source: SourceIdentity,
    stream: Stream,
    created: OffsetDateTime,
    max_in_flight: usize,
    progress: Progress,
    /// The highest sequence that was acknowledged on this creation of the stream.
    highest: u64,
    /// A later one was not above it: the stream has lost its end.
    lost: bool,
    /// Whether this process has led with a stream before.
    has_led: bool,
    /// Whether somebody else publishes beside this leader.
    sequences: SequenceGapDetector,
    /// What the pipeline itself has trimmed the stream to; maintenance says so.
    trimmed_below: Arc<AtomicU64>,
    tracer: Tracer,
    /// What the broker said last about a publish that it did not take.
    words: Mutex<String>,
}

/// What one publish came to. A time-out is not a failure: the broker may have stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PublishOutcome {
    Stored(u64),
    /// Stored by an earlier publish of the same id, at this sequence.
    Duplicate(u64),
    Unknown,
    /// Not sent: the entry names nothing that could be delivered.
    Unnamed,
}

/// A message with what its trace knows of it.
struct Outgoing {
    message: PublishMessage,
    id: MessageId,
    span: Option<Span>,
}

impl JetStreamSink {
    /// Publishes to `stream`, which has been compared with the settings, for `source`.
    #[must_use]
    pub fn new(
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
            // Bounded by `window` below; permits must not be the narrower bound.
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
            max_in_flight: publisher.max_in_flight,
            progress,
            highest: 0,
            lost: false,
            has_led: false,
            sequences: SequenceGapDetector::default(),
            trimmed_below,
            tracer: Tracer::default(),
            words: Mutex::default(),
        }
    }

    /// The same, with spans of its publishes.
    #[must_use]
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Publishes once and answers per entry, in order. What was sent on a connection that is lost since is in doubt at once:
    /// nobody acknowledges it any more, and its time-out need not be sat out.
    async fn publish(&self, entries: &[&Entry], generation: i32) -> Vec<PublishOutcome> {
        let connection = broker::ConnectionEpoch::of(&self.client);
        let mut outcomes = Vec::with_capacity(entries.len());
        tokio::select! {
            biased;
            () = self.publish_all(entries, generation, &mut outcomes) => {}
            () = connection.ended() => {}
        }
        outcomes.resize(entries.len(), PublishOutcome::Unknown);
        outcomes
    }

    /// The broker has work while the rest of the page is still being written; after the first doubt nothing more is sent.
    async fn publish_all(&self, entries: &[&Entry], generation: i32, outcomes: &mut Vec<PublishOutcome>) {
        let mut in_flight = FuturesOrdered::new();
        for entry in entries {
            if in_flight.len() >= self.max_in_flight {
                outcomes.extend(in_flight.next().await);
            }
            if outcomes.last() == Some(&PublishOutcome::Unknown) {
                break;
            }
            let sent = self.send(self.message(entry, generation)).await;
            in_flight.push_back(sent);
        }
        counter!(names::PUBLISH_SENT).increment((outcomes.len() + in_flight.len()) as u64);
        while let Some(outcome) = in_flight.next().await {
            outcomes.push(outcome);
        }
    }

    /// Sends, and answers with the wait for what comes of it.
    async fn send(&self, outgoing: Option<Outgoing>) -> impl Future<Output = PublishOutcome> {
        let sent = match outgoing {
            Some(Outgoing { message, id, span }) => {
                let sent = self.context.send_publish(self.broker.subject.clone(), message).await;
                Some((sent, id, span))
            }
            None => None,
        };
        failpoint::reach("publish.message_sent");
        async move {
            let Some((sent, id, span)) = sent else {
                return PublishOutcome::Unnamed;
            };
            let outcome = match sent {
                Ok(acknowledgement) => self.classify_ack(acknowledgement.await),
                Err(error) => self.classify_ack(Err(error)),
            };
            if let Some(span) = span {
                end_span(&span, id, outcome);
            }
            outcome
        }
    }

    fn message(&self, entry: &Entry, generation: i32) -> Option<Outgoing> {
        let (id, forwarder) = entry.addressed()?;
        let message_id = match (&forwarder, generation) {
            (Target::Only(_), generation) => {
                MessageId::Addressed(id, entry.position.xid, entry.position.seq, generation)
            }
            (Target::Every, 0) => MessageId::First(id),
            (Target::Every, generation) => MessageId::Again(id, generation),
        };
        let reference = Reference { forwarder, audit_event_id: id, occurred_at: entry.occurred_at.clone() };
        let body = serde_json::to_vec(&reference).expect("three strings are JSON");
        let mut message = PublishMessage::build()
            .payload(body.into())
            // The subject captured by another stream is an error, not a loss.
            .expected_stream(&self.stream.cached_info().config.name)
            .message_id(message_id.to_string());
        let span = self.tracer.begin(Kind::Producer, &self.broker.subject, id, || None);
        if let Some(span) = &span {
            message = message.header(traces::HEADER, span.traceparent().to_string());
        }
        Some(Outgoing { message, id: message_id, span })
    }

    fn classify_ack(&self, acknowledged: Result<PublishAck, PublishError>) -> PublishOutcome {
        match acknowledged {
            Ok(ack) if ack.stream != self.stream.cached_info().config.name => {
                tracing::error!(stream = %ack.stream, "another stream acknowledged our subject");
                PublishOutcome::Unknown
            }
            // Sequence 0: the first publish of this id is still on its way to the disk.
            Ok(ack) if ack.sequence == 0 => PublishOutcome::Unknown,
            Ok(ack) if ack.duplicate => PublishOutcome::Duplicate(ack.sequence),
            Ok(ack) => PublishOutcome::Stored(ack.sequence),
            Err(error) => {
                tracing::debug!(%error, "a publish has an unknown outcome");
                self.progress.waiting(format!("broker: {error}"));
                *self.words.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                PublishOutcome::Unknown
            }
        }
    }

    /// The first sequence of the stream: the window remembers ids of messages that are gone.
    async fn first_sequence(&self) -> Option<u64> {
        match self.stream.get_info().await {
            Ok(info) => Some(info.state.first_sequence),
            Err(error) => {
                self.progress.waiting(format!("broker: {error}"));
                None
            }
        }
    }

    /// Whether publishes fail because the stream is gone or another one has its name.
    async fn is_recreated(&self, unknown: &[&Entry]) -> bool {
        if unknown.is_empty() {
            return false;
        }
        match self.context.get_stream(&self.broker.stream).await {
            Ok(stream) => microseconds(stream.cached_info().created) != self.created,
            Err(error) => broker::is_not_found(&error.kind()),
        }
    }

    /// Whether the stream still holds what it acknowledged last. One that lost its end and has grown again holds
    /// something else there.
    async fn still_holds(&self, mark: PublishedPosition) -> bool {
        let State { first_sequence, last_sequence, .. } = self.stream.cached_info().state;
        let sequence = mark.position.sequence;
        if mark.position.created != self.created || sequence > last_sequence {
            return false;
        }
        let (Some(event), true) = (mark.event, sequence >= first_sequence) else {
            // Trimmed: every forwarder had settled it.
            return true;
        };
        let mut probe = Probe::default();
        loop {
            match self.stream.get_raw_message(sequence).await {
                Ok(message) => {
                    let reference: Option<Reference> = serde_json::from_slice(&message.payload).ok();
                    return reference.is_some_and(|reference| reference.audit_event_id == event);
                }
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return false,
                Err(error) => {
                    self.progress.waiting(format!("broker: {error}"));
                    tokio::time::sleep(probe.next_delay()).await;
                }
            }
        }
    }

    /// The stream, made anew if it is gone: not at once, where there has been one.
    async fn open_stream(&self, existed: bool) -> Result<Stream, BrokerError> {
        if existed && broker::find_stream(&self.context, &self.broker).await?.is_none() {
            self.progress.waiting("broker: the stream is gone, and is made anew");
            tokio::time::sleep(TIDY_UP).await;
        }
        broker::ensure_stream(&self.context, &self.broker, &self.source).await
    }

    /// Everybody answers; say so if somebody had not.
    fn report_recovered(&self) {
        if let Some(Resumed { dependency, away }) = self.progress.resumed() {
            let away_ms = away.as_millis();
            tracing::info!(component = self.progress.name(), away_ms, waited_for = dependency, "it goes on");
        }
    }

    async fn connected(&self) {
        broker::connected(&self.client, || self.progress.waiting("broker: not connected")).await;
    }
}

fn end_span(span: &Span, id: MessageId, outcome: PublishOutcome) {
    let (status, sequence) = match outcome {
        PublishOutcome::Stored(sequence) | PublishOutcome::Duplicate(sequence) => {
            (Status::Unset, Some(sequence))
        }
        PublishOutcome::Unknown | PublishOutcome::Unnamed => (Status::Error("unknown"), None),
    };
    let mut attributes = vec![("messaging.message.id", id.to_string().into())];
    attributes.extend(sequence.map(|sequence| ("audit.stream_sequence", sequence.into())));
    span.end(status, attributes);
}

impl Sink for JetStreamSink {
    async fn begin(&mut self, connection: &mut Session, head: &Round) -> Result<StreamContinuity, SinkError> {
        let mut probe = Probe::default();
        let existed = self.has_led || self.lost || head.mark.is_some() || head.generation > 0;
        self.stream = loop {
            self.connected().await;
            match self.open_stream(existed).await {
                Ok(stream) => break stream,
                Err(error) if error.is_passing() || error.is_incompatible() => {
                    // Somebody has to change it: ready would be a lie from the first moment on.
                    self.progress.fault(error.is_incompatible().then(|| error.to_string()));
                    self.progress.waiting(format!("broker: {error}"));
                    let delay = probe.next_delay();
                    tracing::warn!(retry_in_ms = delay.as_millis(), "nothing is published: {error}");
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(SinkError::Refused(error.to_string())),
            }
        };
        self.progress.fault(None);
        self.has_led = true;
        self.created = microseconds(self.stream.cached_info().created);
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
        // What the stream still holds is as good as trimmed: all of it is published again. An empty one begins with what
        // it is given next, and says 0 or that until then.
        let State { first_sequence, last_sequence, messages, .. } = self.stream.cached_info().state;
        let sequence = if messages == 0 { last_sequence + 1 } else { first_sequence };
        self.trimmed_below.fetch_max(sequence, Ordering::SeqCst);
        Ok(StreamContinuity::DataLost { kept: StreamPosition { created: self.created, sequence } })
    }

    async fn deliver(
        &mut self,
        page: &[Entry],
        generation: i32,
    ) -> Result<Option<PublishedPosition>, SinkError> {
        let mut open: Vec<&Entry> = page.iter().collect();
        let acknowledged_before = self.highest;
        let mut highest = (acknowledged_before, None);
        let mut given = Vec::with_capacity(page.len());
        let mut sent_once = true;
        let mut probe = Probe::default();
        loop {
            self.connected().await;
            let outcomes = self.publish(&open, generation).await;
            let repeated =
                outcomes.iter().filter(|outcome| matches!(outcome, PublishOutcome::Duplicate(_))).count();
            let first = if repeated > 0 { self.first_sequence().await } else { None };
            // Gone, but by our own trimming: every forwarder had settled it.
            let trimmed_below = self.trimmed_below.load(Ordering::SeqCst);
            let holds = |sequence| first.is_some_and(|first| sequence >= first) || sequence < trimmed_below;
            let mut unknown = Vec::new();
            for (entry, outcome) in open.into_iter().zip(outcomes) {
                if let PublishOutcome::Stored(sequence) | PublishOutcome::Duplicate(sequence) = outcome {
                    given.push(sequence);
                }
                match outcome {
                    PublishOutcome::Stored(sequence) if sequence <= acknowledged_before => self.lost = true,
                    PublishOutcome::Stored(sequence) => {
                        highest = highest.max((sequence, entry.audit_event_id));
                    }
                    PublishOutcome::Unnamed => {}
                    PublishOutcome::Duplicate(sequence) if holds(sequence) => {
                        highest = highest.max((sequence, entry.audit_event_id));
                    }
                    PublishOutcome::Duplicate(_) | PublishOutcome::Unknown => unknown.push(entry),
                }
            }
            counter!(names::PUBLISH_DUPLICATES).increment(repeated as u64);
            if !unknown.is_empty() {
                self.connected().await;
            }
            if self.lost || self.is_recreated(&unknown).await {
                self.lost = true;
                return Err(SinkError::Lost);
            }
            if unknown.is_empty() {
                self.report_recovered();
                let events: Vec<_> = page.iter().map(|entry| entry.audit_event_id).collect();
                self.sequences.page(&self.stream, acknowledged_before, given, sent_once, &events).await;
                self.highest = highest.0;
                let position = StreamPosition { created: self.created, sequence: highest.0 };
                return Ok(Some(PublishedPosition { position, event: highest.1 }));
            }
            sent_once = false;
            counter!(names::PUBLISH_UNKNOWN).increment(unknown.len() as u64);
            let delay = probe.next_delay();
            let words = std::mem::take(&mut *self.words.lock().unwrap_or_else(PoisonError::into_inner));
            tracing::warn!(
                unknown = unknown.len(),
                broker = if words.is_empty() { "no answer" } else { &words },
                retry_in_ms = delay.as_millis(),
                "publishes without a certain acknowledgement are sent again under the same ids"
            );
            open = unknown;
            tokio::time::sleep(delay).await;
        }
    }
}
