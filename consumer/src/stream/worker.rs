//! One forwarder's workers on the stream: pull, dispatch, settle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        AckKind, Context,
        stream::{RawMessageErrorKind, Stream},
    },
};
use common::{
    broker::{self, BrokerError, FloorMessage, SettledFloor},
    failpoint,
    identifier::ForwarderId,
    outbox::reader::rounds::StreamPosition,
    process::{health::Progress, shutdown::grace, telemetry::names},
    settings::ConsumerSettings,
};
use metrics::{counter, gauge, histogram};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    engine::work_item::WorkItem,
    engine::{
        dispatcher::{Dispatched, Dispatcher, ForwarderRuntime},
        disposition::Disposition,
        isolation::Unavailable,
        outage::OutageBackoff,
    },
    stream::{
        RENEWALS,
        delivery::{self, Delivery},
        durable_position::DurablePosition,
        pull::{Durable, Prefetcher, PulledBatch},
        stall_detector::StallDetector,
    },
};

/// Deadlines of messages being processed are renewed at least this often.
const RENEW_MAX: Duration = Duration::from_secs(15);

/// How often the durable's own position is requested.
const POSITION_INTERVAL: Duration = Duration::from_secs(5);

/// A stream is not lost, recreated and filled again in less than this.
const SAME_DURABLE_WITHIN: Duration = Duration::from_millis(500);

/// How often a worker checks whether its subscription may continue.
const FOREIGN_POLL: Duration = Duration::from_millis(200);

/// How long a request to the broker may take when the process is to stop.
const LAST_CHECK_MAX: Duration = Duration::from_secs(1);

/// What the workers of one forwarder share.
pub struct StreamSubscription {
    /// The forwarder.
    pub runtime: Arc<ForwarderRuntime>,
    /// The connection to the broker.
    pub client: Client,
    /// The stream of references.
    pub stream: Stream,
    context: Context,
    /// What the worker whose turn it is takes its batch from. All at once, each would take one message out of a trickle,
    /// and a batch costs the same for one row as for a hundred.
    puller: tokio::sync::Mutex<Option<Prefetcher>>,
    position: DurablePosition,
    /// Whether the stream has shown to be another source's: then nothing of it is settled, by no worker.
    foreign: AtomicBool,
    /// Whether the durable is what it should be, and delivers.
    stall: StallDetector,
}

impl StreamSubscription {
    /// A subscription to `stream`, which is of `context`, for `runtime`.
    #[must_use]
    pub fn new(runtime: Arc<ForwarderRuntime>, client: Client, context: Context, stream: Stream) -> Self {
        Self {
            runtime,
            context,
            client,
            stream,
            puller: tokio::sync::Mutex::default(),
            position: DurablePosition::default(),
            foreign: AtomicBool::new(false),
            stall: StallDetector::default(),
        }
    }

    fn id(&self) -> &ForwarderId {
        &self.runtime.route.id
    }

    fn settings(&self) -> &ConsumerSettings {
        &self.runtime.settings
    }

    /// What keeps the forwarder from being ready, if anything does.
    fn fault(&self) -> Option<String> {
        self.stall.fault().or_else(|| self.runtime.deliveries.fault())
    }

    /// A response of the broker, unless its connection is lost: the client makes a new one, and no response comes on the old one.
    async fn while_connected<T>(&self, answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let connection = broker::ConnectionEpoch::of(&self.client);
        tokio::select! {
            biased;
            answer = answer => answer,
            () = connection.ended() => Err("the connection was lost".to_owned()),
        }
    }

    /// The forwarder's durable, recreated where it was seen last if it is gone, or if it has passed over messages since.
    async fn durable(&self) -> Result<Durable, BrokerError> {
        let Self { context, stream, position, .. } = self;
        let (id, settings, floor) = (self.id(), self.settings(), position.floor());
        let floor = floor.as_ref();
        if let Some(skipping) = position.skipping() {
            broker::replace_skipping_durable(context, stream, id, settings, skipping, floor).await?;
        }
        let durable = broker::ensure_durable(context, stream, id, settings, floor).await?;
        position.replaced();
        Ok(durable)
    }

