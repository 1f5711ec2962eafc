//! The service.

pub mod doctor;

use std::sync::{Arc, atomic::AtomicU64};

use anyhow::Context as _;
use common::{
    broker,
    database::Database,
    outbox::{
        self, maintenance,
        reader::rounds::STREAM_READER,
        relay::{PROGRESS_ROWS, Relay, RelayOptions},
    },
    service::{
        health::{self, Health},
        shutdown,
        telemetry::{self, names, traces::Tracer},
    },
    settings::Settings,
};
use tokio_util::sync::CancellationToken;

use crate::{maintenance::Maintenance, service::doctor::Ready, sink::JetStreamSink};

const APPLICATION: &str = "audit-publisher";

/// Whether a publisher could start with these settings, as far as they and the files that they name go.
///
/// # Errors
/// Naming the key or the file, and what is expected.
pub async fn check(settings: &Settings) -> anyhow::Result<()> {
    Database::source(&settings.source, APPLICATION)?;
    Ok(broker::check(&settings.broker).await?)
}

/// Relays until SIGINT or SIGTERM.
///
/// # Errors
/// When settings cannot be used, a server is away at boot, or a [`doctor`] finds an error, such as a stored position of
/// another cluster.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    check(&settings).await?;
    let shutdown = shutdown::on_signal()?;
    let serving = Box::pin(serve(settings, shutdown.clone()));
    shutdown::bounded(&shutdown, serving).await.unwrap_or(Ok(()))
}

async fn serve(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = telemetry::init_metrics()?;
    names::begin(
        &["audit_relay_", "audit_publish_", "audit_outbox_", "audit_stream_"],
        &[("reader", &[STREAM_READER])],
    );
    let tracer = Tracer::of(&settings.traces, "audit-publisher");
    let database = Database::source(&settings.source, APPLICATION)?;
    let mut connection = outbox::reach(&database).await?;
    let ready = Box::pin(doctor::at_boot(&settings, &database, &mut connection)).await?;
    let Ready { identity, client, context, stream } = ready;

    let health = Health::default();
    let captured = health.component("capture", settings.publisher.unready_after);
    drop(connection);
    tokio::spawn(maintenance::watch_capture(database.clone(), captured, settings.relay.maintenance_interval));
    health::serve(settings.publisher.listen, health.clone(), metrics, shutdown.clone()).await.context(
        "cannot listen on publisher.listen; another process may: --set publisher.listen=127.0.0.1:0",
    )?;

    let progress = health.component("relay", settings.publisher.unready_after);
    let options = RelayOptions {
        reader: STREAM_READER.to_owned(),
        page_rows: settings.relay.page_rows,
        poll_min: settings.relay.poll_min,
        poll_max: settings.relay.poll_max,
        lease: settings.relay.lease,
        progress_rows: PROGRESS_ROWS,
    };
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
        database,
        client,
        context,
        stream,
        relay: settings.relay,
        replay_window: settings.publisher.replay_window,
        trimmed_below,
        source: settings.source,
        broker: settings.broker,
    };
    let running = relay.run(shutdown, move |leading| {
        tokio::spawn(maintenance.clone().run(leading));
    });
    let ended = Box::pin(running).await;
    tracer.flush().await;
    ended?;
    tracing::info!("stopped");
    Ok(())
}
