//! `consumer receipts`: the windows that were sealed, and whether both databases still hold what the receipts say.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use common::{
    database,
    identifier::ForwarderId,
    process::console::{self, ProgressBar},
    session::Session,
    settings::Settings,
    time_arg::to_rfc3339,
};
use serde::Serialize;
use threadline::{
    Receipt, StorageSchema,
    receipt::{self, verify_chain},
    signing,
    stored::{self, Outside, Window},
};
use time::OffsetDateTime;

use crate::{
    commands::reconcile::seal,
    projection::{
        Projection,
        comparison::{self, ReportOnly, compare},
        comparison_report::{Bucket, Bucketing, ComparisonReport, Finding},
    },
};

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ReceiptsCommand {
    /// Lists the receipts of a forwarder.
    List {
        /// Which forwarder; may be left out when there is one.
        #[arg(long)]
        forwarder: Option<ForwarderId>,
        /// Prints a JSON array instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Checks the chain and its signatures, and sums up again what both databases hold of each window.
    Verify {
        /// Which forwarder; may be left out when there is one.
        #[arg(long)]
        forwarder: Option<ForwarderId>,
        /// A public key that may have signed, in hexadecimal, as `receipts list --json` shows it; may be repeated. Without any
        /// a receipt's own key counts.
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        key: Vec<String>,
        /// The hash of a receipt that must be in the chain, as it was noted down elsewhere.
        #[arg(long, alias = "kept", value_name = "HASH", value_parser = signing::hash)]
        anchor: Option<String>,
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// A public key of Ed25519: 32 bytes.
fn public_key(text: &str) -> Result<String, String> {
    let is_key = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    let expected =
        "expected the 64 hexadecimal digits of a public key, as `consumer receipts list --json` shows it";
    if is_key { Ok(text.to_ascii_lowercase()) } else { Err(expected.to_owned()) }
}

/// Runs one of them.
///
/// # Errors
/// When a server is away; and when something does not verify.
pub(crate) async fn run(settings: &Settings, command: ReceiptsCommand) -> anyhow::Result<()> {
    match command {
        ReceiptsCommand::List { forwarder, json } => {
            let projection = Projection::resolve(settings, forwarder.as_ref()).await?;
            let chain = chain(&projection).await?;
            console::print(&if json {
                serde_json::to_string_pretty(&chain)? + "\n"
            } else {
                chain.iter().map(seal::text).collect()
            });
            Ok(())
        }
        ReceiptsCommand::Verify { forwarder, key, anchor, json } => {
            let projection = Projection::resolve(settings, forwarder.as_ref()).await?;
            verify(settings, &projection, &key, anchor.as_deref(), json).await
        }
    }
}

async fn chain(projection: &Projection) -> anyhow::Result<Vec<Receipt>> {
    let mut timeline =
        projection.timeline.database().connect().await.context("cannot connect to the timeline")?;
    let schema = projection.timeline.schema();
    let chain = receipt::chain(timeline.direct()?, schema, projection.forwarder.id.as_str()).await;
    chain.map_err(|error| unreadable(schema, error))
}

/// That receipts cannot be read, with the remedy.
pub(crate) fn unreadable(schema: &StorageSchema, error: sqlx::Error) -> anyhow::Error {
    let what = format!("cannot read {}", schema.table("audit_receipts"));
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let remedy = match code.as_deref() {
        // Not there, or not of this version.
        Some("42P01" | "42703") => format!(": run `threadline install --schema {schema}`"),
        Some("42501") => format!(
            ": this role lacks usage on schema {schema} or select on the table; use one that has them, or grant them as \
             deploy/postgres/timeline.sql does"
        ),
        _ => String::new(),
    };
    anyhow::Error::new(error).context(what + &remedy)
}

/// What has become of a sealed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The timeline holds exactly what it held.
    Intact,
    /// The same window was sealed again later: that receipt counts.
    Superseded,
    /// More events came into the window later; source and timeline agree.
    Grown,
    /// Retention has removed all of it.
    Purged,
    /// Retention has removed its beginning: what is left cannot be summed up to the same digest.
    PartlyPurged,
    /// The timeline was changed: the source still says what the receipt says.
    TimelineChanged,
    /// Neither side says what the receipt says.
    Changed,
}

impl State {
    fn is_fault(self) -> bool {
        matches!(self, Self::TimelineChanged | Self::Changed)
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Superseded => "sealed again later",
            Self::Grown => "more events came later; source and timeline agree",
            Self::Purged => "purged by retention",
            Self::PartlyPurged => "partly purged by retention, cannot be summed up",
            Self::TimelineChanged => "THE TIMELINE WAS CHANGED",
            Self::Changed => "NEITHER SIDE HOLDS WHAT WAS SEALED",
        }
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    n: i64,
    since: String,
    until: String,
    state: State,
    sealed: i64,
    found: u64,
    missing: u64,
    extra: u64,
    differing: u64,
}

#[derive(Debug, Serialize)]
struct Verification {
    forwarder: String,
    holds: bool,
    /// Whether signatures were compared with keys that were given; else a receipt's own key counts.
    signatures_are_compared: bool,
    faults: Vec<String>,
    windows: Vec<Verified>,
    /// Actions that no receipt vouches for.
    outside: Outside,
    /// The hash of the last receipt: note it down elsewhere, and give it to `--anchor` later.
    end: Option<String>,
}

async fn verify(
    settings: &Settings,
    projection: &Projection,
    key: &[String],
    kept: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let mut connection = projection.source(settings).await?;
    let chain = chain(projection).await?;
    let faults = verify_chain(&chain, key, kept);
    let (windows, outside) = if chain.is_empty() {
        Default::default()
    } else {
        check_receipts(settings, projection, &mut connection, &chain).await?
    };
    let holds = faults.is_empty() && windows.iter().all(|window| !window.state.is_fault());
    let verification = Verification {
        forwarder: projection.forwarder.id.to_string(),
        holds,
        signatures_are_compared: !key.is_empty(),
        faults,
        windows,
        outside,
        end: chain.last().map(|last| last.hash.clone()),
    };
    console::print(&if json {
        serde_json::to_string_pretty(&verification)? + "\n"
    } else {
        verification.text()
    });
    ensure!(holds, "the receipts of forwarder {} do not verify", projection.forwarder.id);
    Ok(())
}

/// One walk over all windows.
async fn check_receipts(
    settings: &Settings,
    projection: &Projection,
    connection: &mut Session,
    chain: &[Receipt],
) -> anyhow::Result<(Vec<Verified>, Outside)> {
    // Windows do not overlap, but one may have been sealed more than once.
    let mut windows: Vec<(OffsetDateTime, OffsetDateTime)> =
        chain.iter().map(|receipt| (receipt.since, receipt.until)).collect();
    windows.sort_unstable();
    windows.dedup();
    let window = Window {
        since: windows.first().map(|first| first.0),
        until: windows.iter().map(|window| window.1).max(),
    };
    let bucketing = Bucketing::At(windows.clone());
    let mut findings = ComparisonReport::new(bucketing, 0);
    let bar = ProgressBar::new("summing up", crate::projection::estimated_rows(connection, settings).await?);
    let adoption = projection.adoption(false).await?;
    compare(&projection.comparison_input(settings, adoption), window, &mut findings, &mut ReportOnly(&bar))
        .await?;
    bar.finish();
    let source_from =
        comparison::first_event(connection, &settings.source.table, &projection.timeline).await?;
    let mut timeline = projection.timeline.database().connect().await?;
    let (schema, table) = (projection.timeline.schema(), projection.timeline.table());
    let timeline_from = stored::oldest(timeline.direct()?, schema, table).await?;
    let mut all = database::read_only_scan(&mut timeline).await?;
    let outside = stored::outside(all.direct()?, projection.timeline.table(), &windows).await?;
    all.rollback().await?;
    let checked = chain.iter().enumerate().map(|(place, receipt)| {
        let window = (receipt.since, receipt.until);
        let bucket = windows.binary_search(&window).map(|index| findings.bucket(index)).unwrap_or_default();
        let again = chain[place + 1..].iter().any(|later| (later.since, later.until) == window);
        let state = if again {
            State::Superseded
        } else {
            receipt_state(receipt, &bucket, source_from, timeline_from)
        };
        verified(receipt, &bucket, state)
    });
    Ok((checked.collect(), outside))
}

/// Retention removes what is oldest: a window that has lost actions, while older ones are still there, has not met it.
fn receipt_state(
    receipt: &Receipt,
    bucket: &Bucket,
    source_from: Option<OffsetDateTime>,
    timeline_from: Option<OffsetDateTime>,
) -> State {
    let sealed = receipt.actions.unsigned_abs();
    let first = receipt.first_at.unwrap_or(receipt.since);
    if bucket.timeline.to_string() == receipt.digest {
        State::Intact
    } else if sealed > 0 && timeline_from.is_none_or(|from| from >= receipt.until) {
        State::Purged
    } else if sealed > 0 && timeline_from.is_some_and(|from| from > first) {
        State::PartlyPurged
    } else if bucket.source.to_string() == receipt.digest {
        State::TimelineChanged
    } else if bucket.is_equal()
        && bucket.timeline.rows() > sealed
        && source_from.is_some_and(|from| from <= first)
    {
        State::Grown
    } else {
        State::Changed
    }
}

fn verified(receipt: &Receipt, bucket: &Bucket, state: State) -> Verified {
    let count = |finding| bucket.count(finding);
    Verified {
        n: receipt.n,
        since: to_rfc3339(receipt.since),
        until: to_rfc3339(receipt.until),
        state,
        sealed: receipt.actions,
        found: bucket.timeline.rows(),
        missing: count(Finding::Missing),
        extra: count(Finding::Extra),
        differing: count(Finding::Differing),
    }
}

impl Verification {
    fn text(&self) -> String {
        let mut text = String::new();
        for window in &self.windows {
            let Verified { n, since, until, state, sealed, found, .. } = window;
            let _ = write!(text, "receipt {n}: {since} to {until}: {}", state.describe());
            if !matches!(state, State::Intact | State::Superseded) {
                let _ = write!(text, " ({sealed} sealed, {found} found");
                for (count, name) in
                    [(window.missing, "missing"), (window.extra, "extra"), (window.differing, "differing")]
                {
                    if count > 0 {
                        let _ = write!(text, ", {count} {name}");
                    }
                }
                text += ")";
            }
            text += "\n";
        }
        let Outside { before, between, behind } = self.outside;
        for (count, place, then) in [
            (
                before,
                "before the first window",
                ": `consumer reconcile --seal --since … --until …` seals them",
            ),
            (between, "between windows", ": `consumer reconcile --seal --since … --until …` seals them"),
            (behind, "behind the last window", ", which the next receipt will cover"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{count} action(s) lie {place} and are covered by no receipt{then}");
            }
        }
        for fault in &self.faults {
            let _ = writeln!(text, "FAULT: {fault}");
        }
        if self.end.is_some() && !self.signatures_are_compared {
            text.push_str(
                "signatures were not compared with a key: without --key whoever may write receipts may have made these\n",
            );
        }
        match &self.end {
            Some(end) if self.holds => {
                let _ = writeln!(text, "the chain holds; its end is {end}: note it down elsewhere");
            }
            Some(_) => {}
            None => text.push_str("there are no receipts: `consumer reconcile --seal` writes one\n"),
        }
        text
    }
}
