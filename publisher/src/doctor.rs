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
    doctor::{Occasion, Report, Side, settings as settings_doctor, source},
    session::Session,
    settings::Settings,
};

const NAME: &str = "audit-publisher-doctor";

/// Makes all checks and prints what they found. Nothing is changed.
///
/// # Errors
/// When there is a finding of severity error; it is printed all the same.
pub async fn run(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let mut report = Report::new(Occasion::Command);
    settings_doctor::publisher(&mut report, settings);
    let identity = source::visit(&mut report, settings, Side::Publisher, NAME, &[]).await;
    broker_doctor::visit(&mut report, settings, Side::Publisher, NAME, identity.as_ref()).await;
    Ok(report.answer(json)?)
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
    let mut report = Report::new(Occasion::Boot);
    settings_doctor::publisher(&mut report, settings);
    source::examine(&mut report, settings, Side::Publisher, database, connection).await;
    let identity = SourceIdentity::read(connection, &settings.source.table);
    let identity = database.within(identity).await.context("the source database")?;
    let identity = identity.named(settings.source.name.as_deref());
    let client = match broker::connect(&settings.broker, "audit-publisher").await {
        Ok(client) => client,
        Err(error) => {
            broker_doctor::refuse(&mut report, &error);
            report.start()?;
            return Err(error.into());
        }
    };
    let context = broker::context(&client, &settings.broker);
    if report.has_errors() {
        // Nothing is created by a service that does not start.
        broker_doctor::look(&mut report, settings, Side::Publisher, &client, Some(&identity)).await;
    }
    report.refuse()?;
    let stream = match broker::ensure_stream(&context, &settings.broker, &identity).await {
        Ok(stream) => stream,
        Err(error) => {
            broker_doctor::refuse(&mut report, &error);
            report.start()?;
            return Err(error.into());
        }
    };
    broker_doctor::examine(&mut report, settings, Side::Publisher, &client, &stream).await;
    report.start()?;
    Ok(Ready { identity, client, context, stream })
}
