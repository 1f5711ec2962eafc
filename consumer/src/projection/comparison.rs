//! Reconciliation: both sides walked by id, one row of each in memory, and what is only on one side looked up on the
//! other. Whatever commits or arrives meanwhile is never mistaken for a fault.

use std::collections::{HashMap, HashSet};

use common::{
    database::{self, Database},
    failures::{self, FailureState},
    identifier::{ForwarderId, TableName},
    outbox::reconcile_cursor,
    session::Session,
};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, PgConnection};
use threadline::{
    ActionTable, Adoption, AuditAction, StoredAction,
    stored::{self, Window},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    comparison_report::{ComparisonReport, Finding},
    merge::{Keyed, Pair, merge},
    source_scan::{SourceRow, SourceScan},
    watermark::SettledWatermark,
};
use crate::{engine::audit_row::RowQuery, kinds::TimelineForwarder};

/// How many suspects are looked up at a time.
const LOOKUP_ROWS: usize = 1_000;

/// What is compared with what.
pub(crate) struct ComparisonInput<'a> {
    /// The application's database.
    pub(crate) source: &'a Database,
    /// Its audit table.
    pub(crate) audit: &'a TableName,
    /// The target, and what an event should be there.
    pub(crate) timeline: &'a TimelineForwarder,
    /// The table of actions to compare: the timeline's own, or one that is to take its place.
    pub(crate) actions: &'a ActionTable,
    /// Who fills it.
    pub(crate) forwarder: &'a ForwarderId,
    /// How far that one has come.
    pub(crate) watermark: &'a SettledWatermark,
    /// Which events count as there that another forwarder has brought in under ids of its own.
    pub(crate) adoption: Adoption,
}

impl ComparisonInput<'_> {
    /// The audit rows.
    pub(crate) fn source_scan(&self) -> SourceScan {
        SourceScan {
            source: self.source.clone(),
            audit: self.audit.clone(),
            timeline: self.timeline.clone(),
            forwarder: self.forwarder.clone(),
        }
    }
}

/// What is done about findings, a batch at a time.
pub(crate) trait Handler {
    /// Events that should be in the timeline and are not.
    async fn missing(&mut self, events: &[Uuid]) -> anyhow::Result<()>;
    /// Actions that are not what they should be; these is what they should be.
    async fn differing(&mut self, actions: &[AuditAction]) -> anyhow::Result<()>;
    /// Actions without an event.
    async fn extra(&mut self, actions: &[StoredAction]) -> anyhow::Result<()>;
    /// So many rows of either side have been walked past.
    fn passed(&mut self, rows: u64);
}

impl Keyed for StoredAction {
    fn key(&self) -> Uuid {
        self.id
    }
}

/// An event as the action that it should be.
struct Expected {
    action: AuditAction,
    stored: StoredAction,
    /// Whether its time is the event's.
    timed: bool,
}

/// Compares a window. Both sides' rows come ordered by id; nothing is open on the source while suspects are looked up there.
///
/// # Errors
/// When a server is away.
pub(crate) async fn compare(
    input: &ComparisonInput<'_>,
    window: Window,
    findings: &mut ComparisonReport,
    handler: &mut impl Handler,
) -> anyhow::Result<()> {
    let mut comparison = Comparison::new(input, findings).await?;
    let mut timeline = input.timeline.database().connect().await?;
    let mut actions = database::read_only_scan(&mut timeline).await?;
    // Where an action's time is that of its delivery, the window says nothing about it.
    let timeline_window = if input.timeline.keeps_time() { window } else { Window::default() };
    let mut pairs = std::pin::pin!(merge(
        input.source_scan().rows(window),
        stored::projected(actions.direct()?, input.actions, timeline_window)
            .map_err(anyhow::Error::from)
            .boxed(),
    ));
    let mut passed = 0;
    while let Some(pair) = pairs.try_next().await? {
        comparison.accept(pair);
        passed += 1;
        if passed == LOOKUP_ROWS as u64 {
            handler.passed(std::mem::take(&mut passed));
        }
        comparison.resolve(LOOKUP_ROWS, handler).await?;
    }
    comparison.resolve(1, handler).await?;
    handler.passed(passed);
    Ok(())
}

struct Comparison<'a> {
    input: &'a ComparisonInput<'a>,
    row_query: RowQuery,
    source: Session,
    timeline: PgConnection,
    findings: &'a mut ComparisonReport,
    /// Events without an action, so far.
    source_only: Vec<SourceRow>,
    /// Actions without an event, so far.
    timeline_only: Vec<StoredAction>,
    /// Actions that are not what they should be.
    differing: Vec<AuditAction>,
    /// Events whose id another writer's action has.
    id_conflicts: Vec<Uuid>,
}

