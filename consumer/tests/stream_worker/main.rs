//! A stream worker with forwarders that misbehave, on real servers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod packs;
mod restored;
mod unreadable;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, stream::Stream};
use common::{
    backoff::Backoff,
    broker::{self, SourceIdentity},
    event::AuditEvent,
    failures::Reason,
    process::{health::Health, telemetry::traces::Tracer},
    reference::{Body, Reference, Target},
    settings::{BrokerSettings, ConnectionUrl, ConsumerSettings},
};
use consumer::{
    engine::work_item::{Route, StreamCreation},
    engine::{
        breaker::DeadLetterBreaker,
        column_watch::ColumnWatch,
        delivery_watch::DeliveryWatch,
        dispatcher::ForwarderRuntime,
        disposition::RetryPolicy,
        isolation::{PoisonTurn, TargetLiveness},
        source::ReadHistory,
    },
    forwarder::{ForwardError, Forwarder, ForwarderFactory, Verdict},
    stream::worker::{StreamSubscription, StreamWorker},
};
use futures::future::BoxFuture;
use sandbox::{
    audit::{self, AuditRow},
    fixture::{TestDatabase, audit_events, shared, source_database},
    wait,
};
use sqlx::Row as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(60);

/// What to do with an event, by how often its worker has seen it: the action names the script.
type Script = fn(action: &str, attempt: usize) -> Result<Verdict, ForwardError>;

/// Follows a script and remembers when it saw what.
#[derive(Clone)]
struct Scripted {
    script: Script,
    seen: Arc<Mutex<HashMap<Uuid, Vec<Instant>>>>,
}

impl Scripted {
    fn new(script: Script) -> Self {
        Self { script, seen: Arc::default() }
    }

    fn times(&self, id: Uuid) -> Vec<Instant> {
        self.seen.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }
}

impl ForwarderFactory for Scripted {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for Scripted {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async move {
            let mut verdicts = Vec::new();
            for event in events {
                let attempt = {
                    let mut seen = self.seen.lock().unwrap();
                    let times = seen.entry(event.id).or_default();
                    times.push(Instant::now());
                    times.len()
                };
                verdicts.push((self.script)(event.action.as_deref().unwrap_or_default(), attempt)?);
            }
            Ok(verdicts)
        })
    }
}

struct Running {
    url: String,
    database: TestDatabase,
    stream: Stream,
    subject: String,
    health: Health,
    shutdown: CancellationToken,
    worker: JoinHandle<()>,
}

impl Running {
    async fn start(forwarder: &Scripted) -> anyhow::Result<Self> {
        Self::with_ack_wait(forwarder, Duration::from_secs(2)).await
    }

    async fn with_ack_wait(forwarder: &Scripted, ack_wait: Duration) -> anyhow::Result<Self> {
        let mut settings = ConsumerSettings::default();
        settings.ack_wait = ack_wait;
        Self::with_settings(forwarder, settings).await
    }

    async fn with_settings(forwarder: &Scripted, consumer: ConsumerSettings) -> anyhow::Result<Self> {
        Self::on(source_database().await?, forwarder, consumer).await
    }

    async fn on(
        database: TestDatabase,
        forwarder: &Scripted,
        consumer: ConsumerSettings,
    ) -> anyhow::Result<Self> {
        Self::between(database, shared().nats.url(), forwarder, consumer).await
    }

