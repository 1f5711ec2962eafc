//! One forwarder's workers: pull, reload, forward, settle.

use std::{collections::HashSet, sync::Arc, time::Duration};

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
    backoff::Probe,
    broker,
    database::Database,
    event::AuditEvent,
    failures::Reason,
    health::Progress,
    identifier::{ForwarderId, TableName},
    settings::ConsumerSettings,
    telemetry::names,
};
use metrics::{counter, histogram};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    book::Book,
    delivery::{Addressee, Delivery, Request},
    forward::{Guarded, Judged, Unavailable},
    forwarder::{Configured, Verdict},
    pull,
    settle::Policy,
    source::{Loaded, Source},
};

/// Held messages renew their deadline at least this often.
const RENEW_MAX: Duration = Duration::from_secs(15);

/// The longest that a target may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long a shutdown waits for the batch in work.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// What the workers of one forwarder share.
pub struct Lane {
    /// Who this is among the forwarders.
    pub addressee: Addressee,
    /// The forwarder.
    pub configured: Arc<dyn Configured>,
    /// Where rows are reloaded from.
    pub database: Database,
    /// The audit table.
    pub table: TableName,
    /// The connection to the broker.
    pub client: Client,
    /// The stream of references.
    pub stream: Stream,
    /// Batches, limits, waits.
    pub settings: ConsumerSettings,
    /// Attempts and their waits.
    pub policy: Policy,
    /// Whose turn it is to pull. All at once, each would take one message out of a trickle, and a batch costs the same
    /// for one row as for a hundred.
    pub turn: tokio::sync::Mutex<()>,
}

