//! `publisher doctor`: everything that could keep the publisher from working as promised; and the part of it that a start
//! waits for.

use async_nats::{
    Client,
    jetstream::{Context as JetStream, stream::Stream},
};
use common::{
    broker::{self, SourceIdentity, doctor as broker_doctor, preflight::Preflight},
    database::Database,
    doctor::{Report, RunMode, Service, settings as settings_doctor, source},
    session::Session,
    settings::Settings,
};

const NAME: &str = "audit-publisher-doctor";

/// Makes all checks and prints what they found. Nothing is changed.
///
/// # Errors
/// When there is a finding of severity error; it is printed all the same.
pub(crate) async fn run(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let mut report = Report::new(RunMode::Command);
    settings_doctor::publisher(&mut report, settings);
    let identity = source::connect_and_check(&mut report, settings, Service::Publisher, NAME, &[]).await;
    broker_doctor::connect_and_check(&mut report, settings, Service::Publisher, NAME, identity.as_ref())
        .await;
    Ok(report.print(json)?)
}

/// What a publisher that starts has found in order.
pub(crate) struct Ready {
    pub(crate) identity: SourceIdentity,
    pub(crate) client: Client,
    pub(crate) context: JetStream,
    pub(crate) stream: Stream,
}

/// Connects to the broker and creates the stream where it is missing, unless something is wrong.
///
/// # Errors
/// When a server is unavailable or does not fit, with every finding of severity error.
pub(crate) async fn at_boot(
    settings: &Settings,
    database: &Database,
    connection: &mut Session,
) -> anyhow::Result<Ready> {
    let mut preflight = Preflight::new(settings, Service::Publisher);
    preflight.check_source(database, connection).await?;
    let identity = preflight.source_identity(database, connection).await?;
    let client = broker::connect(&settings.broker, "audit-publisher").await;
    let client = client.map_err(|error| preflight.refused_by_broker(error))?;
    let (context, stream) = preflight.ensure_stream(&client, &identity).await?;
    preflight.finish()?;
    Ok(Ready { identity, client, context, stream })
}
