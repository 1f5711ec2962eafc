//! One forwarder's workers on the stream: pull, dispatch, settle.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    Client,
    connection::State,
    jetstream::{
        AckKind, Message,
        consumer::{Consumer, pull as jetstream_pull},
        stream::Stream,
    },
};
use common::{
    broker::{self, microseconds},
    failpoint,
    health::Progress,
    identifier::ForwarderId,
    outbox::rounds::StreamPosition,
    settings::ConsumerSettings,
    telemetry::names,
};
use metrics::{counter, gauge, histogram};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::{Delivery, Item},
    dispatcher::{Destination, Dispatcher, Plan},
    guard::Unavailable,
    patience::Patience,
    pull,
};

/// Held messages renew their deadline at least this often.
const RENEW_MAX: Duration = Duration::from_secs(15);

/// How often the durable's own position is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A stream is not lost, made anew and filled again in less than this.
const SURELY_THE_SAME: Duration = Duration::from_millis(500);

/// How long a shutdown waits for the batch in work.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

type Durable = Consumer<jetstream_pull::Config>;

/// What the workers of one forwarder share.
pub struct Lane {
    /// The forwarder.
    pub destination: Arc<Destination>,
    /// The connection to the broker.
    pub client: Client,
    /// The stream of references.
    pub stream: Stream,
    /// Whose turn it is to pull. All at once, each would take one message out of a trickle, and a batch costs the same
    /// for one row as for a hundred.
    turn: tokio::sync::Mutex<()>,
    /// Where the durable was seen last, and when: a durable that somebody deletes goes on there.
    seen: Mutex<Option<(StreamPosition, Instant)>>,
}

impl Lane {
    /// A lane from `stream` to `destination`.
    #[must_use]
    pub fn new(destination: Arc<Destination>, client: Client, stream: Stream) -> Self {
        Self { destination, client, stream, turn: tokio::sync::Mutex::default(), seen: Mutex::default() }
    }

    fn id(&self) -> &ForwarderId {
        &self.destination.addressee.id
    }

    fn settings(&self) -> &ConsumerSettings {
        &self.destination.settings
    }

    fn seen(&self) -> Option<(StreamPosition, Instant)> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The forwarder's durable, made anew where it was seen last if it is gone.
    async fn durable(&self) -> Result<Durable, broker::BrokerError> {
        let floor = self.seen().map(|(floor, _)| floor);
        broker::ensure_durable(&self.stream, self.id(), self.settings(), floor).await
    }

    async fn pull(&self, durable: &Durable, shutdown: &CancellationToken) -> Result<Vec<Message>, String> {
        let ConsumerSettings { batch_rows, linger, .. } = *self.settings();
        let _turn = tokio::select! {
            turn = self.turn.lock() => turn,
            () = shutdown.cancelled() => return Ok(Vec::new()),
        };
        // While it reconnects, the client takes requests and keeps silent about them.
        if self.client.connection_state() != State::Connected {
            return Err("not connected".to_owned());
        }
        if self.seen().is_none_or(|(_, at)| at.elapsed() > LOOK_EVERY) {
            self.look(durable).await?;
        }
        pull::batch(durable, batch_rows, linger, shutdown).await.map_err(|error| error.to_string())
    }

    /// Asks the broker how far this forwarder has come.
    async fn look(&self, durable: &Durable) -> Result<(), String> {
        let info = durable.get_info().await.map_err(|error| error.to_string())?;
        let floor = StreamPosition {
            created: microseconds(self.stream.cached_info().created),
            sequence: info.ack_floor.stream_sequence,
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((floor, Instant::now()));
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (name, count) in [
            (names::FORWARD_PENDING, info.num_pending),
            (names::FORWARD_UNSETTLED, info.num_ack_pending as u64),
        ] {
            gauge!(name, "forwarder" => self.id().to_string()).set(count as f64);
        }
        Ok(())
    }
}

/// One worker: a batch at a time, on connections of its own.
pub struct Worker {
    lane: Arc<Lane>,
    progress: Progress,
    dispatcher: Dispatcher,
}

impl Worker {
    /// A worker that reports to `progress`.
    #[must_use]
    pub fn new(lane: Arc<Lane>, progress: Progress) -> Self {
        Self { dispatcher: Dispatcher::new(lane.destination.clone()), lane, progress }
    }

