//! The service.

pub(crate) mod dispatch_mode;
pub(crate) mod doctor;
mod preflight;
mod supervisor;

use std::{fmt, sync::Arc};

use async_nats::{Client, jetstream::stream::Stream};
use common::{
    broker,
    database::Database,
    failures::FailureKind,
    identifier::ForwarderId,
    outbox::reader::readers,
    process::telemetry::names,
    service::{
        ServiceError,
        endpoint::Endpoint,
        lifecycle::{self, Running, Steps},
    },
    session::Session,
    settings::{Listen, Settings},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) use supervisor::build_runtimes;

use crate::{
    forwarder::{Forwarders, MissingKinds, Registry},
    service::{dispatch_mode::DispatchMode, supervisor::Supervisor},
    stream::worker::StreamSubscription,
};

const APPLICATION: &str = "audit-consumer-source";

/// A consumer that runs in the process of its caller; the binary is its first user.
///
/// It installs no signal handler, no metrics recorder and no log subscriber, and never ends the process. As many as you like may
/// run, in one process or in many: those with the same settings share the work.
#[must_use = "it does nothing until it is run"]
pub struct Service {
    settings: Settings,
    registry: Registry,
    missing: MissingKinds,
    endpoint: Endpoint,
}

impl Service {
    /// A consumer with these settings, whose forwarders are of the kinds of `registry`. Of `consumer.listen` and
    /// [`Service::listener`] the latter counts.
    pub fn new(settings: Settings, registry: Registry) -> Self {
        Self { settings, registry, missing: MissingKinds::Refused, endpoint: Endpoint::default() }
    }

    /// What becomes of a forwarder whose kind is not registered; it is refused unless this says otherwise.
    pub fn missing_kinds(mut self, missing: MissingKinds) -> Self {
        self.missing = missing;
        self
    }

    /// Serves `/healthz`, `/readyz` and `/metrics` on a listener that is bound already.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.endpoint.listener = Some(listener);
        self
    }

    /// Shows the metrics of this handle, whose recorder the process has installed. Without one `/metrics` answers 404; what is
    /// counted goes to the process's recorder all the same.
    pub fn metrics(mut self, metrics: PrometheusHandle) -> Self {
        self.endpoint.metrics = Some(metrics);
        self
    }

    /// Whether a consumer could start with these settings, as far as they and the files that they name go.
    ///
    /// # Errors
    /// Naming the key, the option or the file, and what is expected.
    pub async fn check(&self) -> Result<(), ServiceError> {
        self.configure().await.map(drop)
    }

    /// Forwards until `shutdown`. Unsettled work is then finished or given back, within ten seconds; no task is left when this
    /// returns. Dropping the future is like a crash: its tasks end, and unsettled work is redelivered.
    ///
    /// # Errors
    /// When settings cannot be used, or a server is away at the start or does not fit. Later outages are waited for.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let (forwarders, modes) = self.configure().await?;
        for ((forwarder, _), mode) in forwarders.iter().zip(&modes) {
            mode.log_choice(forwarder);
        }
        let consumer = Consumer { settings: self.settings, forwarders, modes };
        let running = lifecycle::run(consumer, self.endpoint, &shutdown);
        Box::pin(running).await.map_err(|error: anyhow::Error| {
            // Otherwise its type is lost, and with it its kind.
            ServiceError::new(error.reallocate_into_boxed_dyn_error_without_backtrace())
        })
    }

    async fn configure(&self) -> Result<(Forwarders, Vec<DispatchMode>), ServiceError> {
        let Self { settings, registry, missing, .. } = self;
        settings.validate().map_err(ServiceError::new)?;
        Database::source(&settings.source, APPLICATION).map_err(ServiceError::new)?;
        let forwarders = registry.configure(settings, *missing).map_err(ServiceError::new)?;
        let modes = forwarders.iter().map(|(forwarder, _)| DispatchMode::of(forwarder, &settings.broker));
        let modes: Vec<DispatchMode> = modes.collect::<Result<_, _>>().map_err(ServiceError::new)?;
        if modes.contains(&DispatchMode::JetStream) {
            broker::check(&settings.broker).await.map_err(ServiceError::new)?;
        }
        Ok((forwarders, modes))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, missing, endpoint, .. } = self;
        let mut shown = f.debug_struct("Service");
        shown.field("settings", settings).field("missing", missing).field("endpoint", endpoint);
        shown.finish_non_exhaustive()
    }
}

struct Consumer {
    settings: Settings,
    forwarders: Forwarders,
    modes: Vec<DispatchMode>,
}

impl Steps for Consumer {
    type Error = anyhow::Error;
    /// The broker, where one is needed.
    type Ready = Option<(Client, Stream)>;

    const SECTION: &'static str = "consumer";
    const APPLICATION: &'static str = APPLICATION;
    const TRACED_AS: &'static str = "audit-consumer";

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn listen(&self) -> Listen {
        self.settings.consumer.listen
    }

    fn begin_counters(&self) {
        let Self { forwarders, modes, .. } = self;
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

    async fn preflight(
        &mut self,
        database: &Database,
        connection: &mut Session,
    ) -> anyhow::Result<Self::Ready> {
        let Self { settings, forwarders, modes } = self;
        Box::pin(preflight::at_boot(settings, forwarders, modes, database, connection)).await
    }

    async fn work(
        self,
        broker: Self::Ready,
        mut connection: Session,
        running: &Running,
    ) -> anyhow::Result<()> {
        let Self { settings, forwarders, modes } = self;
        let created = broker.as_ref().map(|(_, stream)| stream.cached_info().created);
        let runtimes = build_runtimes(&settings, &forwarders, &running.database, created, &running.tracer)?;
        let ids: Vec<ForwarderId> = forwarders.iter().map(|(forwarder, _)| forwarder.id.clone()).collect();
        let stream = broker.as_ref().map(|(_, stream)| stream);
        dispatch_mode::register(&mut connection, stream, &ids).await?;
        let mut supervisor = Supervisor::new(settings, running);
        for ((runtime, mode), (forwarder, _)) in runtimes.into_iter().zip(&modes).zip(&forwarders) {
            let id = &runtime.route.id;
            let of_stream = broker.as_ref().filter(|_| *mode == DispatchMode::JetStream);
            supervisor.start_reconciler(forwarder, of_stream)?;
            if let Some((client, stream)) = of_stream {
                // Once at boot, so that what cannot be fixed by waiting is an error with a remedy.
                let settings = supervisor.settings();
                let context = broker::context(client, &settings.broker);
                let consumer = &settings.consumer;
                dispatch_mode::switch_to_jetstream(&mut connection, &context, stream, id, consumer).await?;
                let subscription = StreamSubscription::new(runtime, client.clone(), context, stream.clone());
                supervisor.start_stream(&Arc::new(subscription));
            } else {
                dispatch_mode::switch_to_direct(&mut connection, stream, id).await?;
                supervisor.start_direct(runtime);
            }
        }
        if !modes.contains(&DispatchMode::JetStream) && !modes.is_empty() {
            supervisor.watch_capture();
        }
        drop(connection);
        let ended = supervisor.wait().await;
        if let Some((client, _)) = broker {
            flush(&client).await;
        }
        ended
    }
}

/// Acknowledgements are sent without waiting; the last ones must leave before the process does.
async fn flush(client: &Client) {
    const FLUSH_MAX: std::time::Duration = std::time::Duration::from_secs(1);
    if !matches!(tokio::time::timeout(FLUSH_MAX, client.flush()).await, Ok(Ok(()))) {
        tracing::warn!("the last acknowledgements may be lost; their events are redelivered without effect");
    }
}
