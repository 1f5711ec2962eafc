//! The service.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use async_nats::{
    Client,
    jetstream::{self, stream::Stream},
};
use common::{
    broker::{self, SourceIdentity},
    database::Database,
    health::{self, Health},
    identifier::ForwarderId,
    outbox,
    settings::{Dispatch, Settings},
    shutdown, telemetry,
};
use tokio::task::JoinSet;

use crate::{
    delivery::Addressee,
    forwarder::{Forwarders, Registry},
    lane::{Lane, Worker},
    settle::Policy,
};

/// Forwards until SIGINT or SIGTERM. A host's own binary calls this with kinds of its own in the registry.
///
/// # Errors
/// When settings cannot be used, or a server is away at boot or does not fit.
pub async fn run(settings: Settings, registry: &Registry) -> anyhow::Result<()> {
    let forwarders = registry.configure(&settings)?;
    require_broker(&settings)?;
    let shutdown = shutdown::on_signal()?;
    let metrics = telemetry::init_metrics()?;
    let health = Health::default();

    let database = Database::source(&settings.source, "audit-consumer-source")?;
    let mut connection =
        database.connect().await.context("cannot connect to the source database (source.url)")?;
    outbox::require(&mut connection, &settings.source.table).await?;
    let identity = SourceIdentity::read(&mut connection, &settings.source.table).await?;
    drop(connection);
    refuse_shared_targets(&forwarders).await?;
    let client = broker::connect(&settings.broker, "audit-consumer").await?;
    let stream = broker::ensure_stream(&jetstream::new(client.clone()), &settings.broker, &identity).await?;
    health::serve(settings.consumer.listen, health.clone(), metrics, shutdown.clone()).await.context(
        "cannot listen on consumer.listen; another process may: --set consumer.listen=127.0.0.1:0",
    )?;

    let mut workers = JoinSet::new();
    for lane in lanes(&settings, &forwarders, &database, &client, &stream)? {
        // Once at boot, so that what cannot be mended by waiting is an error with a remedy.
        broker::ensure_durable(&stream, &lane.addressee.id, &settings.consumer).await?;
        tracing::info!(forwarder = %lane.addressee.id, workers = settings.consumer.workers, "forwarding");
        for number in 1..=settings.consumer.workers {
            let name = format!("forwarder {} worker {number}", lane.addressee.id);
            let progress = health.component(name, settings.consumer.unready_after);
            workers.spawn(Worker::new(lane.clone(), progress).run(shutdown.clone()));
        }
    }
    if workers.is_empty() {
        tracing::info!("no forwarder is configured: nothing to do");
        shutdown.cancelled().await;
    }
    while let Some(ended) = workers.join_next().await {
        // A worker ends only at shutdown; a panic outside of the guarded forwarder is a bug that must be seen.
        ended.context("a worker ended by a panic")?;
    }
    flush(&client).await;
    tracing::info!("stopped");
    Ok(())
}

/// `auto` means `async` where a broker is configured; decided once, here, and logged.
fn require_broker(settings: &Settings) -> anyhow::Result<()> {
    for forwarder in &settings.forwarder {
        let has_broker = settings.broker.url.is_some();
        match forwarder.dispatch {
            Dispatch::Async | Dispatch::Auto if has_broker => {
                tracing::info!(forwarder = %forwarder.id, dispatch = "async", "dispatch");
            }
            Dispatch::Sync => bail!(
                "forwarder {}: dispatch \"sync\" (without a broker) is not in this version; use \"async\" with \
                 broker.url or NATS_URL",
                forwarder.id
            ),
            Dispatch::Async | Dispatch::Auto => bail!(
                "forwarder {}: no broker is configured. Set broker.url in the settings file, or NATS_URL",
                forwarder.id
            ),
        }
    }
    Ok(())
}

/// Two forwarders into one place would each claim to have delivered what the other wrote.
async fn refuse_shared_targets(forwarders: &Forwarders) -> anyhow::Result<()> {
    let mut targets: HashMap<String, ForwarderId> = HashMap::new();
    for (forwarder, configured) in forwarders {
        let target = configured.target().await.with_context(|| format!("forwarder {}", forwarder.id))?;
        if let Some(target) = target
            && let Some(other) = targets.insert(target, forwarder.id.clone())
        {
            bail!(
                "forwarders {other} and {} write to the same database and schema; remove one",
                forwarder.id
            );
        }
    }
    Ok(())
}

fn lanes(
    settings: &Settings,
    forwarders: &Forwarders,
    database: &Database,
    client: &Client,
    stream: &Stream,
) -> anyhow::Result<Vec<Arc<Lane>>> {
    let all: Vec<ForwarderId> = settings.forwarder.iter().map(|forwarder| forwarder.id.clone()).collect();
    let speaker = forwarders.first().map(|(forwarder, _)| forwarder.id.clone());
    let backoff = settings.consumer.backoff.backoff().context("consumer.backoff.profile")?;
    let mut lanes = Vec::new();
    for (forwarder, configured) in forwarders {
        let addressee = Addressee {
            id: forwarder.id.clone(),
            all: all.clone(),
            speaks: speaker.as_ref() == Some(&forwarder.id),
            stream_created: stream.cached_info().created,
        };
        lanes.push(Arc::new(Lane {
            addressee,
            configured: configured.clone(),
            database: database.clone(),
            table: settings.source.table.clone(),
            client: client.clone(),
            stream: stream.clone(),
            settings: settings.consumer.clone(),
            policy: Policy { attempts: settings.consumer.attempts, backoff },
            turn: tokio::sync::Mutex::default(),
        }));
    }
    Ok(lanes)
}

/// Acknowledgements are sent without waiting; the last ones must leave before the process does.
async fn flush(client: &Client) {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
    if !matches!(tokio::time::timeout(PATIENCE, client.flush()).await, Ok(Ok(()))) {
        tracing::warn!("the last acknowledgements may be lost; their events come again without effect");
    }
}
