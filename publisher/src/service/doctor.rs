//! `publisher doctor`: everything that could keep the publisher from working as promised; and the part of it that a start
//! waits for.

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{Context as JetStream, stream::Stream},
};
use common::{
    broker::{self, SourceIdentity, doctor as broker_doctor},
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
/// When a server is away or does not fit, with every finding of severity error.
pub(crate) async fn at_boot(
    settings: &Settings,
    database: &Database,
    connection: &mut Session,
) -> anyhow::Result<Ready> {
    let mut report = Report::new(RunMode::Boot);
    settings_doctor::publisher(&mut report, settings);
    if let Err(error) = source::check(&mut report, settings, Service::Publisher, database, connection).await {
        report.log_and_fail_on_errors()?;
        return Err(error).context("the source database");
    }
    let identity = SourceIdentity::read(connection, &settings.source.table);
    let identity = database.with_timeout(identity).await.context("the source database")?;
    let identity = identity.named(settings.source.name.as_deref());
    let client = match broker::connect(&settings.broker, "audit-publisher").await {
        Ok(client) => client,
        Err(error) => {
            broker_doctor::record_error(&mut report, &error);
            report.log_and_fail_on_errors()?;
            return Err(error.into());
        }
    };
    let context = broker::context(&client, &settings.broker);
    if report.has_errors() {
        // Nothing is created by a service that does not start.
        broker_doctor::connect_and_read(&mut report, settings, Service::Publisher, &client, Some(&identity))
            .await;
    }
    report.fail_on_errors()?;
    let stream = match broker::ensure_stream(&context, &settings.broker, &identity).await {
        Ok(stream) => stream,
        Err(error) => {
            broker_doctor::record_error(&mut report, &error);
            report.log_and_fail_on_errors()?;
            return Err(error.into());
        }
    };
    broker_doctor::check(&mut report, settings, Service::Publisher, &client, &stream).await;
    report.log_and_fail_on_errors()?;
    Ok(Ready { identity, client, context, stream })
}
