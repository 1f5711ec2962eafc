//! The durable of a replay: where it begins, how far it is, and what it was made for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use async_nats::jetstream::{
    Message,
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    stream::{State, Stream},
};
use common::{broker, reference::PACK_MAX, settings::UsageError};
use futures::StreamExt as _;

use super::{Begin, Replay};
use crate::stream::{RENEWALS, Waiting};

/// How long the broker waits for messages before it answers that there are none.
const EXPIRES: Duration = Duration::from_secs(2);

/// A consumer on the range.
pub(crate) struct ReplayConsumer {
    consumer: Consumer<pull::Config>,
    /// Its name.
    pub(crate) durable: String,
    /// What was requested: its description.
    pub(crate) description: String,
    /// The last sequence of the range.
    pub(crate) until: u64,
    /// Messages from here to the end of the stream; more than the range's, if that ends before.
    pub(crate) pending: u64,
    /// The most references in a message of the last batch.
    expected: usize,
    /// Pulled, and not given out: behind single references packs may come, of which a request may bring more than a batch.
    waiting: Waiting<Message>,
    /// The last sequence that was pulled.
    pulled: u64,
    /// When the broker was last told that what waits is not forgotten.
    renewed_at: Instant,
}

impl ReplayConsumer {
    /// Continues a replay that was interrupted, or begins one. `None` when the range is empty.
    pub(crate) async fn find(
        stream: &Stream,
        asked: &Replay,
        until: u64,
        ack_wait: Duration,
    ) -> anyhow::Result<Option<Self>> {
        let kind = if asked.dry_run { "rehearse" } else { "replay" };
        let durable = format!("{kind}-{}", asked.forwarder);
        let over = if asked.overwrite { ", overwriting" } else { "" };
        let asked_for = format!("{} to forwarder {}{over}", asked.begin.description(), asked.forwarder);
        if asked.dry_run || asked.restart {
            let _ = stream.delete_consumer(&durable).await;
        }
        let earlier: Result<Consumer<pull::Config>, _> = stream.get_consumer(&durable).await;
        if let Ok(consumer) = earlier {
            let info = consumer.cached_info().clone();
            let description = info.config.description.clone().unwrap_or_default();
            let Some(until) = description
                .strip_prefix(&format!("{asked_for}, until "))
                .and_then(|until| until.parse().ok())
            else {
                bail!(
                    "another replay was interrupted ({description}): give the same arguments to continue it, or --restart to \
                     give it up"
                );
            };
            tracing::info!(%description, "continuing the replay that was interrupted");
            let pending = info.num_pending + info.num_ack_pending as u64;
            return Ok(Some(Self::new(consumer, durable, description, until, pending)));
        }
        asked.begin.require_in(&stream.cached_info().state, asked.until_sequence)?;
        let description = format!("{asked_for}, until {until}");
        let config = pull::Config {
            durable_name: Some(durable.clone()),
            description: Some(description.clone()),
            deliver_policy: asked.begin.policy(),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            inactive_threshold: Duration::from_secs(24 * 3_600),
            ..pull::Config::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .with_context(|| format!("cannot create the durable {durable}"))?;
        let info = consumer.cached_info();
        let pending = info.num_pending;
        if pending == 0 || info.delivered.stream_sequence >= until {
            let _ = stream.delete_consumer(&durable).await;
            return Ok(None);
        }
        Ok(Some(Self::new(consumer, durable, description, until, pending)))
    }

    fn new(
        consumer: Consumer<pull::Config>,
        durable: String,
        description: String,
        until: u64,
        pending: u64,
    ) -> Self {
        let (waiting, renewed_at) = (Waiting::default(), Instant::now());
        Self {
            consumer,
            durable,
            description,
            until,
            pending,
            expected: PACK_MAX,
            waiting,
            pulled: 0,
            renewed_at,
        }
    }

    /// Whether everything up to the end of the range has been delivered and acknowledged: what a process that was killed
    /// had in hand is redelivered.
    pub(crate) async fn is_done(&mut self) -> anyhow::Result<bool> {
        let info = self.consumer.get_info().await.context("cannot read the replay's durable")?;
        let delivered = info.num_pending == 0 || info.delivered.stream_sequence >= self.until;
        Ok(delivered && info.num_ack_pending == 0)
    }

    /// The next batch, of up to `rows` references, or of one message that holds more; empty when there was none for a while.
    pub(crate) async fn pull(&mut self, rows: usize) -> anyhow::Result<ReplayBatch> {
        if self.waiting.is_empty() {
            self.fetch(rows).await?;
        } else if self.renewed_at.elapsed() > self.consumer.cached_info().config.ack_wait / RENEWALS {
            self.renewed_at = Instant::now();
            self.waiting.renew().await;
        }
        let of_range = self.waiting.take(rows);
        let taken = of_range.last().map(sequence).transpose()?;
        let last = taken.filter(|_| !self.waiting.is_empty()).unwrap_or(self.pulled);
        Ok(ReplayBatch { of_range, last })
    }

    async fn fetch(&mut self, rows: usize) -> anyhow::Result<()> {
        self.renewed_at = Instant::now();
        let mut messages = self
            .consumer
            .fetch()
            .max_messages(rows.div_ceil(self.expected))
            .expires(EXPIRES)
            .messages()
            .await
            .context("cannot pull from the stream")?;
        let mut largest = 0;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| anyhow::anyhow!("cannot pull from the stream: {error}"))?;
            let sequence = sequence(&message)?;
            self.pulled = self.pulled.max(sequence);
            let references = broker::references(message.headers.as_ref());
            largest = largest.max(references);
            if sequence <= self.until {
                self.waiting.push(message, references);
            } else {
                acknowledge(&message).await?;
            }
        }
        if largest > 0 {
            self.expected = largest;
        }
        Ok(())
    }
}