    /// A batch for the worker that calls; empty when there was none for a while, or at shutdown.
    async fn pull(&self, shutdown: &CancellationToken) -> Result<Option<PulledBatch>, String> {
        let mut slot = tokio::select! {
            slot = self.puller.lock() => slot,
            () = shutdown.cancelled() => return Ok(None),
        };
        // While it reconnects, the client takes requests and keeps silent about them.
        if self.client.connection_state() != State::Connected {
            return Err("not connected".to_owned());
        }
        let pull = match &mut *slot {
            Some(pull) => pull,
            none => tokio::select! {
                opened = self.while_connected(self.open()) => none.insert(opened?),
                () = shutdown.cancelled() => return Ok(None),
            },
        };
        let pulled = async {
            if self.position.age().is_none_or(|age| age > POSITION_INTERVAL) {
                tokio::select! {
                    refreshed = self.while_connected(self.refresh_position()) => refreshed?,
                    () = shutdown.cancelled() => {}
                }
            }
            pull.next(self.settings().linger, shutdown).await.map_err(|error| error.to_string())
        };
        let pulled = pulled.await;
        if pulled.is_err() {
            *slot = None;
        }
        pulled.map(|pulled| Some(pulled).filter(|pulled| !pulled.messages.is_empty()))
    }

    async fn open(&self) -> Result<Prefetcher, String> {
        let durable = self.durable().await.map_err(|error| self.describe(&error))?;
        let info = self.stream.get_info().await.map_err(|error| error.to_string())?;
        self.runtime.route.stream_created.set(info.created);
        Prefetcher::open(&self.client, self.context.clone(), durable, self.settings().batch_rows)
            .await
            .map_err(|error| error.to_string())
    }

    /// An error as text. What was set differently by hand makes unready at once: waiting does not fix it, and what is held here
    /// is not skipped there.
    fn describe(&self, error: &BrokerError) -> String {
        let words = error.to_string();
        if error.is_incompatible() {
            self.stall.set_misconfigured(&words);
        }
        if let Some(skipping) = error.skipping() {
            self.position.skips(skipping);
        }
        words
    }

    /// Releases a durable that no longer exists, and what was pulled from it: nothing of it may be settled.
    async fn drop_durable(&self, gone: &Durable) {
        let mut slot = self.puller.lock().await;
        let of_it = |pull: &Prefetcher| pull.durable().cached_info().created == gone.cached_info().created;
        if slot.as_ref().is_some_and(of_it) {
            *slot = None;
        }
    }

    /// Whether the durable that these messages came from is still there, and the stream behind it. One that was recreated, or
    /// restored from an older backup, knows their sequences as other messages, perhaps in another worker's hand, which must not
    /// be settled from here. Times of creation survive a restore; but if the last of the messages is unchanged, so are those
    /// before it.
    async fn is_same_durable(&self, durable: &Durable, deliveries: &[Delivery]) -> bool {
        let look = async { durable.get_info().await.map_err(|error| error.to_string()) };
        let info = self.while_connected(look).await;
        let created = durable.cached_info().created;
        if !info.is_ok_and(|info| broker::is_same_creation(info.created, created)) {
            return false;
        }
        let Some(last) = deliveries.iter().max_by_key(|delivery| delivery.sequence) else {
            return true;
        };
        match self.stream.get_raw_message(last.sequence).await {
            Ok(found) => Some(found.time) == last.published && found.payload == last.message.payload,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => false,
            Err(error) => {
                tracing::debug!(%error, "cannot read the last message of a batch");
                true
            }
        }
    }

    /// Returns what was pulled and not taken.
    async fn close(&self) {
        if let Some(pull) = self.puller.lock().await.take() {
            pull.close().await;
        }
    }