    async fn between(
        database: TestDatabase,
        url: &str,
        forwarder: &Scripted,
        consumer: ConsumerSettings,
    ) -> anyhow::Result<Self> {
        let name = format!("WORKER_{}", Uuid::new_v4().simple());
        let mut settings = BrokerSettings::default();
        settings.url = Some(ConnectionUrl::new(url));
        settings.stream.clone_from(&name);
        settings.subject = format!("{name}.events");
        settings.max_bytes = 1 << 24;
        let identity = SourceIdentity::read(&mut database.session().await?, &audit_events()).await?;
        let client = broker::connect(&settings, "test").await?;
        let context = jetstream::new(client.clone());
        let stream = broker::ensure_stream(&context, &settings, &identity).await?;
        let id: common::identifier::ForwarderId = "scripted".parse()?;
        let second = Duration::from_secs(1);
        let runtime = ForwarderRuntime {
            route: Route {
                id: id.clone(),
                all: vec![id],
                reports_unknown: true,
                stream_created: StreamCreation::of(stream.cached_info().created),
            },
            factory: Arc::new(forwarder.clone()),
            database: database.database(),
            table: audit_events(),
            policy: RetryPolicy {
                max_attempts: 3,
                backoff: Backoff::Exponential { first: second, max: second },
            },
            breaker: DeadLetterBreaker::new(consumer.max_dead_letters_per_minute),
            deliveries: DeliveryWatch::new(consumer.unready_after),
            settings: consumer,
            liveness: TargetLiveness::default(),
            columns: ColumnWatch::default(),
            reads: ReadHistory::default(),
            tracer: Tracer::default(),
            poison_turn: PoisonTurn::default(),
        };
        let subscription = StreamSubscription::new(Arc::new(runtime), client, context, stream.clone());
        let health = Health::default();
        let shutdown = CancellationToken::new();
        let worker = StreamWorker::new(Arc::new(subscription), health.component("worker", DEADLINE));
        let worker = tokio::spawn(worker.run(shutdown.clone()));
        Ok(Self {
            url: url.to_owned(),
            database,
            stream,
            subject: settings.subject,
            health,
            shutdown,
            worker,
        })
    }

    /// Publishes the reference of a row.
    async fn publish(&self, event: Uuid) -> anyhow::Result<()> {
        let reference = Reference { forwarder: Target::Every, audit_event_id: event, occurred_at: None };
        let client = async_nats::connect(&self.url).await?;
        let context = jetstream::new(client);
        context.publish(self.subject.clone(), serde_json::to_vec(&reference)?.into()).await?.await?;
        Ok(())
    }

    /// Commits a row and publishes its reference.
    async fn send(&self, action: &str) -> anyhow::Result<Uuid> {
        self.send_row(AuditRow::sample(action)).await
    }

    async fn send_row(&self, row: AuditRow) -> anyhow::Result<Uuid> {
        audit::insert(&mut self.database.connect().await?, &audit_events(), std::slice::from_ref(&row))
            .await?;
        self.publish(row.id).await?;
        Ok(row.id)
    }

    /// Waits until nothing is pending at the broker.
    async fn settled(&self) -> anyhow::Result<()> {
        self.durable("everything to be settled", |info| info.num_ack_pending == 0 && info.num_pending == 0)
            .await
    }

    /// Waits until so many messages have been delivered and not settled.
    async fn delivered(&self, messages: usize) -> anyhow::Result<()> {
        self.durable("messages to be delivered", |info| info.num_ack_pending == messages).await
    }

    async fn durable(
        &self,
        what: &str,
        condition: impl Fn(&jetstream::consumer::Info) -> bool,
    ) -> anyhow::Result<()> {
        let mut durable: jetstream::consumer::PullConsumer =
            wait::until_some("the durable to be made", DEADLINE, async || {
                Ok(self.stream.get_consumer("forward-scripted").await.ok())
            })
            .await?;
        wait::until_some(what, DEADLINE, async || Ok(condition(durable.info().await?).then_some(()))).await
    }

    async fn failures(&self) -> anyhow::Result<Vec<(String, Option<String>, i32)>> {
        let rows = sqlx::query("select state, reason, attempts from outbox.failures order by ref")
            .fetch_all(&mut self.database.connect().await?)
            .await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        Ok(self.worker.await?)
    }
}

