//! `consumer receipts`: the windows that were sealed, and whether both databases still hold what the receipts say.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use common::{
    console::{self, Bar},
    identifier::ForwarderId,
    moment::written,
    settings::Settings,
};
use serde::Serialize;
use sqlx::PgConnection;
use threadline::{
    Receipt,
    receipt::{self, broken},
    stored::Window,
};
use time::OffsetDateTime;

use crate::reconcile::{
    Subject, comparison,
    comparison::{LookOnly, compare},
    seal,
    tally::{Cut, Finding, Part, Tally},
};

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum ReceiptsCommand {
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
        /// The only public key that may have signed, in hexadecimal: as `receipts list --json` shows it.
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
        /// The hash of a receipt that must be in the chain, as it was noted down elsewhere.
        #[arg(long, value_name = "HASH")]
        kept: Option<String>,
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
///
/// # Errors
/// When a server is away; and when something does not verify.
pub async fn run(settings: &Settings, command: ReceiptsCommand) -> anyhow::Result<()> {
    match command {
        ReceiptsCommand::List { forwarder, json } => {
            let subject = Subject::choose(settings, forwarder.as_ref()).await?;
            let chain = chain(&subject).await?;
            console::answer(&if json {
                serde_json::to_string_pretty(&chain)? + "\n"
            } else {
                chain.iter().map(seal::text).collect()
            });
            Ok(())
        }
        ReceiptsCommand::Verify { forwarder, key, kept, json } => {
            let subject = Subject::choose(settings, forwarder.as_ref()).await?;
            verify(settings, &subject, key.as_deref(), kept.as_deref(), json).await
        }
    }
}

async fn chain(subject: &Subject) -> anyhow::Result<Vec<Receipt>> {
    let mut timeline =
        subject.timeline.database().connect().await.context("cannot connect to the timeline")?;
    receipt::chain(&mut timeline, subject.timeline.schema(), subject.forwarder.id.as_str())
        .await
        .context("cannot read audit_receipts: run `threadline install`")
}

/// What has become of a sealed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The timeline holds exactly what it held.
    Intact,
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

    fn words(self) -> &'static str {
        match self {
            Self::Intact => "intact",
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
    faults: Vec<String>,
    windows: Vec<Verified>,
    /// The hash of the last receipt: note it down elsewhere, and give it to `--kept` later.
    end: Option<String>,
}

async fn verify(
    settings: &Settings,
    subject: &Subject,
    key: Option<&str>,
    kept: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let mut connection = subject.source(settings).await?;
    let chain = chain(subject).await?;
    let faults = broken(&chain, key, kept);
    let windows =
        if chain.is_empty() { Vec::new() } else { look(settings, subject, &mut connection, &chain).await? };
    let holds = faults.is_empty() && windows.iter().all(|window| !window.state.is_fault());
    let verification = Verification {
        forwarder: subject.forwarder.id.to_string(),
        holds,
        faults,
        windows,
        end: chain.last().map(|last| last.hash.clone()),
    };
    console::answer(&if json {
        serde_json::to_string_pretty(&verification)? + "\n"
    } else {
        verification.text()
    });
    ensure!(holds, "the receipts of forwarder {} do not verify", subject.forwarder.id);
    Ok(())
}

/// One walk over all windows.
async fn look(
    settings: &Settings,
    subject: &Subject,
    connection: &mut PgConnection,
    chain: &[Receipt],
) -> anyhow::Result<Vec<Verified>> {
    let cut = Cut::At(chain.iter().map(|receipt| (receipt.since, receipt.until)).collect());
    let window =
        Window { since: chain.first().map(|first| first.since), until: chain.last().map(|last| last.until) };
    let mut tally = Tally::new(cut, 0);
    let bar = Bar::new("summing up", crate::reconcile::rows(connection, settings).await?);
    compare(&subject.sides(settings), window, &mut tally, &mut LookOnly(&bar)).await?;
    bar.finish();
    let oldest = comparison::oldest_event(connection, &settings.source.table, &subject.timeline).await?;
    Ok(chain.iter().zip(0..).map(|(receipt, index)| judge(receipt, &tally.part(index), oldest)).collect())
}

fn judge(receipt: &Receipt, part: &Part, oldest: Option<OffsetDateTime>) -> Verified {
    let count = |finding| part.count(finding);
    let sealed = receipt.actions.unsigned_abs();
    let purged_before = |at: Option<OffsetDateTime>| match (at, receipt.first_at) {
        (Some(now), Some(then)) => now > then,
        (None, then) => then.is_some(),
        (_, None) => false,
    };
    // The source's own retention: events of the window that are gone there say nothing about the timeline.
    let source_gone = oldest.is_none_or(|oldest| receipt.first_at.is_some_and(|first| oldest > first));
    let state = if part.timeline.to_string() == receipt.digest {
        State::Intact
    } else if part.timeline.rows() == 0 && part.source.rows() == 0 {
        State::Purged
    } else if part.source.to_string() == receipt.digest {
        State::TimelineChanged
    } else if part.is_equal() && part.timeline.rows() > sealed && !source_gone {
        State::Grown
    } else if purged_before(part.first_at) && part.timeline.rows() < sealed && part.is_equal() {
        State::PartlyPurged
    } else {
        State::Changed
    };
    Verified {
        n: receipt.n,
        since: written(receipt.since),
        until: written(receipt.until),
        state,
        sealed: receipt.actions,
        found: part.timeline.rows(),
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
            let _ = write!(text, "receipt {n}: {since} to {until}: {}", state.words());
            if *state != State::Intact {
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
        for fault in &self.faults {
            let _ = writeln!(text, "FAULT: {fault}");
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