    /// Renews the deadlines of what was pulled while all workers are busy.
    async fn renew(&self) {
        // The worker that holds the lock waits for a first message: then nothing is here.
        if let Ok(mut slot) = self.puller.try_lock()
            && let Some(pull) = &mut *slot
        {
            pull.renew().await;
        }
    }

    /// Asks the broker how far this forwarder has come.
    async fn refresh_position(&self) -> Result<(), String> {
        let stream = &self.stream.cached_info().config.name;
        let begun = Instant::now();
        let durable = broker::durable_state(&self.context, stream, self.id(), self.settings()).await;
        let durable = durable.map_err(|error| self.describe(&error))?;
        let now = Instant::now();
        self.runtime.route.stream_created.set(durable.stream_created);
        self.stall.observe(&durable, self.settings(), now);
        let position = StreamPosition { created: durable.stream_created, sequence: durable.floor };
        match FloorMessage::at(&self.stream, durable.floor).await {
            // Later, it may be another message's place already: the older floor stays.
            Ok(_) if begun.elapsed() > SAME_DURABLE_WITHIN => {}
            Ok(message) => self.position.record(SettledFloor { position, message }, now),
            Err(error) => tracing::debug!(%error, "cannot read what was settled last"),
        }
        let name = broker::durable_name(self.id());
        self.stall.acknowledgements(broker::check_acknowledgements(&self.client, stream, &name).await);
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (name, count) in
            [(names::FORWARD_PENDING, durable.pending), (names::FORWARD_UNSETTLED, durable.unsettled)]
        {
            gauge!(name, "forwarder" => self.id().to_string()).set(count as f64);
        }
        Ok(())
    }
}

/// One worker: a batch at a time, on connections of its own.
pub struct StreamWorker {
    subscription: Arc<StreamSubscription>,
    progress: Progress,
    dispatcher: Dispatcher,
}

impl StreamWorker {
    /// A worker that reports to `progress`.
    #[must_use]
    pub fn new(subscription: Arc<StreamSubscription>, progress: Progress) -> Self {
        Self { dispatcher: Dispatcher::new(subscription.runtime.clone()), subscription, progress }
    }

