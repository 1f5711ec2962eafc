//! The service.

pub mod dispatch_mode;
pub mod doctor;

use std::sync::Arc;

use anyhow::Context as _;
use async_nats::{Client, jetstream::stream::Stream};
use common::{
    broker::{self, SourceIdentity, doctor as broker_doctor},
    database::Database,
    doctor::{Report, RunMode, Service, columns, settings as settings_doctor, source},
    failures::FailureKind,
    identifier::ForwarderId,
    outbox::{self, maintenance, reader::readers},
    service::{
        health::{self, Health},
        shutdown,
        telemetry::{self, names, traces::Tracer},
    },
    session::Session,
    settings::{ForwarderSettings, Settings},
};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    direct,
    engine::{
        breaker::DeadLetterBreaker,
        column_watch::ColumnWatch,
        dispatcher::{ForwarderRuntime, PoisonTurn},
        disposition::RetryPolicy,
        isolation::TargetLiveness,
        source::KnownReadable,
        work_item::{Route, StreamCreation},
    },
    forwarder::{Forwarders, MissingKinds, Registry},
    service::dispatch_mode::DispatchMode,
    stream::worker::{StreamSubscription, StreamWorker},
};
#[cfg(feature = "threadline")]
use crate::{forwarders::Timeline, projection::continuous::ContinuousReconciler};
#[cfg(feature = "threadline")]
use common::broker::LiveTrafficThrottle;

const APPLICATION: &str = "audit-consumer-source";

/// What a consumer with these settings would do, as far as they and the files that they name go.
///
/// # Errors
/// Naming the key, the option or the file, and what is expected.
pub async fn check(
    settings: &Settings,
    registry: &Registry,
    missing: MissingKinds,
) -> anyhow::Result<(Forwarders, Vec<DispatchMode>)> {
    Database::source(&settings.source, APPLICATION)?;
    let forwarders = registry.configure(settings, missing)?;
    let modes = forwarders.iter().map(|(forwarder, _)| DispatchMode::of(forwarder, &settings.broker));
    let modes: Vec<DispatchMode> = modes.collect::<Result<_, _>>()?;
    if modes.contains(&DispatchMode::JetStream) {
        broker::check(&settings.broker).await?;
    }
    Ok((forwarders, modes))
}

/// Forwards until SIGINT or SIGTERM. A host's own binary calls this with kinds of its own in the registry.
///
/// # Errors
/// When settings cannot be used, or a server is away at boot or does not fit.
pub async fn run(settings: Settings, registry: &Registry, missing: MissingKinds) -> anyhow::Result<()> {
    let (forwarders, modes) = check(&settings, registry, missing).await?;
    for ((forwarder, _), mode) in forwarders.iter().zip(&modes) {
        mode.log_choice(forwarder);
    }
    let shutdown = shutdown::on_signal()?;
    let serving = Box::pin(serve(settings, forwarders, modes, shutdown.clone()));
    shutdown::bounded(&shutdown, serving).await.unwrap_or(Ok(()))
}

async fn serve(
    settings: Settings,
    forwarders: Forwarders,
    modes: Vec<DispatchMode>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = telemetry::init_metrics()?;
    begin_counters(&forwarders, &modes);
    let tracer = Tracer::of(&settings.traces, "audit-consumer");
    let health = Health::default();

    let database = Database::source(&settings.source, APPLICATION)?;
    let mut connection = outbox::reach(&database).await?;
    let boot = preflight(&settings, &forwarders, &modes, &database, &mut connection);
    let broker = Box::pin(boot).await?;
    health::serve(settings.consumer.listen, health.clone(), metrics, shutdown.clone()).await.context(
        "cannot listen on consumer.listen; another process may: --set consumer.listen=127.0.0.1:0",
    )?;

    let created = broker.as_ref().map(|(_, stream)| stream.cached_info().created);
    let runtimes = build_runtimes(&settings, &forwarders, &database, created, &tracer)?;
    let running: Vec<ForwarderId> = forwarders.iter().map(|(forwarder, _)| forwarder.id.clone()).collect();
    dispatch_mode::register(&mut connection, broker.as_ref().map(|(_, stream)| stream), &running).await?;
    let mut supervisor = Supervisor { settings, health, shutdown, tasks: JoinSet::new() };
    for ((runtime, mode), (forwarder, _)) in runtimes.into_iter().zip(&modes).zip(&forwarders) {
        let id = &runtime.route.id;
        supervisor.start_reconciler(
            forwarder,
            &database,
            broker.as_ref().filter(|_| *mode == DispatchMode::JetStream),
        )?;
        match (mode, &broker) {
            (DispatchMode::JetStream, Some((client, stream))) => {
                // Once at boot, so that what cannot be mended by waiting is an error with a remedy.
                let context = broker::context(client, &supervisor.settings.broker);
                dispatch_mode::switch_to_jetstream(
                    &mut connection,
                    &context,
                    stream,
                    id,
                    &supervisor.settings.consumer,
                )
                .await?;
                supervisor.start_stream(&Arc::new(StreamSubscription::new(
                    runtime,
                    client.clone(),
                    context,
                    stream.clone(),
                )));
            }
            (_, broker) => {
                dispatch_mode::switch_to_direct(
                    &mut connection,
                    broker.as_ref().map(|(_, stream)| stream),
                    id,
                )
                .await?;
                supervisor.start_direct(runtime);
            }
        }
    }
    if !modes.contains(&DispatchMode::JetStream) && !modes.is_empty() {
        let captured = supervisor.health.component("capture", supervisor.settings.consumer.unready_after);
        let every = supervisor.settings.relay.maintenance_interval;
        tokio::spawn(maintenance::watch_capture(database, captured, every));
    }
    drop(connection);
    let ended = supervisor.wait().await;
    if let Some((client, _)) = broker {
        flush(&client).await;
    }
    tracer.flush().await;
    ended?;
    tracing::info!("stopped");
    Ok(())
}