    /// Works until `shutdown`; what is in hand then is settled first.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut durable: Option<Durable> = None;
        let mut patience = Patience::default();
        while !shutdown.is_cancelled() {
            let pulled = match &durable {
                Some(durable) => self.lane.pull(durable, &shutdown).await,
                None => match self.lane.durable().await {
                    Ok(ensured) => {
                        durable = Some(ensured);
                        continue;
                    }
                    Err(error) => Err(error.to_string()),
                },
            };
            match pulled {
                Ok(messages) => {
                    patience.over(&self.progress);
                    if let (Some(durable), false) = (&durable, messages.is_empty()) {
                        self.work(messages, durable, &shutdown).await;
                    }
                    self.progress.idle();
                }
                Err(error) => {
                    durable = None;
                    let held = Unavailable::new(format!("the broker: {error}")).into();
                    patience.wait(&held, &self.progress, &shutdown).await;
                }
            }
        }
    }

    /// Takes one batch from delivery to settlement, holding on to it while a server is away.
    async fn work(&mut self, messages: Vec<Message>, durable: &Durable, shutdown: &CancellationToken) {
        let begun = Instant::now();
        self.progress.busy();
        failpoint::reach("lane.pulled");
        let addressee = &self.lane.destination.addressee;
        let deliveries: Vec<Delivery> =
            messages.into_iter().map(|message| Delivery::new(message, addressee)).collect();
        self.observe(&deliveries);
        let items: Vec<Item> = deliveries.iter().map(Delivery::item).collect();
        let every = (self.lane.settings().ack_wait / 4).min(RENEW_MAX);
        let plan = tokio::select! {
            plan = self.dispatcher.dispatch(&items, &self.progress, shutdown) => plan,
            () = renew(&deliveries, every) => unreachable!("renewing never ends"),
            // A target that hangs must not keep the process: another one may have the batch.
            () = grace(shutdown) => None,
        };
        if plan.is_none() {
            self.dispatcher.release().await;
        }
        // Given up at shutdown: another process may have them at once.
        let plan: Plan = plan.unwrap_or_else(|| vec![AckKind::Nak(None); deliveries.len()]);
        if begun.elapsed() > SURELY_THE_SAME && !is_the_same(durable).await {
            tracing::warn!(forwarder = %self.lane.id(), "the durable is another one now: this batch comes again");
            return;
        }
        tokio::select! {
            () = settle(&deliveries, plan) => {}
            // While it reconnects, the client takes only so many.
            () = grace(shutdown) => {}
        }
    }

    fn observe(&self, deliveries: &[Delivery]) {
        let forwarder = self.lane.id().to_string();
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        histogram!(names::FORWARD_BATCH_ROWS, "forwarder" => forwarder.clone())
            .record(deliveries.len() as f64);
        let again = deliveries.iter().filter(|delivery| delivery.delivered > 1).count();
        counter!(names::FORWARD_REDELIVERED, "forwarder" => forwarder.clone()).increment(again as u64);
        if let Some(oldest) = deliveries.iter().filter_map(|delivery| delivery.published).min() {
            let lag = (OffsetDateTime::now_utc() - oldest).as_seconds_f64().max(0.0);
            histogram!(names::FORWARD_LAG_SECONDS, "forwarder" => forwarder).record(lag);
        }
    }
}

/// Whether the durable that these messages came from is still there. One that was made anew knows their sequences as other
/// messages, perhaps in somebody else's hand, which must not be settled from here.
async fn is_the_same(durable: &Durable) -> bool {
    let info = durable.get_info().await;
    info.is_ok_and(|info| info.created == durable.cached_info().created)
}

async fn settle(deliveries: &[Delivery], plan: Plan) {
    for (delivery, kind) in deliveries.iter().zip(plan) {
        // Not confirmed: a lost one means a redelivery, which has no effect.
        if let Err(error) = delivery.message.ack_with(kind).await {
            tracing::debug!(%error, "an acknowledgement could not be sent");
        }
        failpoint::reach("lane.acknowledged");
    }
}

/// Renews the deadline of everything in hand, for ever.
async fn renew(deliveries: &[Delivery], every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        for delivery in deliveries {
            let _ = delivery.message.ack_with(AckKind::Progress).await;
        }
    }
}

/// Ends some time after `shutdown` was asked for.
async fn grace(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(SHUTDOWN_GRACE).await;
}
