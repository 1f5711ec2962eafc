//! `consumer reconcile`: the timeline compared with its source, row by row.
//!
//! What compares and repairs is in `projection`; `seal` keeps a receipt. `projection::continuous` is the small form that runs
//! all the time inside of `consumer run`.

pub(crate) mod seal;

use anyhow::ensure;
use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use common::{
    broker::LiveTrafficThrottle,
    identifier::ForwarderId,
    process::console::{self, ProgressBar},
    settings::{Settings, UsageError},
    time_arg::{parse_time, require_range, to_rfc3339},
};
use threadline::stored::Window;
use time::{Duration, OffsetDateTime};

use crate::{
    APPLICATION,
    projection::{
        Projection,
        comparison::{ReportOnly, compare},
        comparison_report::{Bucketing, ComparisonReport, Finding},
        estimated_rows,
        repair::RepairHandler,
    },
};

const WHAT: &str = "What is compared";
const SHOWN: &str = "What is shown";
const DONE: &str = "What is done about it";

/// What is compared, and what is done about it.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Reconcile {
    /// Which forwarder of kind threadline; may be left out when there is one.
    #[arg(long, help_heading = WHAT)]
    forwarder: Option<ForwarderId>,
    /// Events that happened at or after this time: RFC 3339, a date (in UTC), or so long ago, such as `2h`.
    #[arg(long, value_name = "TIME", help_heading = WHAT, value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// Events that happened before this time.
    #[arg(long, value_name = "TIME", help_heading = WHAT, value_parser = parse_time)]
    until: Option<OffsetDateTime>,
    /// Counts and digests of each part of the window.
    #[arg(long, value_enum, help_heading = SHOWN)]
    by: Option<By>,
    /// How many ids of each finding are named.
    #[arg(long, default_value_t = 20, value_name = "N", help_heading = SHOWN)]
    limit: usize,
    /// Repairs what it finds: missing events enter the log again, differing actions are overwritten.
    #[arg(long, help_heading = DONE)]
    repair: bool,
    /// With --repair: removes actions that no event stands behind, for this reason. They are not removed otherwise: their
    /// events may have been deleted on purpose.
    #[arg(long, value_name = "REASON", help_heading = DONE, requires = "repair", value_parser = NonEmptyStringValueParser::new())]
    remove_extra: Option<String>,
    /// Counts all events as there that another forwarder, such as Sigra's own, has brought in under ids of its own. Without it
    /// those that were adopted once, by `publisher backfill --accept-foreign-ids`.
    #[arg(long, alias = "adopt", help_heading = WHAT)]
    accept_foreign_ids: bool,
    /// Closes the window with a receipt, if both sides are equal. Without --since the window begins where the last
    /// receipt ends, without --until it ends at the last full minute up to which everything is settled.
    #[arg(long, help_heading = DONE, conflicts_with_all = ["repair", "by"])]
    seal: bool,
    /// With --seal: signs nothing, although the last receipt is signed. From then on the chain does not verify with a public key.
    #[arg(long, help_heading = DONE, requires = "seal", conflicts_with = "new_key")]
    unsigned: bool,
    /// With --seal: goes on with another key than the last receipt's. From then on the public halves of both are given to verification.
    #[arg(long, help_heading = DONE, requires = "seal")]
    new_key: bool,
    /// Prints a JSON object instead of text.
    #[arg(long, help_heading = SHOWN)]
    json: bool,
}

impl Reconcile {
    /// Whether a receipt is to be written.
    pub(crate) fn seals(&self) -> bool {
        self.seal
    }
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

/// Compares, and repairs or seals if requested.
///
/// # Errors
/// When a server is away; and when both sides are not equal and were not made so.
pub(crate) async fn run(settings: &Settings, asked: Reconcile) -> anyhow::Result<()> {
    require_range(asked.since, asked.until)?;
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
            "with profile \"compat\" an action without an event looks like one whose event was deleted long ago: \
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
        "source and timeline are not equal: {left} row(s) differ. {} of them are in the timeline under ids of another system, and \
         --repair leaves these alone: if Sigra's own forwarder wrote them, `publisher backfill --accept-foreign-ids` remembers that they \
         are there (docs/switching.md); if not, `publisher backfill` delivers them under their own ids as well",
        findings.elsewhere
    );
    ensure!(
        left == 0 || repaired.is_none(),
        "source and timeline are not equal: {left} row(s) differ and are left as they are. --repair removes an action that no event \
         stands behind with --remove-extra REASON only; `consumer explain <id>` shows what became of one"
    );
    ensure!(
        left == 0,
        "source and timeline are not equal: {left} row(s) differ. --repair enters what is missing into the log again and \
         overwrites what differs; `consumer explain <id>` shows what became of one"
    );
    Ok(())
}

fn describe_window(forwarder: &ForwarderId, window: Window) -> String {
    let since = window.since.map_or_else(|| "the beginning".to_owned(), to_rfc3339);
    let until = window.until.map_or_else(|| "now".to_owned(), to_rfc3339);
    format!("forwarder {forwarder}, from {since} to {until}")
}
