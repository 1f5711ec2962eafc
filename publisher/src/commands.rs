//! The short commands: attach, detach, prune.

use anyhow::Context as _;
use async_nats::jetstream;
use common::{
    broker, console,
    database::Database,
    identifier::TableName,
    outbox::{self, capture, rounds::StreamPosition},
    settings::Settings,
};
use sqlx::PgConnection;

use crate::maintenance;

/// The source database of the settings.
///
/// # Errors
/// When no URL is set or it cannot be parsed.
pub fn source(settings: &Settings, application_name: &str) -> anyhow::Result<Database> {
    let url = settings.source.url.as_ref().context(
        "no source database is configured: set source.url in the settings file, or SOURCE_DATABASE_URL",
    )?;
    let source = &settings.source;
    Ok(Database::new(url, application_name, source.statement_timeout, source.pooler)?)
}

async fn connect(settings: &Settings) -> anyhow::Result<PgConnection> {
    let database = source(settings, "audit-publisher-command")?;
    database.connect().await.context("cannot connect to the source database (source.url)")
}

/// Says what to do where the schema is missing.
///
/// # Errors
/// When it is missing, or the database is away.
pub async fn require_outbox(connection: &mut PgConnection) -> anyhow::Result<()> {
    let present: bool =
        sqlx::query_scalar("select to_regclass('outbox.failures') is not null").fetch_one(connection).await?;
    anyhow::ensure!(present, "this database has no outbox yet: run `publisher attach` first");
    Ok(())
}

/// Creates the outbox where it is missing and starts capture.
///
/// # Errors
/// When the table is not fit, or too busy; nothing is half done.
pub async fn attach(settings: &Settings, table: Option<TableName>) -> anyhow::Result<()> {
    let table = table.unwrap_or_else(|| settings.source.table.clone());
    let mut connection = connect(settings).await?;
    outbox::migrate(&mut connection).await.context("cannot create the schema outbox")?;
    capture::attach(&mut connection, &table).await.with_context(|| format!("cannot attach {table}"))?;
    console::answer(&format!("every row inserted into {table} from now on is captured\n"));
    Ok(())
}

/// Stops capture.
///
/// # Errors
/// When the table is too busy.
pub async fn detach(settings: &Settings) -> anyhow::Result<()> {
    let mut connection = connect(settings).await?;
    require_outbox(&mut connection).await?;
    capture::detach(&mut connection).await.context("cannot detach")?;
    console::answer("capture is off; what has been captured is still relayed\n");
    Ok(())
}

/// Removes what every forwarder is past.
///
/// # Errors
/// When a server is away.
pub async fn prune(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let mut connection = connect(settings).await?;
    require_outbox(&mut connection).await?;
    let floor = floor(settings).await?;
    let pruned = maintenance::prune(&mut connection, floor, settings.publisher.retention).await?;
    console::answer(&if json {
        format!("{}\n", serde_json::json!({"pruned": pruned}))
    } else {
        format!("removed {pruned} entries\n")
    });
    Ok(())
}

/// The lowest floor on the stream; `None` without a broker, a stream or a forwarder on it.
async fn floor(settings: &Settings) -> anyhow::Result<Option<StreamPosition>> {
    if settings.broker.url.is_none() {
        return Ok(None);
    }
    let client = broker::connect(&settings.broker, "audit-publisher-command").await?;
    let stream = jetstream::new(client)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot look at the stream {}", settings.broker.stream))?;
    Ok(maintenance::lowest(&broker::floors(&stream).await?, &stream))
}
