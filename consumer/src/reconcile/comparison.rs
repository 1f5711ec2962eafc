//! The comparison itself: both sides walked by id, one row of each in memory, and what is only on one side looked up on the
//! other. Whatever commits or arrives meanwhile is never mistaken for a fault.

use std::collections::{HashMap, HashSet};

use common::{
    database::{self, Database},
    identifier::{ForwarderId, TableName},
    outbox::reconciled,
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
    merge::{Keyed, Pair, merge},
    road::Road,
    tally::{Finding, Tally},
    walk::{SourceRow, Walk},
};
use crate::{forwarders::Timeline, rows::Reading};

/// How many suspects are looked up at a time.
const SUSPECTS: usize = 1_000;

/// What is compared with what.
pub(crate) struct Sides<'a> {
    /// The application's database.
    pub(crate) source: &'a Database,
    /// Its audit table.
    pub(crate) audit: &'a TableName,
    /// The target, and what an event should be there.
    pub(crate) timeline: &'a Timeline,
    /// The table of actions to look at: the timeline's own, or one that is to take its place.
    pub(crate) actions: &'a ActionTable,
    /// Who fills it.
    pub(crate) forwarder: &'a ForwarderId,
    /// How far that one has come.
    pub(crate) road: &'a Road,
    /// Which events count as there that another forwarder has brought in under ids of its own.
    pub(crate) adoption: Adoption,
}

