//! One forwarder's workers on the stream: pull, dispatch, settle.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
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
    broker::{self, BrokerError, microseconds},
    failpoint,
    health::Progress,
    identifier::ForwarderId,
    outbox::rounds::StreamPosition,
    settings::ConsumerSettings,
    shutdown::grace,
    telemetry::names,
};
use metrics::{counter, gauge, histogram};
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::{Delivery, Item},
    dispatcher::{Destination, Dispatched, Dispatcher, Plan},
    guard::Unavailable,
    patience::Patience,
    pull::{Durable, Pull, Pulled},
    stall::Stall,
};

/// Held messages renew their deadline at least this often.
const RENEW_MAX: Duration = Duration::from_secs(15);

/// How often the durable's own position is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A stream is not lost, made anew and filled again in less than this.
const SURELY_THE_SAME: Duration = Duration::from_millis(500);

/// How often a worker looks whether its lane goes on.
const FOREIGN_POLL: Duration = Duration::from_millis(200);

/// By how much a durable's time of creation may differ and it is the same one: after a restart nats-server 2.9 tells the one in its
/// file, a fraction of a millisecond later.
const RESTARTED_MAX: Duration = Duration::from_millis(10);

/// How long a look at the broker may take when the process is to stop.
const LAST_LOOK_MAX: Duration = Duration::from_secs(1);

/// What the workers of one forwarder share.
pub struct Lane {
    /// The forwarder.
    pub destination: Arc<Destination>,
    /// The connection to the broker.
    pub client: Client,
    /// The stream of references.
    pub stream: Stream,
    context: Context,
    /// What the worker whose turn it is takes its batch from. All at once, each would take one message out of a trickle,
    /// and a batch costs the same for one row as for a hundred.
    turn: tokio::sync::Mutex<Option<Pull>>,
    /// Where the durable was seen last, and when: a durable that somebody deletes goes on there.
    seen: Mutex<Option<(StreamPosition, Instant)>>,
    /// Whether the stream has shown to be another source's: then nothing of it is settled, by no worker.
    foreign: AtomicBool,
    /// Whether the durable is what it should be, and delivers.
    stall: Stall,
}

