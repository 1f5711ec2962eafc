//! The service.

pub(crate) mod doctor;

use std::sync::{Arc, atomic::AtomicU64};

use common::{
    broker,
    database::Database,
    outbox::{
        maintenance,
        reader::rounds::STREAM_READER,
        relay::{Relay, RelayOptions},
    },
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

use crate::{maintenance::Maintenance, service::doctor::Ready, sink::JetStreamSink};

const APPLICATION: &str = "audit-publisher";

/// A publisher that runs in the process of its caller; the binary is its first user.
///
/// It installs no signal handler, no metrics recorder and no log subscriber, and never ends the process. Several may run, in
/// one process or in many: one leads, the others stand by.
#[derive(Debug)]
#[must_use = "it does nothing until it is run"]
pub struct Service {
    settings: Settings,
    endpoint: Endpoint,
}

impl Service {
    /// A publisher with these settings; of `publisher.listen` and [`Service::listener`] the latter counts.
    pub fn new(settings: Settings) -> Self {
        Self { settings, endpoint: Endpoint::default() }
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

    /// Whether a publisher could start with these settings, as far as they and the files that they name go.
    ///
    /// # Errors
    /// Naming the key or the file, and what is expected.
    pub async fn check(&self) -> Result<(), ServiceError> {
        self.settings.validate().map_err(ServiceError::new)?;
        Database::source(&self.settings.source, APPLICATION).map_err(ServiceError::new)?;
        broker::check(&self.settings.broker).await.map_err(ServiceError::new)
    }

    /// Relays until `shutdown`. Unsettled work is then finished or given back, within ten seconds; no task is left when this
    /// returns. Dropping the future is like a crash: its tasks end, and unsettled work is redelivered.
    ///
    /// # Errors
    /// When settings cannot be used, a server is away at the start, or a doctor finds an error, such as a stored position of
    /// another cluster. Later outages are waited for.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        self.check().await?;
        let Self { settings, endpoint } = self;
        let running = lifecycle::run(Publisher { settings }, endpoint, &shutdown);
        Box::pin(running).await.map_err(|error: anyhow::Error| {
            // Otherwise its type is lost, and with it its kind.
            ServiceError::new(error.reallocate_into_boxed_dyn_error_without_backtrace())
        })
    }
}

struct Publisher {
    settings: Settings,
}

impl Steps for Publisher {
    type Error = anyhow::Error;
    type Ready = Ready;

    const SECTION: &'static str = "publisher";
    const APPLICATION: &'static str = APPLICATION;
    const TRACED_AS: &'static str = "audit-publisher";

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn listen(&self) -> Listen {
        self.settings.publisher.listen
    }

    fn begin_counters(&self) {
        names::begin(
            &["audit_relay_", "audit_publish_", "audit_outbox_", "audit_stream_"],
            &[("reader", &[STREAM_READER])],
        );
    }

    async fn preflight(&mut self, database: &Database, connection: &mut Session) -> anyhow::Result<Ready> {
        Box::pin(doctor::at_boot(&self.settings, database, connection)).await
    }

    async fn work(self, ready: Ready, connection: Session, running: &Running) -> anyhow::Result<()> {
        let Self { settings } = self;
        let Ready { identity, client, context, stream } = ready;
        drop(connection);
        let Running { database, health, shutdown, tasks, tracer } = running;
        let captured = health.component("capture", settings.publisher.unready_after);
        let every = settings.relay.maintenance_interval;
        running.spawn_alongside(maintenance::watch_capture(database.clone(), captured, every));

        let progress = health.component("relay", settings.publisher.unready_after);
        let options = RelayOptions::new(STREAM_READER, &settings.relay);
        let trimmed_below = Arc::<AtomicU64>::default();
        let sink = JetStreamSink::new(
            client.clone(),
            stream.clone(),
            settings.broker.clone(),
            identity,
            &settings.publisher,
            progress.clone(),
            trimmed_below.clone(),
        )
        .traced(tracer.clone());
        let relay = Relay::new(database.clone(), options, sink, progress);
        let maintenance = Maintenance {
            database: database.clone(),
            client,
            context,
            stream,
            relay: settings.relay,
            replay_window: settings.publisher.replay_window,
            trimmed_below,
            source: settings.source,
            broker: settings.broker,
        };
        let leading = |leading| tasks.spawn(maintenance.clone().run(leading));
        Ok(Box::pin(relay.run(shutdown.clone(), leading)).await?)
    }
}