    /// Works until `shutdown`; the current batch is settled first.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut backoff = OutageBackoff::default();
        while !shutdown.is_cancelled() {
            if self.subscription.foreign.load(Ordering::SeqCst) {
                // Whichever worker met it checks whether it is still so.
                tokio::time::sleep(FOREIGN_POLL).await;
                continue;
            }
            match self.subscription.pull(&shutdown).await {
                Ok(pulled) => {
                    backoff.recovered(&self.progress);
                    self.progress.fault(self.subscription.fault());
                    if let Some(pulled) = pulled {
                        Box::pin(self.process(pulled, &shutdown)).await;
                        self.progress.fault(self.subscription.fault());
                    }
                    self.progress.idle();
                }
                Err(error) => {
                    self.progress.fault(self.subscription.fault());
                    let reason = Unavailable::new(format!("the broker: {error}")).into();
                    backoff.wait(&reason, &self.progress, &shutdown).await;
                }
            }
        }
        self.subscription.close().await;
    }

    /// Takes one batch from delivery to settlement, holding on to it while a server is away.
    async fn process(&mut self, pulled: PulledBatch, shutdown: &CancellationToken) {
        let PulledBatch { messages, since, durable } = pulled;
        self.progress.busy();
        failpoint::reach("worker.pulled");
        let route = &self.subscription.runtime.route;
        let deliveries: Vec<Delivery> =
            messages.into_iter().map(|message| Delivery::new(message, route)).collect();
        self.record_metrics(&deliveries);
        let items: Vec<WorkItem> = {
            let tracer = &self.subscription.runtime.tracer;
            deliveries.iter().flat_map(|delivery| delivery.items(tracer)).collect()
        };
        let every = (self.subscription.settings().ack_wait / RENEWALS).min(RENEW_MAX);
        let dispatched = tokio::select! {
            dispatched = self.dispatcher.dispatch(&items, &self.progress, shutdown) => dispatched,
            () = renew(&self.subscription, &deliveries, every) => unreachable!("renewing never ends"),
            // A target that hangs must not keep the process: another one may have the batch.
            () = grace(shutdown) => Dispatched::Stopped,
        };
        let (dispositions, foreign) = match dispatched {
            Dispatched::Settle(dispositions) if !self.subscription.foreign.load(Ordering::SeqCst) => {
                (Some(dispositions), None)
            }
            Dispatched::Settle(_) | Dispatched::Stopped => (None, None),
            Dispatched::Foreign(foreign) => {
                self.subscription.foreign.store(true, Ordering::SeqCst);
                (None, Some(foreign))
            }
        };
        if dispositions.is_none() {
            // First: what is given back while a request is open comes straight back to it.
            self.subscription.close().await;
            self.dispatcher.release().await;
        }
        // Given back: another process may have them at once.
        let dispositions = dispositions.unwrap_or_else(|| vec![Disposition::Deferred(None); items.len()]);
        let same = async {
            since.elapsed() <= SAME_DURABLE_WITHIN
                || self.subscription.is_same_durable(&durable, &deliveries).await
        };
        let stopping = async {
            shutdown.cancelled().await;
            tokio::time::sleep(LAST_CHECK_MAX).await;
        };
        let same = tokio::select! {
            same = same => same,
            () = stopping => false,
        };
        if !same {
            tracing::warn!(forwarder = %self.subscription.id(), "the durable was recreated: this batch is redelivered");
            self.subscription.drop_durable(&durable).await;
            return;
        }
        tokio::select! {
            () = settle(&deliveries, &dispositions) => {}
            // While it reconnects, the client takes only so many.
            () = grace(shutdown) => {}
        }
        if let Some(foreign) = foreign {
            self.dispatcher.hold_foreign(&foreign, &self.progress, shutdown).await;
            self.subscription.foreign.store(false, Ordering::SeqCst);
        }
    }

    fn record_metrics(&self, deliveries: &[Delivery]) {
        let forwarder = self.subscription.id().to_string();
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        histogram!(names::FORWARD_BATCH_ROWS, "forwarder" => forwarder.clone())
            .record(references(deliveries) as f64);
        let again = references(deliveries.iter().filter(|delivery| delivery.delivered > 1));
        counter!(names::FORWARD_REDELIVERED, "forwarder" => forwarder.clone()).increment(again as u64);
        if let Some(oldest) = deliveries.iter().filter_map(|delivery| delivery.published).min() {
            let lag = (OffsetDateTime::now_utc() - oldest).as_seconds_f64().max(0.0);
            histogram!(names::FORWARD_LAG_SECONDS, "forwarder" => forwarder).record(lag);
        }
    }
}

/// How many references these messages hold.
fn references<'d>(deliveries: impl IntoIterator<Item = &'d Delivery>) -> usize {
    deliveries.into_iter().map(|delivery| delivery.instructions.len()).sum()
}

/// Settles each message, by its part of the dispositions: there is one for each thing that one requests.
async fn settle(deliveries: &[Delivery], mut dispositions: &[Disposition]) {
    for delivery in deliveries {
        let (ours, rest) = dispositions.split_at(delivery.instructions.len());
        dispositions = rest;
        // Not confirmed: a lost one means a redelivery, which has no effect.
        if let Err(error) = delivery.message.ack_with(delivery::ack_kind(ours)).await {
            tracing::debug!(%error, "an acknowledgement could not be sent");
        }
        failpoint::reach("worker.acknowledged");
    }
}

/// Renews the deadlines of the batch until it is dropped.
async fn renew(subscription: &StreamSubscription, deliveries: &[Delivery], every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        for delivery in deliveries {
            let _ = delivery.message.ack_with(AckKind::Progress).await;
        }
        subscription.renew().await;
    }
}
