//! The continuous reconciliation inside of `consumer run`: by marks and without any clock. What the log held up to a mark that the
//! forwarder is past must be in its timeline or among its failures; what is in neither enters the log again.
//!
//! It sees what an unlucky broker does (messages deleted, acknowledged data lost without a trace), not what a person does to
//! the timeline later: that is `consumer reconcile`'s. One process does it, however many run.

use std::{collections::HashSet, time::Duration};

use common::{
    broker::LiveTrafficThrottle,
    database::Database,
    failures::{self, Reason},
    identifier::{ForwarderId, TableName},
    outbox::{
        reader::{entries::Entry, lease::Lease, pages::Pages, rounds::Round},
        reconcile_cursor::{self, ReconcileCursor},
        system_identifier,
    },
    process::{health::Progress, telemetry::names},
    session::Session,
    settings::ReconcileSettings,
};
use metrics::{counter, gauge};
use sqlx::PgConnection;
use threadline::{Adoption, stored};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    repair_attempts::{self, MAX_REPAIRS, RepairAttempts},
    watermark::SettledWatermark,
};
use crate::{kinds::TimelineForwarder, projection::repair};

/// Entries looked up with one statement.
const PAGE_ROWS: usize = 1_000;

/// How long a round may take; what is left is the next one's.
const ROUND_MAX: Duration = Duration::from_secs(600);

/// How long another process waits before it takes over.
const LEASE: Duration = Duration::from_secs(60);

/// Compares what one forwarder has settled with its timeline, again and again.
pub(crate) struct ContinuousReconciler {
    pub(crate) forwarder: ForwarderId,
    pub(crate) database: Database,
    pub(crate) audit: TableName,
    pub(crate) timeline: TimelineForwarder,
    pub(crate) watermark: SettledWatermark,
    pub(crate) throttle: LiveTrafficThrottle,
    pub(crate) settings: ReconcileSettings,
    pub(crate) progress: Progress,
}

/// What a round found.
#[derive(Debug, Default, Clone, Copy)]
struct RoundResult {
    checked: u64,
    missing: u64,
    /// Of these, those that have been delivered again and again without effect.
    ineffective: u64,
}