fn sequence(message: &Message) -> anyhow::Result<u64> {
    Ok(message.info().map_err(|error| anyhow::anyhow!("{error}"))?.stream_sequence)
}

impl Begin {
    fn policy(&self) -> DeliverPolicy {
        match (self.sequence, &self.time) {
            (Some(start_sequence), _) => {
                DeliverPolicy::ByStartSequence { start_sequence: start_sequence.max(1) }
            }
            (_, Some(time)) => DeliverPolicy::ByStartTime { start_time: time.at },
            _ => DeliverPolicy::All,
        }
    }

    /// Refuses a range of sequences of which the stream holds nothing: it is behind its end, or before its beginning.
    fn require_in(&self, state: &State, until: Option<u64>) -> Result<(), UsageError> {
        let State { first_sequence, last_sequence, .. } = *state;
        let outside = match (self.sequence, until) {
            // The next one is where a later replay of what is new begins.
            (Some(from), _) if from > last_sequence + 1 => {
                format!("--from-sequence {from} is behind its last message")
            }
            (_, Some(until)) if until < first_sequence => {
                format!("--until-sequence {until} is before its first message")
            }
            _ => return Ok(()),
        };
        Err(UsageError(format!(
            "nothing is in the range: the stream holds sequences {first_sequence} to {last_sequence}, and {outside}"
        )))
    }

    fn description(&self) -> String {
        match (self.sequence, &self.time) {
            (Some(sequence), _) => format!("from sequence {sequence}"),
            (_, Some(time)) => format!("from {time}"),
            _ => "from the start".to_owned(),
        }
    }
}

/// A batch.
pub(crate) struct ReplayBatch {
    pub(crate) of_range: Vec<Message>,
    /// The highest sequence that was seen, behind the range included; 0 for none.
    pub(crate) last: u64,
}

/// To the replay's own durable, whatever the verdict: what failed is a row of `outbox.failures`, and what is to be tried
/// again enters the log once it is overdue.
pub(crate) async fn acknowledge(message: &Message) -> anyhow::Result<()> {
    message.ack().await.map_err(|error| anyhow::anyhow!("cannot acknowledge: {error}"))
}
