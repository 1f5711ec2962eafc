//! `consumer reconcile`: the timeline compared with its source, row by row.
//!
//! `comparison` walks both sides, `merge` keeps them in step, `watermark` knows what may still be on its way, `findings`
//! counts and sums up, `repair` mends, `seal` keeps a receipt. `standing` is the small form that runs all the time
//! inside of `consumer run`.

pub(crate) mod comparison;
pub(crate) mod comparison_report;
pub(crate) mod continuous;
mod merge;
mod repair;
mod repair_attempts;
pub(crate) mod seal;
pub(crate) mod source_scan;
pub(crate) mod watermark;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use common::{
    broker::LiveTrafficThrottle,
    console::{self, ProgressBar},
    database::Database,
    identifier::ForwarderId,
    outbox,
    session::Session,
    settings::{ForwarderSettings, Settings, UsageError},
    time_arg::{parse_time, to_rfc3339},
};
use threadline::{Adoption, stored::Window};
use time::{Duration, OffsetDateTime};

use self::{
    comparison::{ComparisonInput, ReportOnly, compare},
    comparison_report::{Bucketing, ComparisonReport, Finding},
    repair::RepairHandler,
    watermark::SettledWatermark,
};
use crate::{APPLICATION, forwarders::Timeline};

/// What is compared, and what is done about it.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Reconcile {
    /// Which forwarder of kind threadline; may be left out when there is one.
    #[arg(long)]
    forwarder: Option<ForwarderId>,
    /// Events that happened at or after this time: RFC 3339, a date (in UTC), or so long ago, such as `2h`.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Events that happened before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<OffsetDateTime>,
    /// Counts and digests of each part of the window.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// How many ids of each finding are named.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Mends what it finds: missing events enter the log again, differing actions are written over.
    #[arg(long)]
    repair: bool,
    /// With --repair: removes actions that no event stands behind, for this reason. They are not removed otherwise: their
    /// events may have been deleted on purpose.
    #[arg(long, value_name = "REASON", requires = "repair")]
    remove_extra: Option<String>,
    /// Counts all events as there that another forwarder, such as Sigra's own, has brought in under ids of its own. Without it
    /// those that were adopted once, by `publisher backfill --accept-foreign-ids`.
    #[arg(long, alias = "adopt")]
    accept_foreign_ids: bool,
    /// Closes the window with a receipt, if both sides are equal. Without --since the window begins where the last
    /// receipt ends, without --until it ends at the last full minute up to which everything is settled.
    #[arg(long, conflicts_with_all = ["repair", "by"])]
    seal: bool,
    /// Prints a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The length of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

impl By {
    fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::HOUR,
            Self::Day => Duration::DAY,
        }
    }
}

/// A forwarder into a timeline, with everything to look at it.
pub(crate) struct Projection {
    pub(crate) forwarder: ForwarderSettings,
    pub(crate) timeline: Timeline,
    pub(crate) database: Database,
    pub(crate) watermark: SettledWatermark,
}

impl Projection {
    /// The one that is asked for, or the only one.
    ///
    /// # Errors
    /// When there is none, or it is not clear which; or the broker is needed and away.
    pub(crate) async fn resolve(settings: &Settings, asked: Option<&ForwarderId>) -> anyhow::Result<Self> {
        let forwarder = threadline_forwarder(settings, asked)?.clone();
        let timeline = Timeline::of(&forwarder, settings)?;
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
    /// When the timeline is away.
    pub(crate) async fn adoption(&self, asked: bool) -> anyhow::Result<Adoption> {
        if asked {
            return Ok(Adoption::All);
        }
        let mut timeline =
            self.timeline.database().connect_directly().await.context("cannot connect to the timeline")?;
        Ok(Adoption::of(&mut timeline, self.timeline.schema(), self.forwarder.id.as_str()).await?)
    }
}

/// The forwarder that is asked for, or the only one into a timeline.
///
/// # Errors
/// When there is none, or it is not clear which.
pub(crate) fn threadline_forwarder<'a>(
    settings: &'a Settings,
    asked: Option<&ForwarderId>,
) -> anyhow::Result<&'a ForwarderSettings> {
    let into_timelines: Vec<&ForwarderSettings> =
        settings.forwarder.iter().filter(|one| one.kind == "threadline").collect();
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

/// Compares, and repairs or seals if asked to.
///
/// # Errors
/// When a server is away; and when both sides are not equal and were not made so.
pub async fn run(settings: &Settings, asked: Reconcile) -> anyhow::Result<()> {
    let projection = Projection::resolve(settings, asked.forwarder.as_ref()).await?;
    let mut connection = projection.source(settings).await?;
    if asked.seal {
        return seal::run(settings, &projection, &mut connection, &asked).await;
    }
    let window = Window { since: asked.since, until: asked.until };
    let bucketing = asked.by.map_or(Bucketing::Whole, |by| Bucketing::Every(by.length()));
    let mut findings = ComparisonReport::new(bucketing, asked.limit);
    let input = projection.comparison_input(settings, projection.adoption(asked.accept_foreign_ids).await?);
    let bar = ProgressBar::new("comparing", estimated_rows(&mut connection, settings).await?);
    ensure!(
        asked.remove_extra.is_none() || projection.timeline.keeps_time(),
        UsageError(
            "with profile \"compat\" nobody can tell an action without an event from one whose event was deleted long ago: \
             nothing is removed"
                .to_owned()
        )
    );
    let repaired = if asked.repair {
        let description = describe_window(&projection.forwarder.id, window);
        let ids = std::slice::from_ref(&projection.forwarder.id);
        let throttle = LiveTrafficThrottle::of(&settings.broker, ids, APPLICATION).await?;
        let remove = asked.remove_extra.as_deref();
        let mut repairs = RepairHandler::begin(&bar, &input, throttle, &description, remove).await?;
        compare(&input, window, &mut findings, &mut repairs).await?;
        Some(repairs.count)
    } else {
        compare(&input, window, &mut findings, &mut ReportOnly(&bar)).await?;
        None
    };
    bar.finish();
    let report = findings.printed(&projection.forwarder.id, window, repaired);
    console::print(&if asked.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text() });
    let faults = findings.count(Finding::Missing)
        + findings.count(Finding::Extra)
        + findings.count(Finding::Differing);
    let left = faults - repaired.unwrap_or(0).min(faults);
    ensure!(
        findings.elsewhere == 0,
        "source and timeline are not equal: {left} row(s) differ. {} of them are in the timeline under ids of somebody else, and \
         --repair leaves these alone: if Sigra's own forwarder wrote them, `publisher backfill --accept-foreign-ids` remembers that they \
         are there (docs/switching.md); if not, `publisher backfill` delivers them under their own ids as well",
        findings.elsewhere
    );
    ensure!(
        left == 0,
        "source and timeline are not equal: {left} row(s) differ. --repair enters what is missing into the log again and \
         writes over what differs; `consumer explain <id>` shows what became of one"
    );
    Ok(())
}

fn describe_window(forwarder: &ForwarderId, window: Window) -> String {
    let since = window.since.map_or_else(|| "the beginning".to_owned(), to_rfc3339);
    let until = window.until.map_or_else(|| "now".to_owned(), to_rfc3339);
    format!("forwarder {forwarder}, from {since} to {until}")
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