impl Lane {
    /// A lane from `stream`, which is of `context`, to `destination`.
    #[must_use]
    pub fn new(destination: Arc<Destination>, client: Client, context: Context, stream: Stream) -> Self {
        Self {
            destination,
            context,
            client,
            stream,
            turn: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            foreign: AtomicBool::new(false),
            stall: Stall::default(),
        }
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

    /// An answer of the broker, unless its connection is lost: the client makes a new one, and nobody answers on the old one.
    async fn unless_lost<T>(&self, answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let connection = broker::Connection::of(&self.client);
        tokio::select! {
            biased;
            answer = answer => answer,
            () = connection.lost() => Err("the connection was lost".to_owned()),
        }
    }

    /// The forwarder's durable, made anew where it was seen last if it is gone.
    async fn durable(&self) -> Result<Durable, BrokerError> {
        let floor = self.seen().map(|(floor, _)| floor);
        broker::ensure_durable(&self.context, &self.stream, self.id(), self.settings(), floor).await
    }

    /// A batch for the worker that asks; empty when there was none for a while, or at shutdown.
    async fn pull(&self, shutdown: &CancellationToken) -> Result<Option<Pulled>, String> {
        let mut turn = tokio::select! {
            turn = self.turn.lock() => turn,
            () = shutdown.cancelled() => return Ok(None),
        };
        // While it reconnects, the client takes requests and keeps silent about them.
        if self.client.connection_state() != State::Connected {
            return Err("not connected".to_owned());
        }
        let pull = match &mut *turn {
            Some(pull) => pull,
            none => tokio::select! {
                opened = self.unless_lost(self.open()) => none.insert(opened?),
                () = shutdown.cancelled() => return Ok(None),
            },
        };
        let pulled = async {
            if self.seen().is_none_or(|(_, at)| at.elapsed() > LOOK_EVERY) {
                tokio::select! {
                    looked = self.unless_lost(self.look()) => looked?,
                    () = shutdown.cancelled() => {}
                }
            }
            pull.next(self.settings().linger, shutdown).await.map_err(|error| error.to_string())
        };
        let pulled = pulled.await;
        if pulled.is_err() {
            *turn = None;
        }
        pulled.map(|pulled| Some(pulled).filter(|pulled| !pulled.messages.is_empty()))
    }

    async fn open(&self) -> Result<Pull, String> {
        let durable = self.durable().await.map_err(|error| self.told(&error))?;
        Pull::open(&self.client, self.context.clone(), durable, self.settings().batch_rows)
            .await
            .map_err(|error| error.to_string())
    }

    /// An error in words. What somebody has set differently makes unready at once: waiting does not mend it, and what is held here
    /// is not skipped there.
    fn told(&self, error: &BrokerError) -> String {
        let words = error.to_string();
        if error.is_unfit() {
            self.stall.unfit(&words);
        }
        words
    }

    /// Lets go of a durable that is not there any more, and of what was pulled from it: nothing of it may be settled.
    async fn forget(&self, gone: &Durable) {
        let mut turn = self.turn.lock().await;
        let of_it = |pull: &Pull| pull.durable().cached_info().created == gone.cached_info().created;
        if turn.as_ref().is_some_and(of_it) {
            *turn = None;
        }
    }

    /// Whether the durable that these messages came from is still there, and the stream behind it. One that was made anew, or
    /// restored from an older backup, knows their sequences as other messages, perhaps in somebody else's hand, which must not
    /// be settled from here. Times of creation survive a restore; but where the last of the messages stands as it did, those
    /// before it do, too.
    async fn is_the_same(&self, durable: &Durable, deliveries: &[Delivery]) -> bool {
        let look = async { durable.get_info().await.map_err(|error| error.to_string()) };
        let info = self.unless_lost(look).await;
        let created = durable.cached_info().created;
        if !info.is_ok_and(|info| (info.created - created).unsigned_abs() < RESTARTED_MAX) {
            return false;
        }
        let Some(last) = deliveries.iter().max_by_key(|delivery| delivery.sequence) else {
            return true;
        };
        match self.stream.get_raw_message(last.sequence).await {
            Ok(found) => Some(found.time) == last.published && found.payload == last.message.payload,
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => false,
            Err(error) => {
                tracing::debug!(%error, "cannot look at the last message of a batch");
                true
            }
        }
    }

    /// Gives back what was pulled and not taken.
    async fn close(&self) {
        if let Some(pull) = self.turn.lock().await.take() {
            pull.close().await;
        }
    }

    /// Renews the deadlines of what was pulled while everybody is busy.
    async fn renew(&self) {
        // Whoever has the turn waits for a first message: then nothing is here.
        if let Ok(mut turn) = self.turn.try_lock()
            && let Some(pull) = &mut *turn
        {
            pull.renew().await;
        }
    }

    /// Asks the broker how far this forwarder has come.
    async fn look(&self) -> Result<(), String> {
        let stream = &self.stream.cached_info().config.name;
        let standing = broker::look_at_durable(&self.context, stream, self.id(), self.settings()).await;
        let standing = standing.map_err(|error| self.told(&error))?;
        let now = Instant::now();
        self.stall.look(&standing, self.settings(), now);
        let floor = StreamPosition {
            created: microseconds(self.stream.cached_info().created),
            sequence: standing.floor,
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((floor, now));
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (name, count) in
            [(names::FORWARD_PENDING, standing.pending), (names::FORWARD_UNSETTLED, standing.unsettled)]
        {
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
        let mut patience = Patience::default();
        while !shutdown.is_cancelled() {
            if self.lane.foreign.load(Ordering::SeqCst) {
                // Whichever worker met it asks whether it is still so.
                tokio::time::sleep(FOREIGN_POLL).await;
                continue;
            }
            match self.lane.pull(&shutdown).await {
                Ok(pulled) => {
                    patience.over(&self.progress);
                    self.progress.fault(self.lane.stall.fault());
                    if let Some(pulled) = pulled {
                        Box::pin(self.work(pulled, &shutdown)).await;
                    }
                    self.progress.idle();
                }
                Err(error) => {
                    self.progress.fault(self.lane.stall.fault());
                    let held = Unavailable::new(format!("the broker: {error}")).into();
                    patience.wait(&held, &self.progress, &shutdown).await;
                }
            }
        }
        self.lane.close().await;
    }

    /// Takes one batch from delivery to settlement, holding on to it while a server is away.
    async fn work(&mut self, pulled: Pulled, shutdown: &CancellationToken) {
        let Pulled { messages, since, durable } = pulled;
        self.progress.busy();
        failpoint::reach("lane.pulled");
        let addressee = &self.lane.destination.addressee;
        let deliveries: Vec<Delivery> =
            messages.into_iter().map(|message| Delivery::new(message, addressee)).collect();
        self.observe(&deliveries);
        let items: Vec<Item> = {
            let tracer = &self.lane.destination.tracer;
            deliveries.iter().map(|delivery| delivery.item(tracer)).collect()
        };
        let every = (self.lane.settings().ack_wait / 4).min(RENEW_MAX);
        let dispatched = tokio::select! {
            dispatched = self.dispatcher.dispatch(&items, &self.progress, shutdown) => dispatched,
            () = renew(&self.lane, &deliveries, every) => unreachable!("renewing never ends"),
            // A target that hangs must not keep the process: another one may have the batch.
            () = grace(shutdown) => Dispatched::Stopped,
        };
        let (plan, foreign) = match dispatched {
            Dispatched::Settle(plan) if !self.lane.foreign.load(Ordering::SeqCst) => (Some(plan), None),
            Dispatched::Settle(_) | Dispatched::Stopped => (None, None),
            Dispatched::Foreign(foreign) => {
                self.lane.foreign.store(true, Ordering::SeqCst);
                (None, Some(foreign))
            }
        };
        if plan.is_none() {
            // First: what is given back while a request is open comes straight back to it.
            self.lane.close().await;
            self.dispatcher.release().await;
        }
        // Given back: another process may have them at once.
        let plan: Plan = plan.unwrap_or_else(|| vec![AckKind::Nak(None); deliveries.len()]);
        let same = async {
            since.elapsed() <= SURELY_THE_SAME || self.lane.is_the_same(&durable, &deliveries).await
        };
        let hurried = async {
            shutdown.cancelled().await;
            tokio::time::sleep(LAST_LOOK_MAX).await;
        };
        let same = tokio::select! {
            same = same => same,
            () = hurried => false,
        };
        if !same {
            tracing::warn!(forwarder = %self.lane.id(), "the durable is another one now: this batch comes again");
            self.lane.forget(&durable).await;
            return;
        }
        tokio::select! {
            () = settle(&deliveries, plan) => {}
            // While it reconnects, the client takes only so many.
            () = grace(shutdown) => {}
        }
        if let Some(foreign) = foreign {
            self.dispatcher.hold(&foreign, &self.progress, shutdown).await;
            self.lane.foreign.store(false, Ordering::SeqCst);
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
async fn renew(lane: &Lane, deliveries: &[Delivery], every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        for delivery in deliveries {
            let _ = delivery.message.ack_with(AckKind::Progress).await;
        }
        lane.renew().await;
    }
}