impl Sides<'_> {
    /// The audit rows.
    pub(crate) fn walk(&self) -> Walk {
        Walk {
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

/// Compares a window. Both sides' rows come out of one statement each, ordered by id; the server may sort on disk.
///
/// # Errors
/// When a server is away.
pub(crate) async fn compare(
    sides: &Sides<'_>,
    window: Window,
    tally: &mut Tally,
    handler: &mut impl Handler,
) -> anyhow::Result<()> {
    let mut comparison = Comparison::new(sides, tally).await?;
    let mut timeline = sides.timeline.database().connect().await?;
    let mut actions = database::long_look(&mut timeline).await?;
    // Where an action's time is that of its delivery, the window says nothing about it.
    let theirs = if sides.timeline.keeps_time() { window } else { Window::default() };
    let mut pairs = std::pin::pin!(merge(
        sides.walk().rows(window),
        stored::projected(actions.direct()?, sides.actions, theirs).map_err(anyhow::Error::from).boxed(),
    ));
    let mut passed = 0;
    while let Some(pair) = pairs.try_next().await? {
        comparison.take(pair);
        passed += 1;
        if passed == SUSPECTS as u64 {
            handler.passed(std::mem::take(&mut passed));
        }
        comparison.resolve(SUSPECTS, handler).await?;
    }
    comparison.resolve(1, handler).await?;
    handler.passed(passed);
    Ok(())
}

struct Comparison<'a> {
    sides: &'a Sides<'a>,
    reading: Reading,
    source: Session,
    timeline: PgConnection,
    tally: &'a mut Tally,
    /// Events without an action, so far.
    unseen: Vec<SourceRow>,
    /// Actions without an event, so far.
    strays: Vec<StoredAction>,
    /// Actions that are not what they should be.
    differing: Vec<AuditAction>,
    /// Events whose id somebody else's action has.
    taken: Vec<Uuid>,
}

impl<'a> Comparison<'a> {
    async fn new(sides: &'a Sides<'a>, tally: &'a mut Tally) -> anyhow::Result<Self> {
        let mut source = sides.source.connect().await?;
        let reading =
            Reading::of(&mut source, sides.audit, sides.timeline, sides.timeline.batch_bytes()).await?;
        let timeline = sides.timeline.database().connect_directly().await?;
        let (unseen, strays, differing, taken) = Default::default();
        Ok(Self { sides, reading, source, timeline, tally, unseen, strays, differing, taken })
    }

    fn take(&mut self, pair: Pair<SourceRow, StoredAction>) {
        match pair {
            Pair::Both(row, stored) => self.judge(&row, stored),
            Pair::Left(row) => self.unseen.push(row),
            Pair::Right(stored) => self.strays.push(stored),
        }
    }

    fn expect(&self, row: &SourceRow) -> Option<Expected> {
        let event = row.event.as_ref().ok()?;
        let action = self.sides.timeline.action(event).ok()?;
        let timed = self.sides.timeline.keeps_time() && event.occurred_at.or(event.inserted_at).is_some();
        Some(Expected { stored: comparable(StoredAction::expected(&action), timed), action, timed })
    }

    fn judge(&mut self, row: &SourceRow, stored: StoredAction) {
        let ours = stored.correlation_id() == Some(row.id.to_string().as_str());
        if let (Err(error), true) = (&row.event, ours) {
            // It was delivered; what it should be now nobody can tell.
            tracing::warn!(event = %row.id, %error, "an action cannot be compared with its event");
            self.tally.both(&stored, &stored);
            return;
        }
        let Some(expected) = self.expect(row) else {
            // It could not be delivered now; whatever is there has not come from this row as it is.
            self.tally.stray(&stored, Finding::Extra);
            return;
        };
        if self.tally.both(&expected.stored, &comparable(stored, expected.timed)) == Finding::Differing {
            // Under another correlation id it may be a host's own: it is never written over. Delivered again, the event
            // ends as a dead letter that says so.
            if ours { self.differing.push(expected.action) } else { self.taken.push(row.id) }
        }
    }

    /// Looks up suspects on the other side, once there are so many.
    async fn resolve(&mut self, many: usize, handler: &mut impl Handler) -> anyhow::Result<()> {
        if self.unseen.len() >= many {
            let unseen = std::mem::take(&mut self.unseen);
            self.resolve_unseen(unseen, handler).await?;
        }
        if self.strays.len() >= many {
            let strays = std::mem::take(&mut self.strays);
            self.resolve_strays(strays, handler).await?;
        }
        if self.differing.len() >= many {
            let differing = std::mem::take(&mut self.differing);
            handler.differing(&differing).await?;
        }
        if self.taken.len() >= many {
            let taken = std::mem::take(&mut self.taken);
            handler.missing(&taken).await?;
        }
        Ok(())
    }

    /// First what is on its way, then what failed, then what has arrived, then what is gone: an event only ever moves from
    /// one of these to a later one, so one that is in none was in none.
    async fn resolve_unseen(
        &mut self,
        unseen: Vec<SourceRow>,
        handler: &mut impl Handler,
    ) -> anyhow::Result<()> {
        let Sides { audit, forwarder, road, actions, .. } = self.sides;
        let ids: Vec<Uuid> = unseen.iter().map(|row| row.id).collect();
        let settled = road.settled(&mut self.source).await?;
        let pending: HashSet<Uuid> =
            reconciled::on_their_way(&mut self.source, forwarder, settled.as_ref(), &ids)
                .await?
                .into_iter()
                .collect();
        let failed: HashMap<Uuid, String> =
            reconciled::failed(&mut self.source, forwarder, &ids).await?.into_iter().collect();
        let arrived: HashMap<Uuid, StoredAction> = stored::find(&mut self.timeline, actions, &ids)
            .await?
            .into_iter()
            .map(|stored| (stored.id, stored))
            .collect();
        let existing: HashSet<Uuid> =
            reconciled::existing(&mut self.source, audit, &ids).await?.into_iter().collect();
        let adopted = self.sides.adoption.held(&mut self.timeline, actions, &ids).await?;
        let mut missing = Vec::new();
        for row in unseen {
            let letter = matches!(failed.get(&row.id).map(String::as_str), Some("dead" | "discarded"));
            let ours = |stored: &&StoredAction| stored.correlation_id() == Some(row.id.to_string().as_str());
            // Somebody else's action under the id of a letter is why it is one.
            if let Some(stored) = arrived.get(&row.id).filter(|stored| !letter || ours(stored)) {
                self.judge(&row, stored.clone());
                continue;
            }
            let finding = match failed.get(&row.id).map(String::as_str) {
                Some("dead") => Finding::Dead,
                Some("discarded") => Finding::Discarded,
                Some(_) => Finding::Pending,
                None if pending.contains(&row.id) => Finding::Pending,
                None if !existing.contains(&row.id) => continue,
                None if adopted.contains(&row.id) => Finding::Adopted,
                None => Finding::Missing,
            };
            if finding == Finding::Missing {
                missing.push(row.id);
            }
            let expected = self.expect(&row).map(|expected| expected.stored);
            let at = row.event.as_ref().ok().and_then(|event| event.occurred_at.or(event.inserted_at));
            self.tally.absent(row.id, at.unwrap_or(OffsetDateTime::UNIX_EPOCH), expected.as_ref(), finding);
        }
        // Delivered, they might be there twice; that is for somebody to decide.
        let elsewhere = Adoption::All.held(&mut self.timeline, actions, &missing).await?;
        missing.retain(|id| !elsewhere.contains(id));
        self.tally.elsewhere += elsewhere.len() as u64;
        if missing.is_empty() { Ok(()) } else { handler.missing(&missing).await }
    }

    /// An action whose event exists belongs to another window, or came while we were walking.
    async fn resolve_strays(
        &mut self,
        strays: Vec<StoredAction>,
        handler: &mut impl Handler,
    ) -> anyhow::Result<()> {
        let ids: Vec<Uuid> = strays.iter().map(|stray| stray.id).collect();
        let existing: HashSet<Uuid> =
            reconciled::existing(&mut self.source, self.sides.audit, &ids).await?.into_iter().collect();
        let strays: Vec<StoredAction> =
            strays.into_iter().filter(|stray| !existing.contains(&stray.id)).collect();
        if strays.is_empty() {
            return Ok(());
        }
        // After the look-up: a clean-up may be going on. Actions before the oldest event have outlived theirs.
        let oldest = oldest(&mut self.source, &self.reading).await?;
        let mut extra = Vec::new();
        for stray in strays {
            if oldest.is_none_or(|oldest| stray.inserted_at < oldest) {
                self.tally.stray(&stray, Finding::Outlived);
            } else {
                self.tally.stray(&stray, Finding::Extra);
                extra.push(stray);
            }
        }
        if extra.is_empty() { Ok(()) } else { handler.extra(&extra).await }
    }
}

/// Without the time, where that is not the event's.
fn comparable(action: StoredAction, timed: bool) -> StoredAction {
    if timed { action } else { action.timeless() }
}

/// When the oldest event was inserted, which is what retention goes by; `None` for an empty table.
///
/// # Errors
/// When the server is away.
pub(crate) async fn oldest_event(
    connection: &mut Session,
    audit: &TableName,
    timeline: &Timeline,
) -> anyhow::Result<Option<OffsetDateTime>> {
    let reading = Reading::of(connection, audit, timeline, timeline.batch_bytes()).await?;
    oldest(connection, &reading).await
}

/// When the event that happened first did, which is where a timeline begins; `None` for an empty table. An event may be
/// inserted long after it happened.
///
/// # Errors
/// When the server is away.
pub(crate) async fn first_event(
    connection: &mut Session,
    audit: &TableName,
    timeline: &Timeline,
) -> anyhow::Result<Option<OffsetDateTime>> {
    let reading = Reading::of(connection, audit, timeline, timeline.batch_bytes()).await?;
    let mut look = database::long_look(connection).await?;
    let first = sqlx::query_scalar(AssertSqlSafe(reading.first.as_str())).fetch_one(&mut *look).await?;
    look.rollback().await?;
    Ok(first)
}

async fn oldest(connection: &mut Session, reading: &Reading) -> anyhow::Result<Option<OffsetDateTime>> {
    let mut look = database::long_look(connection).await?;
    let oldest =
        sqlx::query_scalar(AssertSqlSafe(reading.oldest.as_str())).fetch_optional(&mut *look).await?;
    look.rollback().await?;
    Ok(oldest)
}

/// Nothing is done about anything.
pub(crate) struct LookOnly<'a>(pub(crate) &'a common::console::Bar);

impl Handler for LookOnly<'_> {
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