fn begin_counters(forwarders: &Forwarders, modes: &[DispatchMode]) {
    let ids: Vec<&str> = forwarders.iter().map(|(forwarder, _)| forwarder.id.as_str()).collect();
    let labels = [("forwarder", &*ids), ("verdict", &names::VERDICTS), ("kind", FailureKind::NAMES)];
    names::begin(&["audit_forward_", "audit_reconcile_"], &labels);
    let by_themselves = forwarders.iter().zip(modes).filter(|(_, mode)| **mode == DispatchMode::Direct);
    let readers: Vec<String> =
        by_themselves.map(|((forwarder, _), _)| readers::reader_name(&forwarder.id)).collect();
    let readers: Vec<&str> = readers.iter().map(String::as_str).collect();
    if !readers.is_empty() {
        names::begin(&["audit_relay_", "audit_outbox_"], &[("reader", &*readers)]);
    }
}

/// What a [`doctor`] finds on the way to the servers keeps from starting, if it is an error.
async fn preflight(
    settings: &Settings,
    forwarders: &Forwarders,
    modes: &[DispatchMode],
    database: &Database,
    connection: &mut Session,
) -> anyhow::Result<Option<(Client, Stream)>> {
    let mut report = Report::new(RunMode::Boot);
    settings_doctor::consumer(&mut report, settings);
    if let Err(error) = source::check(&mut report, settings, Service::Consumer, database, connection).await {
        report.log_and_fail_on_errors()?;
        return Err(error).context("the source database");
    }
    let wanted = doctor::wanted(forwarders);
    columns::check(&mut report, &settings.source.table, &wanted, database, connection).await;
    doctor::targets(&mut report, forwarders).await;
    let identity = SourceIdentity::read(connection, &settings.source.table);
    let identity = database.with_timeout(identity).await.context("the source database")?;
    let identity = identity.named(settings.source.name.as_deref());
    let broker = connect_broker(&mut report, settings, modes, &identity).await?;
    report.log_and_fail_on_errors()?;
    Ok(broker)
}

/// The broker, where a dispatch mode needs it; and where one is configured but not needed, if it happens to be there: a
/// durable of an earlier dispatch must not be left behind.
async fn connect_broker(
    report: &mut Report,
    settings: &Settings,
    modes: &[DispatchMode],
    identity: &SourceIdentity,
) -> anyhow::Result<Option<(Client, Stream)>> {
    let needed = modes.contains(&DispatchMode::JetStream);
    if settings.broker.url.is_none() || modes.is_empty() {
        return Ok(None);
    }
    let client = match broker::connect(&settings.broker, "audit-consumer").await {
        Ok(client) => client,
        Err(error) if !needed => {
            tracing::warn!(%error, "no forwarder needs the broker: a durable of an earlier dispatch may be left there");
            return Ok(None);
        }
        Err(error) => {
            broker_doctor::refuse(report, &error);
            report.log_and_fail_on_errors()?;
            return Err(error.into());
        }
    };
    let context = broker::context(&client, &settings.broker);
    if needed {
        if report.has_errors() {
            // Nothing is created by a service that does not start.
            broker_doctor::connect_and_read(report, settings, Service::Consumer, &client, Some(identity))
                .await;
        }
        report.fail_on_errors()?;
        let stream = match broker::ensure_stream(&context, &settings.broker, identity).await {
            Ok(stream) => stream,
            Err(error) => {
                broker_doctor::refuse(report, &error);
                report.log_and_fail_on_errors()?;
                return Err(error.into());
            }
        };
        broker_doctor::check(report, settings, Service::Consumer, &client, &stream).await;
        return Ok(Some((client, stream)));
    }
    Ok(context.get_stream(&settings.broker.stream).await.ok().map(|stream| (client, stream)))
}

