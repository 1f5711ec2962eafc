//! What a consumer that starts checks on its way to the servers.

use async_nats::{Client, jetstream::stream::Stream};
use common::{
    broker::{self, SourceIdentity, preflight::Preflight},
    database::Database,
    doctor::{Service, columns},
    session::Session,
    settings::Settings,
};

use crate::{
    forwarder::Forwarders,
    service::{dispatch_mode::DispatchMode, doctor},
};

/// What a [`doctor`] finds on the way to the servers keeps from starting, if it is an error.
pub(crate) async fn at_boot(
    settings: &Settings,
    forwarders: &Forwarders,
    modes: &[DispatchMode],
    database: &Database,
    connection: &mut Session,
) -> anyhow::Result<Option<(Client, Stream)>> {
    let mut preflight = Preflight::new(settings, Service::Consumer);
    preflight.check_source(database, connection).await?;
    let wanted = doctor::wanted(forwarders);
    columns::check(&mut preflight.report, &settings.source.table, &wanted, database, connection).await;
    doctor::targets(&mut preflight.report, forwarders).await;
    let identity = preflight.source_identity(database, connection).await?;
    let broker = connect_broker(&mut preflight, settings, modes, &identity).await?;
    preflight.finish()?;
    Ok(broker)
}

/// The broker, where a dispatch mode needs it; and where one is configured but not needed, if it happens to be there: a
/// durable of an earlier dispatch must not be left behind.
async fn connect_broker(
    preflight: &mut Preflight<'_>,
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
        Err(error) => return Err(preflight.refused_by_broker(error).into()),
    };
    if needed {
        let (_, stream) = preflight.ensure_stream(&client, identity).await?;
        return Ok(Some((client, stream)));
    }
    let context = broker::context(&client, &settings.broker);
    Ok(context.get_stream(&settings.broker.stream).await.ok().map(|stream| (client, stream)))
}
