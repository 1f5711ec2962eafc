//! The timeline as a projection of its source: what reconciliation, rebuild, receipts, replay and explain share.
//!
//! [`comparison`] walks both sides ([`source_scan`] the one), [`merge`] keeps them in step, [`watermark`] knows what may still be on its
//! way, [`comparison_report`] counts and sums up. [`continuous`] is the small form that runs all the time inside of `consumer run`,
//! with [`repair_attempts`]; [`repair`] is what `consumer reconcile --repair` does,
//! [`unfinished_rebuild`] what the doctor says of a rebuild.

pub(crate) mod comparison;
pub(crate) mod comparison_report;
pub(crate) mod continuous;
mod merge;
pub(crate) mod repair;
mod repair_attempts;
pub(crate) mod source_scan;
pub(crate) mod unfinished_rebuild;
pub(crate) mod watermark;

use anyhow::{Context as _, bail, ensure};
use common::{
    database::Database,
    identifier::ForwarderId,
    outbox,
    session::Session,
    settings::{ForwarderSettings, Settings, UsageError},
};
use threadline::{Adoption, check_schema};

use self::{comparison::ComparisonInput, watermark::SettledWatermark};
use crate::{APPLICATION, kinds::TimelineForwarder};

/// A forwarder into a timeline, with everything to read it.
pub(crate) struct Projection {
    pub(crate) forwarder: ForwarderSettings,
    pub(crate) timeline: TimelineForwarder,
    pub(crate) database: Database,
    pub(crate) watermark: SettledWatermark,
}

impl Projection {
    /// The requested one, or the only one.
    ///
    /// # Errors
    /// When there is none, or it is not clear which; or the broker is needed and away.
    pub(crate) async fn resolve(settings: &Settings, asked: Option<&ForwarderId>) -> anyhow::Result<Self> {
        let forwarder = threadline_forwarder(settings, asked)?.clone();
        let timeline = TimelineForwarder::of(&forwarder, settings)?;
        let database = Database::source(&settings.source, APPLICATION)?;
        let watermark = SettledWatermark::of(&forwarder, settings).await?;
        Ok(Self { forwarder, timeline, database, watermark })
    }

    /// A connection to the source, which has an outbox.
    ///
    /// # Errors
    /// When it is away or has none.
    pub(crate) async fn source(&self, settings: &Settings) -> anyhow::Result<Session> {
        let mut connection = outbox::reach(&self.database).await?;
        outbox::require(&mut connection, &settings.source.table).await?;
        Ok(connection)
    }

    /// What is compared.
    pub(crate) fn comparison_input<'a>(
        &'a self,
        settings: &'a Settings,
        adoption: Adoption,
    ) -> ComparisonInput<'a> {
        ComparisonInput {
            source: &self.database,
            audit: &settings.source.table,
            timeline: &self.timeline,
            actions: self.timeline.table(),
            forwarder: &self.forwarder.id,
            watermark: &self.watermark,
            adoption,
        }
    }

    /// Which events count as there that another forwarder has brought in: what was adopted once, or all of them if `asked`.
    ///
    /// # Errors
    /// When the timeline is away, or has no table of actions.
    pub(crate) async fn adoption(&self, asked: bool) -> anyhow::Result<Adoption> {
        let mut timeline =
            self.timeline.database().connect_directly().await.context("cannot connect to the timeline")?;
        let schema = self.timeline.schema();
        ensure!(
            check_schema(&mut timeline, schema).await?.is_installed,
            "there is no table {schema}.audit_actions in the timeline's database: run `threadline install --schema {schema}`, or \
             correct the forwarder's url or schema"
        );
        if asked {
            return Ok(Adoption::All);
        }
        Ok(Adoption::of(&mut timeline, schema, self.forwarder.id.as_str()).await?)
    }
}

/// The requested forwarder, or the only one into a timeline.
///
/// # Errors
/// When there is none, or it is not clear which.
pub(crate) fn threadline_forwarder<'a>(
    settings: &'a Settings,
    asked: Option<&ForwarderId>,
) -> anyhow::Result<&'a ForwarderSettings> {
    let into_timelines: Vec<&ForwarderSettings> =
        settings.forwarder.iter().filter(|one| one.kind == TimelineForwarder::KIND).collect();
    match (asked, into_timelines.as_slice()) {
        (Some(id), _) => settings
            .forwarder
            .iter()
            .find(|one| one.id == *id)
            .ok_or_else(|| UsageError(format!("no forwarder {id} is configured")).into()),
        (None, [one]) => Ok(one),
        (None, []) => {
            let what = "no forwarder of kind threadline is configured: there is nothing to compare with";
            bail!(UsageError(what.to_owned()))
        }
        (None, several) => {
            let ids: Vec<&str> = several.iter().map(|one| one.id.as_str()).collect();
            bail!(UsageError(format!(
                "several forwarders are of kind threadline: choose one with --forwarder ({})",
                ids.join(", ")
            )))
        }
    }
}

/// How many rows there are to walk past, as the server's statistics have it: counting would take as long as comparing.
pub(crate) async fn estimated_rows(connection: &mut Session, settings: &Settings) -> anyhow::Result<u64> {
    let estimate: i64 = sqlx::query_scalar(
        "select coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
         from pg_partition_tree($1::text::regclass) t join pg_class c on c.oid = t.relid
         union all
         select greatest(c.reltuples, 0)::bigint from pg_class c where c.oid = $1::text::regclass
         order by 1 desc limit 1",
    )
    .bind(settings.source.table.quoted())
    .fetch_one(connection)
    .await?;
    Ok(estimate.unsigned_abs())
}
