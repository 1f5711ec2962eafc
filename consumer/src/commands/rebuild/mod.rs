//! `consumer rebuild`: builds the projection of one forwarder again from its source, during live traffic, and swaps it in at once.
//!
//! A [second table](threadline::shadow) is filled from all audit rows with today's mapping, kept in step with what arrives
//! meanwhile, compared with the source, and swapped in. What a host recorded by itself, and actions whose events are gone,
//! are carried over as they are. The table that was there stays, in step, until an operator drops it.

mod change_replayer;
mod check;
mod fill;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use common::{
    failpoint,
    identifier::ForwarderId,
    outbox::reader::lease::{self, Lease},
    process::{
        console::{self, ProgressBar},
        operator_log::{self, ActionKind, OperatorAction},
        shutdown::{self, Interrupted},
    },
    session::Session,
    settings::Settings,
};
use sqlx::PgConnection;
use threadline::{
    ActionTable, Adoption,
    shadow::{Shadow, ShadowError, State},
    stored::Window,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::projection::{
    self, Projection,
    comparison::{ComparisonInput, compare},
    comparison_report::{Bucketing, ComparisonReport, Finding},
    unfinished_rebuild,
};
use change_replayer::{CatchUpMode, ChangeReplayer};
use check::Check;

/// Rows written, or changes carried over, with one statement.
const CHUNK: usize = 1_000;

/// How long another process waits before it takes over from one that was killed.
const LEASE: Duration = Duration::from_secs(60);

/// Below so many changes the rest is carried over while writers wait.
const LAST_CHANGES: i64 = 200;

/// How often actions of the host that differ are compared behind the changes of the time in between.
const VERIFICATIONS: u32 = 5;

const WHAT: &str = "What is built";
const INSTEAD: &str = "Instead of building and swapping";

/// What is to be done.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Rebuild {
    /// Which forwarder of kind threadline; may be left out when there is one.
    #[arg(long, help_heading = WHAT)]
    forwarder: Option<ForwarderId>,
    /// Stops when the new table is filled and verified: a later `consumer rebuild` catches up and swaps it in.
    #[arg(long, help_heading = INSTEAD, conflicts_with_all = ["rollback", "drop_old"])]
    no_swap: bool,
    /// Puts the table that was there before the last swap back in place, with everything that has arrived since.
    #[arg(long, alias = "back", help_heading = INSTEAD, conflicts_with = "drop_old")]
    rollback: bool,
    /// Leaves out all events that another forwarder, such as Sigra's own, has brought in under ids of its own. Without it those
    /// that were adopted once, by `publisher backfill --accept-foreign-ids`.
    #[arg(long, alias = "adopt", help_heading = WHAT)]
    accept_foreign_ids: bool,
    /// Removes the other table: the old one after a swap, or a new one that is not wanted any more.
    #[arg(long, alias = "finish", help_heading = INSTEAD)]
    drop_old: bool,
    /// Prints a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Does it.
///
/// # Errors
/// When a server is away, the new table does not verify, or the timeline is too busy for the swap. What readers see has not
/// changed then.
pub(crate) async fn run(settings: &Settings, asked: Rebuild) -> anyhow::Result<()> {
    let projection = Projection::resolve(settings, asked.forwarder.as_ref()).await?;
    let mut source = projection.source(settings).await?;
    // One at a time, and a killed process releases it after a minute.
    let lease = Lease::new(unfinished_rebuild::lease_name(&projection.forwarder.id), LEASE);
    let Some(until) = lease.acquire(&mut source).await? else {
        let holder = lease::holder(&mut source, lease.name()).await?;
        bail!(
            "forwarder {} is being rebuilt already by {}: wait for its end, or stop that process; its claim ends {} s after \
             its death",
            projection.forwarder.id,
            holder.as_deref().unwrap_or("a process that has just ended"),
            LEASE.as_secs()
        );
    };
    let interrupted = shutdown::on_signal()?;
    let done = CancellationToken::new();
    let mut keep = std::pin::pin!(lease.keep(&projection.database, until, &done));
    let result = tokio::select! {
        result = work(settings, &projection, &mut source, &asked) => result,
        // Not before the lease is given back: the next process need not wait for its end.
        () = interrupted.cancelled() => Err(Interrupted(
            "what has been written to the new table stays, and readers see what they saw; the same command continues",
        ).into()),
        () = &mut keep => bail!("the lease was lost: another process may be at a rebuild. Nothing was put in place"),
    };
    done.cancel();
    keep.await;
    result
}

async fn work(
    settings: &Settings,
    projection: &Projection,
    source: &mut Session,
    asked: &Rebuild,
) -> anyhow::Result<()> {
    let mut rebuilding = Rebuilding::begin(settings, projection, asked.accept_foreign_ids).await?;
    let state = rebuilding.shadow.state(&mut rebuilding.timeline).await?;
    if asked.drop_old {
        ensure!(state != State::None, "there is no other table to remove");
        rebuilding.shadow.remove(&mut rebuilding.timeline).await?;
        return done(source, projection, ActionKind::RebuildFinish, asked, "the other table is removed", 0)
            .await;
    }
    if asked.rollback {
        ensure!(
            state == State::Kept,
            "there is no table to go back to: none has been swapped, or --drop-old removed it"
        );
        rebuilding.shadow.refuse_what_would_be_undone(&mut rebuilding.timeline).await?;
        rebuilding.swap(CatchUpMode::Copy, State::Kept).await?;
        return done(
            source,
            projection,
            ActionKind::RebuildBack,
            asked,
            "the table from before is back in place",
            0,
        )
        .await;
    }
    match state {
        State::Kept => bail!(
            "the table from before the last swap is still there: --rollback puts it back, --drop-old removes it and makes room"
        ),
        State::None | State::Abandoned | State::Foreign => {
            rebuilding.shadow.create(&mut rebuilding.timeline).await?;
        }
        State::Filling | State::Filled => {
            // The swap looks again; nobody is to wait for the filling only to be refused then.
            rebuilding.shadow.refuse_what_cannot_be_completed(&mut rebuilding.timeline).await?;
            tracing::info!("continuing the rebuild that was begun");
        }
    }
    let written = if state == State::Filled { 0 } else { rebuilding.fill(source).await? };
    rebuilding.build_indexes().await?;
    rebuilding.catch_up(CatchUpMode::Map, LAST_CHANGES).await?;
    rebuilding.verify(source).await?;
    if asked.no_swap {
        return done(
            source,
            projection,
            ActionKind::Rebuild,
            asked,
            "the new table is filled and verified",
            written,
        )
        .await;
    }
    rebuilding.swap(CatchUpMode::Map, State::Filled).await?;
    let said = "the new table is in place; --rollback puts the old one back, --drop-old removes it";
    done(source, projection, ActionKind::Rebuild, asked, said, written).await
}

async fn done(
    source: &mut Session,
    projection: &Projection,
    kind: ActionKind,
    asked: &Rebuild,
    said: &str,
    count: u64,
) -> anyhow::Result<()> {
    let (actor, filter) = (operator_log::operator(), format!("forwarder {}", projection.forwarder.id));
    operator_log::record(
        source,
        &OperatorAction { actor: &actor, kind, filter: &filter, count, reason: None },
    )
    .await?;
    console::print(&if asked.json {
        format!(
            "{}\n",
            serde_json::json!({ "forwarder": projection.forwarder.id, "done": kind, "actions": count })
        )
    } else if count > 0 {
        format!("{count} actions written; {said}\n")
    } else {
        format!("{said}\n")
    });
    Ok(())
}

struct Rebuilding<'a> {
    settings: &'a Settings,
    projection: &'a Projection,
    shadow: Shadow,
    table: ActionTable,
    timeline: PgConnection,
    /// Which events are left out because another forwarder has brought them in.
    adoption: Adoption,
}