/// Starts what forwards, and waits for its end.
struct Supervisor {
    settings: Settings,
    health: Health,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Supervisor {
    fn start_stream(&mut self, subscription: &Arc<StreamSubscription>) {
        let id = &subscription.runtime.route.id;
        let consumer = &self.settings.consumer;
        tracing::info!(forwarder = %id, workers = consumer.workers, "forwarding from the stream");
        for number in 1..=consumer.workers {
            let name = format!("forwarder {id} worker {number}");
            let progress = self.health.component(name, consumer.unready_after);
            let worker = StreamWorker::new(subscription.clone(), progress).run(self.shutdown.clone());
            self.tasks.spawn(async move {
                Box::pin(worker).await;
                Ok(())
            });
        }
    }

    fn start_direct(&mut self, runtime: Arc<ForwarderRuntime>) {
        let id = &runtime.route.id;
        let limit = self.settings.consumer.unready_after;
        tracing::info!(forwarder = %id, "forwarding from the log");
        let relay = self.health.component(format!("forwarder {id}"), limit);
        let retries = self.health.component(format!("forwarder {id} retries"), limit);
        let settings = self.settings.relay.clone();
        let source = self.settings.source.clone();
        let running = direct::run(runtime, settings, source, relay, retries, self.shutdown.clone());
        self.tasks.spawn(async move { Ok(Box::pin(running).await?) });
    }

    /// Starts the continuous reconciliation of a forwarder into a timeline.
    #[cfg(feature = "threadline")]
    fn start_reconciler(
        &mut self,
        forwarder: &ForwarderSettings,
        database: &Database,
        broker: Option<&(Client, Stream)>,
    ) -> anyhow::Result<()> {
        let settings = self.settings.consumer.reconcile.clone();
        if forwarder.kind != "threadline" || settings.interval.is_zero() {
            return Ok(());
        }
        let id = forwarder.id.clone();
        let reconciler = ContinuousReconciler {
            throttle: LiveTrafficThrottle::on(broker.map(|(_, stream)| stream.clone()), &id),
            watermark: match broker {
                Some((client, _)) => crate::projection::watermark::SettledWatermark::jetstream(
                    &id,
                    broker::context(client, &self.settings.broker),
                    &self.settings.broker.stream,
                ),
                None => crate::projection::watermark::SettledWatermark::direct(&id),
            },
            timeline: Timeline::of(forwarder, &self.settings)?,
            audit: self.settings.source.table.clone(),
            progress: self.health.component(format!("reconcile {id}"), self.settings.consumer.unready_after),
            database: database.clone(),
            settings,
            forwarder: id,
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            Box::pin(reconciler.run(shutdown)).await;
            Ok(())
        });
        Ok(())
    }

    #[cfg(not(feature = "threadline"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there is nothing to compare with")]
    fn start_reconciler(
        &mut self,
        _: &ForwarderSettings,
        _: &Database,
        _: Option<&(Client, Stream)>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    async fn wait(mut self) -> anyhow::Result<()> {
        if self.tasks.is_empty() {
            tracing::info!("no forwarder is configured: nothing to do");
            self.shutdown.cancelled().await;
        }
        while let Some(ended) = self.tasks.join_next().await {
            // One ends only at shutdown; a panic outside of the isolated forwarder is a bug that must be seen.
            ended.context("a worker ended by a panic")??;
        }
        Ok(())
    }
}

/// The forwarders with all that is needed to deliver to them.
pub(crate) fn build_runtimes(
    settings: &Settings,
    forwarders: &Forwarders,
    database: &Database,
    stream_created: Option<OffsetDateTime>,
    tracer: &Tracer,
) -> anyhow::Result<Vec<Arc<ForwarderRuntime>>> {
    let all: Vec<ForwarderId> = settings.forwarder.iter().map(|forwarder| forwarder.id.clone()).collect();
    let reporter = forwarders.first().map(|(forwarder, _)| forwarder.id.clone());
    let backoff = settings.consumer.backoff.backoff().context("consumer.backoff.profile")?;
    let poison_turn = PoisonTurn::default();
    let route = |id: &ForwarderId| Route {
        id: id.clone(),
        all: all.clone(),
        reports_unknown: reporter.as_ref() == Some(id),
        stream_created: StreamCreation::of(stream_created.unwrap_or(OffsetDateTime::UNIX_EPOCH)),
    };
    Ok(forwarders
        .iter()
        .map(|(forwarder, factory)| {
            Arc::new(ForwarderRuntime {
                route: route(&forwarder.id),
                factory: factory.clone(),
                database: database.clone(),
                table: settings.source.table.clone(),
                settings: settings.consumer.clone(),
                policy: RetryPolicy { max_attempts: settings.consumer.max_attempts, backoff },
                breaker: DeadLetterBreaker::new(settings.consumer.max_dead_letters_per_minute),
                liveness: TargetLiveness::default(),
                columns: ColumnWatch::default(),
                known_readable: KnownReadable::default(),
                tracer: tracer.clone(),
                poison_turn: poison_turn.clone(),
            })
        })
        .collect())
}

/// Acknowledgements are sent without waiting; the last ones must leave before the process does.
async fn flush(client: &Client) {
    const FLUSH_MAX: std::time::Duration = std::time::Duration::from_secs(1);
    if !matches!(tokio::time::timeout(FLUSH_MAX, client.flush()).await, Ok(Ok(()))) {
        tracing::warn!("the last acknowledgements may be lost; their events come again without effect");
    }
}