impl ContinuousReconciler {
    /// Compares at its interval until `shutdown`. A round that fails is logged and tried again.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let lease = Lease::new(format!("reconcile-{}", self.forwarder), LEASE);
        let mut attempts = RepairAttempts::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(self.settings.interval) => {}
            }
            let round = async {
                match tokio::time::timeout(ROUND_MAX, self.round(&lease, &mut attempts)).await {
                    Ok(result) => result,
                    Err(_) => Err(anyhow::anyhow!("it took longer than {ROUND_MAX:?}")),
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                result = round => self.report(result),
            }
        }
        let released = async { lease.release(&mut self.database.connect().await?).await };
        if let Err(error) = self.database.with_timeout(released).await {
            tracing::debug!(error = errors::line(&error), "could not give the lease back; it ends by itself");
        }
    }

    fn report(&self, result: anyhow::Result<Option<RoundResult>>) {
        let found = match result {
            Ok(Some(found)) => found,
            // Another process does it.
            Ok(None) => RoundResult::default(),
            Err(error) => {
                let error = errors::line(error.as_ref());
                self.progress.waiting(format!("the comparison: {error}"));
                tracing::warn!(forwarder = %self.forwarder, error, "could not compare; it is tried again");
                return;
            }
        };
        let _ = self.progress.resumed();
        let label = self.forwarder.to_string();
        counter!(names::RECONCILE_CHECKED, "forwarder" => label.clone()).increment(found.checked);
        let left = if self.settings.repair {
            counter!(names::RECONCILE_REPAIRED, "forwarder" => label.clone()).increment(found.missing);
            0
        } else {
            found.missing
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!(names::RECONCILE_MISSING, "forwarder" => label).set(left as f64);
        if found.missing > found.ineffective {
            tracing::error!(
                forwarder = %self.forwarder,
                events = found.missing - found.ineffective,
                repaired = self.settings.repair,
                "settled, and neither in the timeline nor among the failures: the broker lost their messages, somebody removed \
                 the actions, or their ids are those of rows that had been gone"
            );
        }
        let ineffective = (found.ineffective > 0).then(|| {
            format!(
                "{} event(s) have been delivered {MAX_REPAIRS} times more and are still not in the timeline: a trigger, a rule \
                 or somebody's job there changes or removes them. They are dead letters now ({})",
                found.ineffective,
                Reason::NotWritten
            )
        });
        if let Some(error) = &ineffective {
            tracing::error!(forwarder = %self.forwarder, error, "the timeline does not keep what it acknowledges");
        }
        self.progress.fault(ineffective.or_else(|| (left > 0).then(|| {
            format!("{left} settled event(s) are not in the timeline: `consumer reconcile --repair` delivers them again")
        })));
    }

    /// `None` when another process does it.
    async fn round(
        &self,
        lease: &Lease,
        attempts: &mut RepairAttempts,
    ) -> anyhow::Result<Option<RoundResult>> {
        attempts.begin_round();
        let mut connection = self.database.connect().await?;
        if self.database.with_timeout(lease.acquire(&mut connection)).await?.is_none() {
            return Ok(None);
        }
        let Some(settled) = self.watermark.settled(&mut connection).await? else {
            return Ok(Some(RoundResult::default()));
        };
        let identifier = system_identifier(&mut connection).await?;
        let before = reconcile_cursor::read(&mut connection, &self.forwarder, identifier).await?;
        if before.resume.is_none() && before.compared == settled {
            return Ok(Some(RoundResult::default()));
        }
        // A round that was interrupted continues towards its own goal.
        let (to, resume_after) = match before.resume {
            Some((to, after)) => (to, Some(after)),
            None => (settled, None),
        };
        let step = Round {
            reader: String::new(),
            number: 0,
            from: before.compared.clone(),
            to: to.clone(),
            resume_after,
            generation: 0,
            system_identifier: identifier,
            mark: None,
        };
        let mut pages = Pages::new(step, PAGE_ROWS);
        let mut timeline = self.timeline.database().connect_directly().await?;
        let adoption = Adoption::of(&mut timeline, self.timeline.schema(), self.forwarder.as_str()).await?;
        let mut found = RoundResult::default();
        loop {
            let page = pages.next(&mut connection).await?;
            let Some(last) = page.last().map(|entry| entry.position) else { break };
            let addressed = self.addressed(&page);
            let missing = self.missing(&mut connection, &mut timeline, adoption, &addressed).await?;
            let mut page_result = RoundResult {
                checked: addressed.len() as u64,
                missing: missing.len() as u64,
                ..RoundResult::default()
            };
            if self.settings.repair {
                let (again, ineffective) = attempts.split(&addressed, &missing);
                if !again.is_empty() {
                    self.throttle.wait(&mut connection).await?;
                    repair::append_entries(&mut connection, &self.audit, &self.forwarder, &again).await?;
                }
                repair_attempts::dead_letter(&mut connection, &self.forwarder, &ineffective).await?;
                page_result.ineffective = ineffective.len() as u64;
            }
            found.checked += page_result.checked;
            found.missing += page_result.missing;
            found.ineffective += page_result.ineffective;
            // What is missing and was not repaired is looked for again.
            if self.settings.repair || found.missing == 0 {
                let cursor =
                    ReconcileCursor { compared: before.compared.clone(), resume: Some((to.clone(), last)) };
                reconcile_cursor::advance(
                    &mut connection,
                    &self.forwarder,
                    &cursor,
                    identifier,
                    page_result.checked,
                    page_result.missing,
                )
                .await?;
            }
            // No other process began meanwhile; a long round continues under the same lease.
            if lease.acquire(&mut connection).await?.is_none() {
                return Ok(None);
            }
        }
        if self.settings.repair || found.missing == 0 {
            let cursor = ReconcileCursor { compared: to, resume: None };
            reconcile_cursor::advance(&mut connection, &self.forwarder, &cursor, identifier, 0, 0).await?;
        }
        Ok(Some(found))
    }

    fn addressed(&self, page: &[Entry]) -> Vec<Uuid> {
        page.iter()
            .filter(|entry| entry.forwarder.as_deref().is_none_or(|only| only == self.forwarder.as_str()))
            .filter_map(|entry| entry.audit_event_id)
            .collect()
    }

    /// First the timeline, where nearly all are. The rest: the failures, then the timeline again, because an event leaves the failures
    /// only for the timeline; then the source, because one whose audit row is gone can never arrive.
    async fn missing(
        &self,
        source: &mut Session,
        timeline: &mut PgConnection,
        adoption: Adoption,
        events: &[Uuid],
    ) -> anyhow::Result<Vec<Uuid>> {
        let arrived: HashSet<Uuid> =
            stored::present(timeline, self.timeline.table(), events).await?.into_iter().collect();
        let suspects: Vec<Uuid> = events.iter().copied().filter(|id| !arrived.contains(id)).collect();
        if suspects.is_empty() {
            return Ok(suspects);
        }
        let failed = failures::states(source, &self.forwarder, &suspects).await?;
        // A dead letter that says that the row was gone stands for no other row under its id; what is really gone is left out below.
        let failed: HashSet<Uuid> =
            failed.into_iter().filter(|(.., gone)| !gone).map(|(id, ..)| id).collect();
        let suspects: Vec<Uuid> = suspects.into_iter().filter(|id| !failed.contains(id)).collect();
        // A failure that was there a moment ago may have become an action.
        let arrived: HashSet<Uuid> =
            stored::present(timeline, self.timeline.table(), &suspects).await?.into_iter().collect();
        let adopted = adoption.find(timeline, self.timeline.table(), &suspects).await?;
        let mut missing = reconcile_cursor::existing(source, &self.audit, &suspects).await?;
        missing.retain(|id| !arrived.contains(id) && !adopted.contains(id));
        Ok(missing)
    }
}