impl Lane {
    async fn pull(
        &self,
        durable: &Consumer<jetstream_pull::Config>,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Message>, String> {
        let ConsumerSettings { batch_rows, linger, .. } = self.settings;
        let _turn = tokio::select! {
            turn = self.turn.lock() => turn,
            () = shutdown.cancelled() => return Ok(Vec::new()),
        };
        // While it reconnects, the client takes requests and keeps silent about them.
        if self.client.connection_state() != State::Connected {
            return Err("not connected".to_owned());
        }
        pull::batch(durable, batch_rows, linger, shutdown).await.map_err(|error| error.to_string())
    }

    /// Reports a server that is away, and waits before the next attempt.
    async fn wait(
        &self,
        progress: &Progress,
        probe: &mut Probe,
        least: Duration,
        dependency: String,
        shutdown: &CancellationToken,
    ) {
        let delay = probe.next_delay().max(least);
        tracing::warn!(forwarder = %self.addressee.id, retry_in_ms = delay.as_millis(), "waiting for {dependency}");
        progress.waiting(dependency);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// One worker: a batch at a time, on connections of its own.
pub struct Worker {
    lane: Arc<Lane>,
    progress: Progress,
    source: Option<Source>,
    forwarder: Guarded,
}

/// What to tell the broker about each delivery, in order.
type Plan = Vec<AckKind>;

impl Worker {
    /// A worker that reports to `progress`.
    #[must_use]
    pub fn new(lane: Arc<Lane>, progress: Progress) -> Self {
        let limit = lane.settings.forward_timeout;
        let forwarder = Guarded::new(lane.addressee.id.clone(), lane.configured.clone(), limit);
        Self { lane, progress, source: None, forwarder }
    }

    /// Works until `shutdown`; what is in hand then is settled first.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut durable: Option<Consumer<jetstream_pull::Config>> = None;
        let mut probe = Probe::default();
        while !shutdown.is_cancelled() {
            let pulled = match &durable {
                Some(durable) => self.lane.pull(durable, &shutdown).await,
                None => match broker::ensure_durable(&self.lane.stream, self.id(), &self.lane.settings).await
                {
                    Ok(ensured) => {
                        durable = Some(ensured);
                        continue;
                    }
                    Err(error) => Err(error.to_string()),
                },
            };
            match pulled {
                Ok(messages) => {
                    probe.reset();
                    if let Some(away) = self.progress.resumed() {
                        tracing::info!(forwarder = %self.id(), away_ms = away.as_millis(), "the broker answers again");
                    }
                    if !messages.is_empty() {
                        self.work(messages, &shutdown).await;
                    }
                    self.progress.idle();
                }
                Err(error) => {
                    durable = None;
                    let dependency = format!("broker: {error}");
                    self.lane.wait(&self.progress, &mut probe, Duration::ZERO, dependency, &shutdown).await;
                }
            }
        }
    }

    fn id(&self) -> &ForwarderId {
        &self.lane.addressee.id
    }

    /// Takes one batch from delivery to settlement, holding on to it while a server is away.
    async fn work(&mut self, messages: Vec<Message>, shutdown: &CancellationToken) {
        self.progress.busy();
        let deliveries: Vec<Delivery> =
            messages.into_iter().map(|message| Delivery::new(message, &self.lane.addressee)).collect();
        self.observe(&deliveries);
        let every = (self.lane.settings.ack_wait / 4).min(RENEW_MAX);
        let plan = tokio::select! {
            plan = self.decide(&deliveries, shutdown) => plan,
            () = renew(&deliveries, every) => unreachable!("renewing never ends"),
        };
        // Given up at shutdown: another process may have them at once.
        let plan = plan.unwrap_or_else(|| vec![AckKind::Nak(None); deliveries.len()]);
        for (delivery, kind) in deliveries.iter().zip(plan) {
            // Not confirmed: a lost one means a redelivery, which has no effect.
            if let Err(error) = delivery.message.ack_with(kind).await {
                tracing::debug!(%error, "an acknowledgement could not be sent");
            }
        }
    }

    fn observe(&self, deliveries: &[Delivery]) {
        let forwarder = self.id().to_string();
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

    /// Tries until every server that is needed answers; `None` at shutdown.
    async fn decide(&mut self, deliveries: &[Delivery], shutdown: &CancellationToken) -> Option<Plan> {
        let mut probe = Probe::default();
        loop {
            let attempt = tokio::select! {
                attempt = self.attempt(deliveries) => attempt,
                // A target that hangs must not keep the process: another one may have the batch.
                () = async {
                    shutdown.cancelled().await;
                    tokio::time::sleep(SHUTDOWN_GRACE).await;
                } => return None,
            };
            match attempt {
                Ok(plan) => {
                    if let Some(away) = self.progress.resumed() {
                        tracing::info!(forwarder = %self.id(), away_ms = away.as_millis(), "the batch goes on");
                    }
                    return Some(plan);
                }
                Err(Unavailable { dependency, retry_after }) => {
                    // The connection may be what is wrong, and the table may have changed meanwhile.
                    self.source = None;
                    if shutdown.is_cancelled() {
                        return None;
                    }
                    let least = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                    self.lane.wait(&self.progress, &mut probe, least, dependency, shutdown).await;
                }
            }
        }
    }

    /// One pass over the batch. Failures are committed before anything is settled.
    async fn attempt(&mut self, deliveries: &[Delivery]) -> Result<Plan, Unavailable> {
        let ids: HashSet<Uuid> = deliveries
            .iter()
            .filter_map(|delivery| match delivery.request {
                Request::Forward(id) => Some(id),
                _ => None,
            })
            .collect();
        let mut source = match self.source.take() {
            Some(source) => source,
            None => Source::connect(&self.lane.database, &self.lane.table).await.map_err(away)?,
        };
        let mut book = self.forward(&mut source, ids).await?;
        let plan = deliveries.iter().map(|delivery| book.enter(&delivery.request)).collect();
        book.write(&mut source, self.id()).await.map_err(away)?;
        self.source = Some(source);
        book.count(self.id());
        Ok(plan)
    }

    /// Reloads and forwards, in chunks of bounded size; answers what became of each event.
    async fn forward(&mut self, source: &mut Source, ids: HashSet<Uuid>) -> Result<Book, Unavailable> {
        let mut book = Book::default();
        let mut open: Vec<Uuid> = ids.into_iter().collect();
        while !open.is_empty() {
            let (loaded, complete) =
                source.load(self.id(), &open, self.lane.settings.batch_bytes).await.map_err(away)?;
            let seen: HashSet<Uuid> = loaded.iter().map(|row| row.event.id).collect();
            open.retain(|id| !seen.contains(id));
            self.forward_chunk(loaded, &mut book).await?;
            if complete {
                break;
            }
        }
        if !open.is_empty() && source.is_standby().await.map_err(away)? {
            return Err(Unavailable::new("source database: a standby, which may not have the rows yet"));
        }
        for id in open {
            let gone = Verdict::Cancel(
                Reason::AuditEventNotFound,
                "the audit row does not exist any more".to_owned(),
            );
            let _ = book.judge(id, &gone, None, self.lane.policy);
        }
        Ok(book)
    }

    async fn forward_chunk(&mut self, loaded: Vec<Loaded>, book: &mut Book) -> Result<(), Unavailable> {
        let (due, early): (Vec<_>, Vec<_>) =
            loaded.into_iter().partition(|row| row.earlier.is_none_or(|earlier| earlier.wait.is_zero()));
        for row in early {
            // The broker forgets its delays in a crash; the row remembers.
            book.early.insert(row.event.id, row.earlier.map_or(Duration::ZERO, |earlier| earlier.wait));
        }
        let (events, earlier): (Vec<_>, Vec<_>) = due.into_iter().map(|row| (row.event, row.earlier)).unzip();
        let verdicts = self.forwarder.forward(&events).await?;
        for ((event, earlier), judged) in events.iter().zip(earlier).zip(&verdicts) {
            if let Some(attempt) = book.judge(event.id, &judged.verdict, earlier, self.lane.policy) {
                tell(&self.lane.addressee.id, event, judged, attempt);
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn away(error: sqlx::Error) -> Unavailable {
    Unavailable::new(format!("source database: {error}"))
}

/// The event of one failed attempt, once for each.
fn tell(forwarder: &ForwarderId, event: &AuditEvent, judged: &Judged, attempt: u32) {
    let Judged { verdict, kind } = judged;
    counter!(names::FORWARD_ERRORS, "forwarder" => forwarder.to_string(), "kind" => *kind).increment(1);
    tracing::warn!(
        event = names::FORWARD_ERROR,
        %forwarder,
        kind,
        audit_event_id = %event.id,
        action = event.action.as_deref(),
        reason = ?verdict,
        attempt,
        "an event was not delivered"
    );
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
