//! Repair: what is missing enters the log again, addressed to its forwarder; what differs is written over; what nobody
//! wrote is removed, if that is asked for.

use common::{
    acts::{self, Act},
    broker::Backlog,
    console::Bar,
    identifier::{ForwarderId, TableName},
    outbox::backfill,
    session::Session,
};
use sqlx::PgConnection;
use threadline::{AuditAction, StoredAction, action::overwrite_batch, stored};
use uuid::Uuid;

use super::comparison::{ComparisonInput, Handler};

/// Repairs as the comparison goes on.
pub(crate) struct RepairHandler<'a> {
    bar: &'a Bar,
    input: &'a ComparisonInput<'a>,
    backlog: Backlog,
    source: Session,
    timeline: PgConnection,
    act: i64,
    /// Why actions without an event are to be removed; they stay without a reason.
    remove_extra: bool,
    /// How many rows were repaired, or entered the log for it.
    pub(crate) count: u64,
}

impl<'a> RepairHandler<'a> {
    /// Connects, and records that repairs begin.
    ///
    /// # Errors
    /// When a server is away.
    pub(crate) async fn begin(
        bar: &'a Bar,
        input: &'a ComparisonInput<'a>,
        backlog: Backlog,
        words: &str,
        remove_extra: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut source = input.source.connect().await?;
        let timeline = input.timeline.database().connect_directly().await?;
        let actor = acts::operator();
        let act = Act { actor: &actor, kind: "repair", filter: words, count: 0, reason: remove_extra };
        let act = acts::record(&mut source, &act).await?;
        let remove_extra = remove_extra.is_some();
        Ok(Self { bar, input, backlog, source, timeline, act, remove_extra, count: 0 })
    }

    async fn record_progress(&mut self, count: u64) -> anyhow::Result<()> {
        self.count += count;
        Ok(acts::extend(&mut self.source, self.act, count).await?)
    }
}

impl Handler for RepairHandler<'_> {
    async fn missing(&mut self, events: &[Uuid]) -> anyhow::Result<()> {
        self.backlog.give_way(&mut self.source).await?;
        let entered =
            append_entries(&mut self.source, self.input.audit, self.input.forwarder, events).await?;
        self.record_progress(entered).await
    }

    async fn differing(&mut self, actions: &[AuditAction]) -> anyhow::Result<()> {
        let times = self.input.timeline.keeps_time();
        let written = overwrite_batch(&mut self.timeline, self.input.actions, actions, times).await?;
        self.record_progress(written).await
    }

    async fn extra(&mut self, actions: &[StoredAction]) -> anyhow::Result<()> {
        if !self.remove_extra {
            return Ok(());
        }
        let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
        let removed = stored::remove(&mut self.timeline, self.input.actions, &ids).await?;
        self.record_progress(removed).await
    }

    fn passed(&mut self, rows: u64) {
        self.bar.advance(rows);
    }
}

/// Enters events for one forwarder into the log, in one transaction; returns how many there were.
pub(super) async fn append_entries(
    source: &mut Session,
    audit: &TableName,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let mut transaction = source.begin().await?;
    let entered = backfill::enter(&mut transaction, audit, events, Some(forwarder)).await?;
    transaction.commit().await?;
    Ok(entered)
}