impl<'a> Rebuilding<'a> {
    async fn begin(settings: &'a Settings, projection: &'a Projection, adopt: bool) -> anyhow::Result<Self> {
        let timeline = projection
            .timeline
            .database()
            .connect_directly()
            .await
            .context("cannot connect to the timeline")?;
        let shadow = Shadow::of(projection.timeline.schema());
        let adoption = projection.adoption(adopt).await?;
        Ok(Self { settings, projection, table: shadow.table(), shadow, timeline, adoption })
    }

    /// Another connection to the timeline.
    async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(self.projection.timeline.database().connect_directly().await?)
    }

    /// Builds the indexes that the new table lacks: those of the timeline and those of the host.
    async fn build_indexes(&mut self) -> anyhow::Result<()> {
        let lacking = self.shadow.lacking_indexes(&mut self.timeline).await?;
        let bar = ProgressBar::new("building indexes", lacking.len() as u64);
        for (n, index) in lacking.iter().enumerate() {
            let name = &index.name;
            let built = self.shadow.build_index(&mut self.timeline, index).await;
            built.with_context(|| format!("cannot build the like of index {name} on the new table"))?;
            tracing::info!("built index {} of {} of the new table, the like of {name}", n + 1, lacking.len());
            failpoint::reach("rebuild.indexed");
            bar.advance(1);
        }
        bar.finish();
        Ok(self.shadow.analyze(&mut self.timeline).await?)
    }

    /// Carries over what has changed, until no more than `few` changes wait.
    async fn catch_up(&self, mode: CatchUpMode, few: i64) -> anyhow::Result<()> {
        let mut replayer = ChangeReplayer::connect(self, mode).await?;
        let waiting = self.shadow.count(&mut replayer.timeline, i64::MAX - 1).await?;
        let bar = ProgressBar::new("catching up", waiting.unwrap_or_default().unsigned_abs());
        while self.shadow.waits(&mut replayer.timeline, few).await? {
            bar.advance(replayer.apply_chunk().await?);
        }
        bar.finish();
        Ok(())
    }

    /// Carries over what has changed up to now; what comes meanwhile is for later.
    async fn catch_up_to_now(&self) -> anyhow::Result<()> {
        let mut replayer = ChangeReplayer::connect(self, CatchUpMode::Map).await?;
        let last = self.shadow.last_change(&mut replayer.timeline).await?;
        while self.shadow.waits_up_to(&mut replayer.timeline, last).await? {
            replayer.apply_chunk().await?;
        }
        Ok(())
    }

    /// Source and new table must be equal, except what was carried over and what is on its way.
    async fn verify(&mut self, source: &mut Session) -> anyhow::Result<()> {
        let bar = ProgressBar::new("verifying", projection::estimated_rows(source, self.settings).await?);
        let input = ComparisonInput {
            actions: &self.table,
            ..self.projection.comparison_input(self.settings, self.adoption)
        };
        let mut findings = ComparisonReport::new(Bucketing::Whole, 20);
        let mut check = Check { rebuilding: self, bar: &bar, faults: Vec::new() };
        compare(&input, Window::default(), &mut findings, &mut check).await?;
        let faults = check.faults;
        bar.finish();
        ensure!(
            faults.is_empty(),
            "the new table does not verify, and was not put in place: {} row(s) are not what the source says, such as {}. \
             It stays for a look (audit_actions_shadow); --drop-old removes it",
            faults.len(),
            faults.iter().take(5).map(Uuid::to_string).collect::<Vec<_>>().join(", ")
        );
        // What was carried over must be the same. Changes may be on their way: what differs is compared again behind them.
        let mut foreign = self.shadow.foreign_differences(&mut self.timeline, None).await?;
        for _ in 0..VERIFICATIONS {
            if foreign.is_empty() {
                break;
            }
            self.catch_up_to_now().await?;
            foreign = self.shadow.foreign_differences(&mut self.timeline, Some(&foreign)).await?;
        }
        ensure!(
            foreign.is_empty(),
            "the new table does not verify, and was not put in place: {} action(s) of the host, or values in columns of \
             its own, are not the same, such as {}",
            foreign.len(),
            foreign[0]
        );
        let pending = findings.count(Finding::Pending);
        tracing::info!(matched = findings.count(Finding::Matched), pending, "verified the new table");
        Ok(())
    }

    async fn swap(&mut self, mode: CatchUpMode, from: State) -> anyhow::Result<()> {
        self.catch_up(mode, LAST_CHANGES).await?;
        let mut replayer = ChangeReplayer::connect(self, mode).await?;
        let mut last = async || {
            while self.shadow.waits(&mut replayer.timeline, 0).await? {
                replayer.apply_chunk().await.map_err(rejected)?;
            }
            Ok(())
        };
        let mut connection = self.projection.timeline.database().connect_directly().await?;
        self.shadow.swap(&mut connection, from, &mut last).await?;
        Ok(())
    }
}

fn rejected(error: anyhow::Error) -> ShadowError {
    match error.downcast::<sqlx::Error>() {
        Ok(error) => ShadowError::Database(error),
        Err(error) => ShadowError::Incompatible(errors::line(error.as_ref())),
    }
}
