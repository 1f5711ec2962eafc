//! Pulling bounded batches, ahead of the workers.
//!
//! One request for one batch is open until the next batch is here. What arrives while all workers are busy waits here, so the next batch is as
//! large as the load makes it: a trickle is delivered at once, and a flood in full batches without a pause between them.
//!
//! A batch is counted in references and a request in messages. So a request is for as many messages as make a batch if they are like
//! those of the last request; the first one expects packs, of which few are a batch. Where single references are followed by packs, it is
//! the bytes that a request may bring which bound what waits.

use std::time::Duration;

use async_nats::{
    Client, StatusCode, Subscriber,
    jetstream::{
        AckKind, Context, Message, consumer,
        consumer::{Consumer, pull::BatchConfig},
    },
};
use common::{
    broker::{self, ConnectionEpoch, PULL_EXPIRES},
    reference::PACK_MAX,
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{RENEWALS, Waiting};

/// A durable pull consumer.
pub type Durable = Consumer<consumer::pull::Config>;

/// How long one request waits for messages. Without any it ends, and the next one shows that the durable is still
/// there. What comes for a request on a connection that the network has forgotten is lost until `ack_wait` is over: so not long.
const EXPIRES: Duration = PULL_EXPIRES;

/// The server says when a request has expired. One that stays silent for this much longer is away.
const SILENCE: Duration = Duration::from_secs(2);

/// What the broker counts of a message beside headers and body: its subjects.
const SUBJECT_BYTES: usize = 8 << 10;

/// How the broker says that the next message is larger than what a request may still bring.
const BYTES_USED: &str = "MaxBytes";

/// How brokers since 2.10 say that a request has brought as many messages as it was for. Its messages are counted here; from a stream with
/// replicas they may come after this, and the next request may be open by then.
/// <https://github.com/nats-io/nats-architecture-and-design/issues/212>
const FULFILLED: &str = "Batch Completed";

/// The header of a status: how many messages a request that has ended will not bring.
const NOT_BROUGHT: &str = "Nats-Pending-Messages";

const LOST: &str = "the connection was lost";

/// How long closing waits for what is under way.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A received batch.
#[derive(Debug)]
pub struct PulledBatch {
    /// In the order of their delivery; empty when there was none for a while, or at shutdown.
    pub messages: Vec<Message>,
    /// None of them was delivered before this.
    pub since: Instant,
    /// Where they come from.
    pub durable: Durable,
}

/// Prefetches from one subscription that all workers of a forwarder share, one at a time.
#[derive(Debug)]
pub struct Prefetcher {
    durable: Durable,
    context: Context,
    subscriber: Subscriber,
    inbox: String,
    /// References in a batch.
    rows: usize,
    /// Received, and not yet taken by a worker.
    waiting: Waiting<Message>,
    /// The most references in a message of the last request that brought any.
    expected: usize,
    /// The same of the open one; 0 until it has brought something.
    largest: usize,
    /// A request may bring so much, which is more than any one message has.
    bytes_max: usize,
    /// When there was last nothing to read.
    empty_at: Instant,
    /// Nothing that waits was delivered before this.
    oldest: Instant,
    /// How many messages the open request may still bring, and how many it was for.
    requested: usize,
    asked: usize,
    /// The next message is larger than any request may bring: it is asked for by itself, whatever its size.
    is_oversized: bool,
    requested_at: Instant,
    /// When the broker was last told that what waits is not forgotten.
    renewed_at: Instant,
    /// A request is lost with its connection.
    connection: ConnectionEpoch,
    /// Why nothing will come any more; reported once what is here has been taken.
    broken: Option<String>,
}

impl Prefetcher {
    /// Subscribes; batches are of up to `rows` references.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn open(
        client: &Client,
        context: Context,
        durable: Durable,
        rows: usize,
    ) -> Result<Self, async_nats::Error> {
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await?;
        let now = Instant::now();
        Ok(Self {
            durable,
            context,
            subscriber,
            inbox,
            rows,
            waiting: Waiting::default(),
            expected: PACK_MAX,
            largest: 0,
            bytes_max: client.server_info().max_payload + SUBJECT_BYTES,
            empty_at: now,
            oldest: now,
            requested: 0,
            asked: 0,
            is_oversized: false,
            requested_at: now,
            renewed_at: now,
            connection: ConnectionEpoch::of(client),
            broken: None,
        })
    }

    /// Where messages come from.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Waits for a first message, takes what the broker says is on its way with it, and requests more. A batch that is not
    /// full waits for each of those no longer than `linger`.
    ///
    /// # Errors
    /// When the broker is away or the durable is gone. Open another one then.
    pub async fn next(
        &mut self,
        linger: Duration,
        shutdown: &CancellationToken,
    ) -> Result<PulledBatch, async_nats::Error> {
        self.collect();
        if self.waiting.is_empty() {
            self.renewed_at = Instant::now();
            self.request().await?;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                first = self.wait_for_first() => first?,
            }
            self.collect();
        }
        while self.waiting.references() < self.rows && self.more_are_coming() {
            if self.request().await.is_err() {
                // What was received stays; the next call reports it.
                break;
            }
            match timeout(linger, self.subscriber.next()).await {
                Ok(Some(message)) => self.accept(message),
                _ => break,
            }
            self.collect();
        }
        // Batches may be short and many: what waits behind them is renewed here, and during a long one by its worker.
        if self.renewed_at.elapsed() > self.durable.cached_info().config.ack_wait / RENEWALS {
            self.renew().await;
        }
        let messages = self.waiting.take(self.rows);
        // Otherwise the next batch is here.
        if self.waiting.references() < self.rows
            && !shutdown.is_cancelled()
            && let Err(error) = self.request().await
        {
            self.broken = Some(error.to_string());
        }
        Ok(PulledBatch { messages, since: self.oldest, durable: self.durable.clone() })
    }

    /// Each message says how many are behind it. One behind which there is none is not kept waiting for company.
    fn more_are_coming(&self) -> bool {
        let last = self.waiting.last().filter(|_| self.broken.is_none());
        last.and_then(|message| message.info().ok()).is_some_and(|info| info.pending > 0)
    }

    /// Tells the broker that what waits here is not forgotten.
    pub async fn renew(&mut self) {
        self.collect();
        self.renewed_at = Instant::now();
        self.waiting.renew().await;
    }

    /// Gives everything back that no worker has taken: another process may have it at once.
    pub async fn close(mut self) {
        let drained = async {
            self.subscriber.drain().await.ok();
            while let Some(message) = self.subscriber.next().await {
                self.accept(message);
            }
            for message in self.waiting.iter() {
                let _ = message.ack_with(AckKind::Nak(None)).await;
            }
        };
        let _ = timeout(CLOSE_MAX, drained).await;
    }

    /// Opens the next request when the last one is over, or was lost with its connection.
    async fn request(&mut self) -> Result<(), async_nats::Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone().into());
        }
        if self.connection.is_ended() {
            // With the request on it; and behind a new connection there may be another durable.
            self.broken = Some(LOST.to_owned());
            return Err(LOST.into());
        }
        if self.requested > 0 && self.requested_at.elapsed() < EXPIRES + SILENCE {
            return Ok(());
        }
        if self.largest > 0 {
            self.expected = std::mem::take(&mut self.largest);
        }
        let (batch, max_bytes) = if std::mem::take(&mut self.is_oversized) {
            (1, 0)
        } else {
            (self.rows.div_ceil(self.expected), self.bytes_max)
        };
        // Without heartbeats: the expiry shows the same.
        let config = BatchConfig { batch, expires: Some(EXPIRES), max_bytes, ..BatchConfig::default() };
        self.durable.request_batch(config, self.inbox.as_str().into()).await?;
        (self.requested, self.asked) = (batch, batch);
        self.requested_at = Instant::now();
        Ok(())
    }

    /// Waits for a message, for the end of the request, or for that of its connection.
    async fn wait_for_first(&mut self) -> Result<(), async_nats::Error> {
        while self.waiting.is_empty() && self.requested > 0 {
            self.empty_at = Instant::now();
            let silence = (self.requested_at + EXPIRES + SILENCE).saturating_duration_since(self.empty_at);
            let next = tokio::select! {
                biased;
                next = timeout(silence, self.subscriber.next()) => next,
                () = self.connection.ended() => return Err(LOST.into()),
            };
            match next {
                Ok(Some(message)) => self.accept(message),
                Ok(None) => return Err("the subscription has ended".into()),
                Err(_) => return Err("the broker does not answer".into()),
            }
        }
        match &self.broken {
            Some(broken) if self.waiting.is_empty() => Err(broken.clone().into()),
            _ => Ok(()),
        }
    }

    /// Takes what is there without waiting.
    fn collect(&mut self) {
        while let Some(Some(message)) = self.subscriber.next().now_or_never() {
            self.accept(message);
        }
        self.empty_at = Instant::now();
    }

    /// A message, or the server's status of the request.
    fn accept(&mut self, message: async_nats::Message) {
        match message.status.unwrap_or(StatusCode::OK) {
            StatusCode::OK => {
                if self.waiting.is_empty() {
                    self.oldest = self.empty_at;
                }
                self.requested = self.requested.saturating_sub(1);
                let references = broker::references(message.headers.as_ref());
                self.largest = self.largest.max(references);
                self.waiting.push(Message { message, context: self.context.clone() }, references);
            }
            StatusCode::TIMEOUT | StatusCode::NOT_FOUND => {
                self.requested = self.requested.saturating_sub(self.not_brought(&message));
            }
            status => {
                let described = message.description.as_deref().unwrap_or_default();
                if described.contains(FULFILLED) {
                    return;
                }
                let left = self.not_brought(&message);
                self.requested = self.requested.saturating_sub(left);
                if described.contains(BYTES_USED) {
                    self.is_oversized = left >= self.asked;
                } else {
                    self.broken = Some(format!("the request for messages ended: {status} {described}"));
                }
            }
        }
    }

    /// How many messages the request of this status will not bring. From a stream with replicas the status may come before those that it has
    /// brought, which are counted when they are here. Older brokers say nothing of it: there nothing overtakes.
    fn not_brought(&self, status: &async_nats::Message) -> usize {
        let header = status.headers.as_ref().and_then(|headers| headers.get(NOT_BROUGHT));
        header.and_then(|left| left.as_str().parse().ok()).unwrap_or(self.requested)
    }
}
