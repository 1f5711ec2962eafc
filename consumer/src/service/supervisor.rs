//! Starts everything that forwards, and waits for its end.

use std::sync::Arc;

use anyhow::Context as _;
use async_nats::{Client, jetstream::stream::Stream};
#[cfg(feature = "threadline")]
use common::broker::{self, LiveTrafficThrottle};
use common::{
    database::Database,
    identifier::ForwarderId,
    outbox::maintenance,
    process::telemetry::traces::Tracer,
    service::lifecycle::Running,
    settings::{ForwarderSettings, Settings},
};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::{
    direct,
    engine::{
        breaker::DeadLetterBreaker,
        column_watch::ColumnWatch,
        delivery_watch::DeliveryWatch,
        dispatcher::ForwarderRuntime,
        disposition::RetryPolicy,
        isolation::{PoisonTurn, TargetLiveness},
        source::ReadHistory,
        work_item::{Route, StreamCreation},
    },
    forwarder::Forwarders,
    stream::worker::{StreamSubscription, StreamWorker},
};
#[cfg(feature = "threadline")]
use crate::{kinds::TimelineForwarder, projection::continuous::ContinuousReconciler};

/// Starts what forwards, and waits for its end.
pub(crate) struct Supervisor<'a> {
    settings: Settings,
    running: &'a Running,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(settings: Settings, running: &'a Running) -> Self {
        Self { settings, running, tasks: JoinSet::new() }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    fn spawn(&mut self, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(self.running.tasks.track(task));
    }

    /// Where no publisher runs, the capture trigger is looked at here.
    pub(crate) fn watch_capture(&self) {
        let limit = self.settings.consumer.unready_after;
        let captured = self.running.health.component("capture", limit);
        let every = self.settings.relay.maintenance_interval;
        self.running.spawn_alongside(maintenance::watch_capture(
            self.running.database.clone(),
            captured,
            every,
        ));
    }

    pub(crate) fn start_stream(&mut self, subscription: &Arc<StreamSubscription>) {
        let id = &subscription.runtime.route.id;
        let (workers, limit) = (self.settings.consumer.workers, self.settings.consumer.unready_after);
        tracing::info!(forwarder = %id, workers, "forwarding from the stream");
        for number in 1..=workers {
            let name = format!("forwarder {id} worker {number}");
            let progress = self.running.health.component(name, limit);
            let worker = StreamWorker::new(subscription.clone(), progress).run(self.running.shutdown.clone());
            self.spawn(async move {
                Box::pin(worker).await;
                Ok(())
            });
        }
    }

    pub(crate) fn start_direct(&mut self, runtime: Arc<ForwarderRuntime>) {
        let id = &runtime.route.id;
        let limit = self.settings.consumer.unready_after;
        tracing::info!(forwarder = %id, "forwarding from the log");
        let relay = self.running.health.component(format!("forwarder {id}"), limit);
        let retries = self.running.health.component(format!("forwarder {id} retries"), limit);
        let settings = self.settings.relay.clone();
        let source = self.settings.source.clone();
        let (tasks, shutdown) = (self.running.tasks.clone(), self.running.shutdown.clone());
        let running = direct::run(runtime, settings, source, relay, retries, tasks, shutdown);
        self.spawn(async move { Ok(Box::pin(running).await?) });
    }

    /// Starts the continuous reconciliation of a forwarder into a timeline.
    #[cfg(feature = "threadline")]
    pub(crate) fn start_reconciler(
        &mut self,
        forwarder: &ForwarderSettings,
        broker: Option<&(Client, Stream)>,
    ) -> anyhow::Result<()> {
        let settings = self.settings.consumer.reconcile.clone();
        if forwarder.kind != TimelineForwarder::KIND || settings.interval.is_zero() {
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
            timeline: TimelineForwarder::of(forwarder, &self.settings)?,
            audit: self.settings.source.table.clone(),
            progress: self
                .running
                .health
                .component(format!("reconcile {id}"), self.settings.consumer.unready_after),
            database: self.running.database.clone(),
            settings,
            forwarder: id,
        };
        let shutdown = self.running.shutdown.clone();
        self.spawn(async move {
            Box::pin(reconciler.run(shutdown)).await;
            Ok(())
        });
        Ok(())
    }

    #[cfg(not(feature = "threadline"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there is nothing to compare with")]
    pub(crate) fn start_reconciler(
        &mut self,
        _: &ForwarderSettings,
        _: Option<&(Client, Stream)>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    pub(crate) async fn wait(mut self) -> anyhow::Result<()> {
        if self.tasks.is_empty() {
            tracing::info!("no forwarder is configured: nothing to do");
            self.running.shutdown.cancelled().await;
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
                deliveries: DeliveryWatch::new(settings.consumer.unready_after),
                columns: ColumnWatch::default(),
                reads: ReadHistory::default(),
                tracer: tracer.clone(),
                poison_turn: poison_turn.clone(),
            })
        })
        .collect())
}