impl<'a> Comparison<'a> {
    async fn new(input: &'a ComparisonInput<'a>, findings: &'a mut ComparisonReport) -> anyhow::Result<Self> {
        let mut source = input.source.connect().await?;
        let row_query =
            RowQuery::of(&mut source, input.audit, input.timeline, input.timeline.batch_bytes()).await?;
        let timeline = input.timeline.database().connect_directly().await?;
        let (source_only, timeline_only, differing, id_conflicts) = Default::default();
        Ok(Self {
            input,
            row_query,
            source,
            timeline,
            findings,
            source_only,
            timeline_only,
            differing,
            id_conflicts,
        })
    }

    fn accept(&mut self, pair: Pair<SourceRow, StoredAction>) {
        match pair {
            Pair::Both(row, stored) => self.compare_row(&row, stored),
            Pair::Left(row) => self.source_only.push(row),
            Pair::Right(stored) => self.timeline_only.push(stored),
        }
    }

    fn expect(&self, row: &SourceRow) -> Option<Expected> {
        let event = row.event.as_ref().ok()?;
        let action = self.input.timeline.action(event).ok()?;
        let timed = self.input.timeline.keeps_time() && event.occurred_at.or(event.inserted_at).is_some();
        Some(Expected { stored: comparable(StoredAction::expected(&action), timed), action, timed })
    }

    fn compare_row(&mut self, row: &SourceRow, stored: StoredAction) {
        let ours = stored.correlation_id() == Some(row.id.to_string().as_str());
        if let (Err(error), true) = (&row.event, ours) {
            // It was delivered; what it should be now cannot be known.
            tracing::warn!(event = %row.id, %error, "an action cannot be compared with its event");
            self.findings.both(&stored, &stored);
            return;
        }
        let Some(expected) = self.expect(row) else {
            // It could not be delivered now; whatever is there has not come from this row as it is.
            self.findings.timeline_only(&stored, Finding::Extra);
            return;
        };
        let stored = comparable(stored.but_for_erasures(&expected.stored), expected.timed);
        if self.findings.both(&expected.stored, &stored) == Finding::Differing {
            // Under another correlation id it may be a host's own: it is never overwritten. Delivered again, the event
            // ends as a dead letter that says so.
            if ours { self.differing.push(expected.action) } else { self.id_conflicts.push(row.id) }
        }
    }

    /// Looks up suspects on the other side, once there are so many.
    async fn resolve(&mut self, many: usize, handler: &mut impl Handler) -> anyhow::Result<()> {
        if self.source_only.len() >= many {
            let source_only = std::mem::take(&mut self.source_only);
            self.resolve_source_only(source_only, handler).await?;
        }
        if self.timeline_only.len() >= many {
            let timeline_only = std::mem::take(&mut self.timeline_only);
            self.resolve_timeline_only(timeline_only, handler).await?;
        }
        if self.differing.len() >= many {
            let differing = std::mem::take(&mut self.differing);
            handler.differing(&differing).await?;
        }
        if self.id_conflicts.len() >= many {
            let id_conflicts = std::mem::take(&mut self.id_conflicts);
            handler.missing(&id_conflicts).await?;
        }
        Ok(())
    }

    /// First what is on its way, then what failed, then what has arrived, then what is gone: an event only ever moves from
    /// one of these to a later one, so one that is in none was in none.
    async fn resolve_source_only(
        &mut self,
        source_only: Vec<SourceRow>,
        handler: &mut impl Handler,
    ) -> anyhow::Result<()> {
        let ComparisonInput { audit, forwarder, watermark, actions, .. } = self.input;
        let ids: Vec<Uuid> = source_only.iter().map(|row| row.id).collect();
        let settled = watermark.settled(&mut self.source).await?;
        let pending: HashSet<Uuid> =
            reconcile_cursor::on_their_way(&mut self.source, forwarder, settled.as_ref(), &ids)
                .await?
                .into_iter()
                .collect();
        let failed = failures::states(&mut self.source, forwarder, &ids).await?;
        let failed: HashMap<Uuid, (FailureState, bool)> =
            failed.into_iter().map(|(id, state, gone)| (id, (state, gone))).collect();
        let arrived: HashMap<Uuid, StoredAction> = stored::find(&mut self.timeline, actions, &ids)
            .await?
            .into_iter()
            .map(|stored| (stored.id, stored))
            .collect();
        let existing: HashSet<Uuid> =
            reconcile_cursor::existing(&mut self.source, audit, &ids).await?.into_iter().collect();
        let adopted = self.input.adoption.find(&mut self.timeline, actions, &ids).await?;
        let mut missing = Vec::new();
        for row in source_only {
            let is_dead_letter =
                matches!(failed.get(&row.id), Some((FailureState::Dead | FailureState::Discarded, false)));
            let ours = |stored: &&StoredAction| stored.correlation_id() == Some(row.id.to_string().as_str());
            // Another writer's action under the id of a dead letter is why it is one.
            if let Some(stored) = arrived.get(&row.id).filter(|stored| !is_dead_letter || ours(stored)) {
                self.compare_row(&row, stored.clone());
                continue;
            }
            let finding = match failed.get(&row.id) {
                Some((FailureState::Dead, gone)) if !gone || !existing.contains(&row.id) => Finding::Dead,
                Some((FailureState::Discarded, _)) => Finding::Discarded,
                Some((_, false)) => Finding::Pending,
                // Its dead letter says that there is no such row. Delivered again, it loses the dead letter.
                _ if pending.contains(&row.id) => Finding::Pending,
                None if !existing.contains(&row.id) => continue,
                _ if adopted.contains(&row.id) => Finding::DeliveredElsewhere,
                _ => Finding::Missing,
            };
            if finding == Finding::Missing {
                missing.push(row.id);
            }
            let expected = self.expect(&row).map(|expected| expected.stored);
            let at = row.event.as_ref().ok().and_then(|event| event.occurred_at.or(event.inserted_at));
            self.findings.source_only(
                row.id,
                at.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                expected.as_ref(),
                finding,
            );
        }
        // Delivered, they might be there twice; that is for an operator to decide.
        let elsewhere = Adoption::All.find(&mut self.timeline, actions, &missing).await?;
        missing.retain(|id| !elsewhere.contains(id));
        self.findings.elsewhere += elsewhere.len() as u64;
        if missing.is_empty() { Ok(()) } else { handler.missing(&missing).await }
    }

