//! What a consumer that starts checks on its way to the servers.

use anyhow::Context as _;
use async_nats::{Client, jetstream::stream::Stream};
use common::{
    broker::{self, SourceIdentity, doctor as broker_doctor},
    database::Database,
    doctor::{Report, RunMode, Service, columns, settings as settings_doctor, source},
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
            broker_doctor::record_error(report, &error);
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
                broker_doctor::record_error(report, &error);
                report.log_and_fail_on_errors()?;
                return Err(error.into());
            }
        };
        broker_doctor::check(report, settings, Service::Consumer, &client, &stream).await;
        return Ok(Some((client, stream)));
    }
    Ok(context.get_stream(&settings.broker.stream).await.ok().map(|stream| (client, stream)))
}