fn retry() -> Verdict {
    Verdict::Retry("not today".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_redelivered_after_its_delay_and_a_delivery_clears_the_row() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|_, attempt| Ok(if attempt == 1 { retry() } else { Verdict::Delivered }));
    let worker = Running::start(&forwarder).await?;
    let id = worker.send("test.retry").await?;
    wait::until_some("the second attempt", DEADLINE, async || {
        Ok((forwarder.times(id).len() == 2).then_some(()))
    })
    .await?;
    worker.settled().await?;
    let times = forwarder.times(id);
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_millis(900), "{:?}", times[1] - times[0]);
    assert_eq!(worker.failures().await?, []);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_end_in_a_dead_letter_and_are_counted_in_the_row() -> anyhow::Result<()> {
    let forwarder =
        Scripted::new(|action, _| Ok(if action == "test.never" { retry() } else { Verdict::Delivered }));
    let worker = Running::start(&forwarder).await?;
    let never = worker.send("test.never").await?;
    let fine = worker.send("test.fine").await?;
    wait::until_some("the dead letter", DEADLINE, async || {
        let failures = worker.failures().await?;
        Ok((failures == [("dead".into(), Some("attempts_exhausted".into()), 3)]).then_some(()))
    })
    .await?;
    worker.settled().await?;
    assert_eq!(forwarder.times(never).len(), 3);
    assert_eq!(forwarder.times(fine).len(), 1, "its neighbour was delivered at once");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_is_a_dead_letter_at_once() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|_, _| Ok(Verdict::DeadLetter(Reason::SchemaMismatch, "too odd".into())));
    let worker = Running::start(&forwarder).await?;
    let id = worker.send("test.odd").await?;
    wait::until_some("the dead letter", DEADLINE, async || {
        Ok((!worker.failures().await?.is_empty()).then_some(()))
    })
    .await?;
    worker.settled().await?;
    assert_eq!(worker.failures().await?, [("dead".into(), Some("schema_mismatch".into()), 1)]);
    assert_eq!(forwarder.times(id).len(), 1);
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_forwarder_takes_nobody_down() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|action, attempt| {
        assert!(action != "test.panic" || attempt > 2, "boom");
        Ok(Verdict::Delivered)
    });
    let worker = Running::start(&forwarder).await?;
    let panicking = worker.send("test.panic").await?;
    let after = worker.send("test.fine").await?;
    wait::until("the next event", DEADLINE, || !forwarder.times(after).is_empty())?;
    worker.settled().await?;
    assert_eq!(worker.failures().await?, []);
    assert!(forwarder.times(panicking).len() >= 3, "tried until it went well");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_uses_no_attempts_and_its_batch_is_held_not_redelivered() -> anyhow::Result<()>
{
    static BACK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let forwarder = Scripted::new(|_, _| {
        if BACK.load(std::sync::atomic::Ordering::Relaxed) {
            Ok(Verdict::Delivered)
        } else {
            Err(ForwardError::unavailable("connection refused"))
        }
    });
    let worker = Running::start(&forwarder).await?;
    let id = worker.send("test.held").await?;
    // One behind it: it waits in this process for a worker to be free.
    wait::until("the worker to be held", DEADLINE, || !forwarder.times(id).is_empty())?;
    worker.send("test.behind").await?;
    worker.delivered(2).await?;
    // Longer than twice the ack wait of two seconds: without renewal the broker would deliver again.
    let first =
        wait::until_some("the first attempt", DEADLINE, async || Ok(forwarder.times(id).first().copied()))
            .await?;
    wait::until("an outage of five seconds", DEADLINE, || first.elapsed() > Duration::from_secs(5))?;
    let waiting = worker.health.readiness().components[0].waiting_for.clone().unwrap();
    assert_eq!(waiting.dependency, "connection refused");
    BACK.store(true, std::sync::atomic::Ordering::Relaxed);
    worker.settled().await?;
    assert_eq!(worker.failures().await?, [], "no attempt was charged");
    let mut durable: jetstream::consumer::PullConsumer =
        worker.stream.get_consumer("forward-scripted").await.map_err(|error| anyhow::anyhow!(error))?;
    let info = durable.info().await?;
    assert_eq!(info.delivered.consumer_sequence, 2, "each delivered once, for all those seconds");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_at_shutdown_is_given_back_at_once() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|_, _| Err(ForwardError::unavailable("connection refused")));
    let worker = Running::with_ack_wait(&forwarder, DEADLINE).await?;
    let id = worker.send("test.held").await?;
    wait::until("the first attempt", DEADLINE, || !forwarder.times(id).is_empty())?;
    let behind = worker.send("test.behind").await?;
    worker.delivered(2).await?;
    let stream = worker.stream.clone();
    let stopped = Instant::now();
    worker.stop().await?;
    let durable: jetstream::consumer::PullConsumer =
        stream.get_consumer("forward-scripted").await.map_err(|error| anyhow::anyhow!(error))?;
    let messages = durable.batch().max_messages(2).expires(DEADLINE).messages().await?;
    let messages: Vec<_> = futures::StreamExt::collect(messages).await;
    assert!(stopped.elapsed() < DEADLINE / 2, "sooner than the ack wait: {:?}", stopped.elapsed());
    let mut events = Vec::new();
    for message in messages {
        events.extend(Body::read(&message.map_err(|error| anyhow::anyhow!(error))?.payload)?.events());
    }
    events.sort_unstable();
    let mut expected = [id, behind];
    expected.sort_unstable();
    assert_eq!(events, expected, "the one in work, and the one that waited for a worker");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_a_batch_may_be_are_taken_in_slices_and_each_once() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|_, _| Ok(Verdict::Delivered));
    let mut settings = ConsumerSettings::default();
    settings.batch_bytes = 64 << 10;
    let worker = Running::with_settings(&forwarder, settings).await?;
    let mut ids = Vec::new();
    for _ in 0..60 {
        let padding = "x".repeat(8_000);
        ids.push(
            worker
                .send_row(AuditRow {
                    metadata: serde_json::json!({ "padding": padding }),
                    ..AuditRow::sample("test.large")
                })
                .await?,
        );
    }
    wait::until("all of them", DEADLINE, || ids.iter().all(|id| !forwarder.times(*id).is_empty()))?;
    worker.settled().await?;
    assert!(ids.iter().all(|id| forwarder.times(*id).len() == 1));
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_target_is_not_sent_there_again_while_its_neighbours_are_held() -> anyhow::Result<()> {
    static OPEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    static BACK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    // A breaker of one: two dead letters hold the batch, and the third event in it is delivered.
    let forwarder = Scripted::new(|action, _| {
        if action == "test.gate" && !OPEN.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(ForwardError::unavailable("the gate is closed"));
        }
        if action == "test.bad" && !BACK.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(Verdict::DeadLetter(Reason::SchemaMismatch, "too odd".into()));
        }
        Ok(Verdict::Delivered)
    });
    let mut settings = ConsumerSettings::default();
    settings.max_dead_letters_per_minute = 1;
    let worker = Running::with_settings(&forwarder, settings).await?;
    // What is delivered while the only worker is busy becomes one batch.
    let gate = worker.send("test.gate").await?;
    wait::until("the worker to be held", DEADLINE, || !forwarder.times(gate).is_empty())?;
    let first = worker.send("test.fine").await?;
    let bad = [worker.send("test.bad").await?, worker.send("test.bad").await?];
    worker.delivered(4).await?;
    OPEN.store(true, std::sync::atomic::Ordering::Relaxed);
    wait::until("the batch to be held", DEADLINE, || forwarder.times(bad[0]).len() >= 3)?;
    assert_eq!(forwarder.times(first).len(), 1, "it was delivered, once");
    let waiting = worker.health.readiness();
    assert!(!waiting.ready && waiting.components[0].fault.is_some(), "unready at once: {waiting:?}");
    BACK.store(true, std::sync::atomic::Ordering::Relaxed);
    worker.settled().await?;
    assert_eq!(worker.failures().await?, []);
    assert!(worker.health.readiness().ready);
    worker.stop().await
}