    /// An action whose event exists belongs to another window, or came while we were walking.
    async fn resolve_timeline_only(
        &mut self,
        timeline_only: Vec<StoredAction>,
        handler: &mut impl Handler,
    ) -> anyhow::Result<()> {
        let ids: Vec<Uuid> = timeline_only.iter().map(|action| action.id).collect();
        let existing: HashSet<Uuid> =
            reconcile_cursor::existing(&mut self.source, self.input.audit, &ids).await?.into_iter().collect();
        let timeline_only: Vec<StoredAction> =
            timeline_only.into_iter().filter(|action| !existing.contains(&action.id)).collect();
        if timeline_only.is_empty() {
            return Ok(());
        }
        // After the look-up: a clean-up may be continuing. Actions before the oldest event have outlived theirs.
        let oldest = oldest(&mut self.source, &self.row_query).await?;
        let mut extra = Vec::new();
        for action in timeline_only {
            if oldest.is_none_or(|oldest| action.inserted_at < oldest) {
                self.findings.timeline_only(&action, Finding::SourceExpired);
            } else {
                self.findings.timeline_only(&action, Finding::Extra);
                extra.push(action);
            }
        }
        if extra.is_empty() { Ok(()) } else { handler.extra(&extra).await }
    }
}

/// Without the time, where that is not the event's.
fn comparable(action: StoredAction, timed: bool) -> StoredAction {
    if timed { action } else { action.timeless() }
}

/// When the event that happened first did, which is where a timeline begins; `None` for an empty table. An event may be
/// inserted long after it happened.
///
/// # Errors
/// When the server is away.
pub(crate) async fn first_event(
    connection: &mut Session,
    audit: &TableName,
    timeline: &TimelineForwarder,
) -> anyhow::Result<Option<OffsetDateTime>> {
    let row_query = RowQuery::of(connection, audit, timeline, timeline.batch_bytes()).await?;
    let mut scan = database::read_only_scan(connection).await?;
    let first = sqlx::query_scalar(AssertSqlSafe(row_query.first.as_str())).fetch_one(&mut *scan).await?;
    scan.rollback().await?;
    Ok(first)
}

async fn oldest(connection: &mut Session, row_query: &RowQuery) -> anyhow::Result<Option<OffsetDateTime>> {
    let mut scan = database::read_only_scan(connection).await?;
    let oldest =
        sqlx::query_scalar(AssertSqlSafe(row_query.oldest.as_str())).fetch_optional(&mut *scan).await?;
    scan.rollback().await?;
    Ok(oldest)
}

/// Nothing is done about anything.
pub(crate) struct ReportOnly<'a>(pub(crate) &'a common::process::console::ProgressBar);

impl Handler for ReportOnly<'_> {
    async fn missing(&mut self, _: &[Uuid]) -> anyhow::Result<()> {
        Ok(())
    }

    async fn differing(&mut self, _: &[AuditAction]) -> anyhow::Result<()> {
        Ok(())
    }

    async fn extra(&mut self, _: &[StoredAction]) -> anyhow::Result<()> {
        Ok(())
    }

    fn passed(&mut self, rows: u64) {
        self.0.advance(rows);
    }
}
