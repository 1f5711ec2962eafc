//! `publisher backfill --accept-foreign-ids`: what another forwarder, such as Sigra's own, has brought into the timeline under ids of its
//! own, with the event's id as the correlation id. The timeline records that it counts, for everything that writes to it or
//! compares it.

use std::collections::HashSet;

use anyhow::{Context as _, bail, ensure};
use common::{
    database::Database,
    identifier::ForwarderId,
    settings::{ConnectionUrl, ForwarderSettings, Settings},
};
use sqlx::PgConnection;
use threadline::{Adoption, StorageSchema};
use time::OffsetDateTime;
use uuid::Uuid;

const KIND: &str = "threadline";

/// The timeline of one forwarder.
pub(crate) struct Adoptions {
    /// In whose place the events were delivered.
    pub(crate) forwarder: ForwarderId,
    connection: PgConnection,
    schema: StorageSchema,
    /// What was written before counts.
    until: OffsetDateTime,
}

impl Adoptions {
    /// Connects to the timeline of the requested forwarder, or of the only one that has one.
    ///
    /// # Errors
    /// When there is none, it is not clear which, or the server is away.
    pub(crate) async fn connect(settings: &Settings, asked: Option<&ForwarderId>) -> anyhow::Result<Self> {
        let forwarder = choose(settings, asked)?;
        let option = |name: &str| forwarder.options.get(name).and_then(|value| value.as_str());
        let url = option("url").map(ConnectionUrl::new).or_else(|| settings.threadline.url.clone());
        let url = url.context(
            "--accept-foreign-ids looks into the timeline: set threadline.url in the settings file, or THREADLINE_DATABASE_URL",
        )?;
        let limit = settings.source.statement_timeout;
        let database = Database::new(&url, "audit-publisher-backfill", limit, false)?;
        let mut connection =
            database.connect_directly().await.context("cannot connect to the timeline (threadline.url)")?;
        let until = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await?;
        let schema = option("schema").unwrap_or(&settings.threadline.schema).parse()?;
        Ok(Self { forwarder: forwarder.id.clone(), connection, schema, until })
    }

    /// Everything of the kind that is there by now counts, from now on and for everybody.
    ///
    /// # Errors
    /// When the server is away, or the timeline has no table for it.
    pub(crate) async fn record(&mut self) -> anyhow::Result<()> {
        Adoption::declare(&mut self.connection, &self.schema, self.forwarder.as_str(), self.until)
            .await
            .context("cannot record the adoption in audit_adoptions: run `threadline install`, and grant select and insert on it")
    }

    /// Those of these events that the timeline holds.
    ///
    /// # Errors
    /// When the server is away.
    pub(crate) async fn find(&mut self, events: &[Uuid]) -> anyhow::Result<HashSet<Uuid>> {
        Adoption::Before(self.until)
            .find(&mut self.connection, &self.schema.actions(), events)
            .await
            .context("cannot read the timeline's audit_actions")
    }
}

fn choose<'a>(settings: &'a Settings, asked: Option<&ForwarderId>) -> anyhow::Result<&'a ForwarderSettings> {
    let into_timelines = || settings.forwarder.iter().filter(|one| one.kind == KIND);
    if let Some(asked) = asked {
        let found = into_timelines().find(|one| one.id == *asked);
        return found.with_context(|| {
            format!("--accept-foreign-ids is about a forwarder of kind {KIND}, which {asked} is not: it has no timeline to look into")
        });
    }
    let Some(first) = into_timelines().next() else {
        bail!("--accept-foreign-ids is about a forwarder of kind {KIND}, and none is configured");
    };
    ensure!(
        into_timelines().count() == 1,
        "several forwarders are of kind {KIND}: choose the one in whose timeline Sigra's forwarder wrote, with --forwarder"
    );
    Ok(first)
}
