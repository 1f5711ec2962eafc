//! Repair: what is missing enters the log again, addressed to its forwarder; what differs is overwritten; what nobody
//! wrote is removed, if that is requested.

use common::{
    broker::LiveTrafficThrottle,
    identifier::{ForwarderId, TableName},
    outbox::admin::backfill,
    process::{
        console::ProgressBar,
        operator_log::{self, ActionKind, OperatorAction},
    },
    session::Session,
};
use sqlx::PgConnection;
use threadline::{AuditAction, StoredAction, action::overwrite_batch, stored};
use uuid::Uuid;

use crate::projection::comparison::{ComparisonInput, Handler};

/// Repairs as the comparison continues.
pub(crate) struct RepairHandler<'a> {
    bar: &'a ProgressBar,
    input: &'a ComparisonInput<'a>,
    throttle: LiveTrafficThrottle,
    source: Session,
    timeline: PgConnection,
    action: i64,
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
        bar: &'a ProgressBar,
        input: &'a ComparisonInput<'a>,
        throttle: LiveTrafficThrottle,
        words: &str,
        remove_extra: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut source = input.source.connect().await?;
        let timeline = input.timeline.database().connect_with_path_of_role().await?;
        let actor = operator_log::operator();
        let action = OperatorAction {
            actor: &actor,
            kind: ActionKind::Repair,
            filter: words,
            count: 0,
            reason: remove_extra,
        };
        let action = operator_log::record(&mut source, &action).await?;
        let remove_extra = remove_extra.is_some();
        Ok(Self { bar, input, throttle, source, timeline, action, remove_extra, count: 0 })
    }

    async fn record_progress(&mut self, count: u64) -> anyhow::Result<()> {
        self.count += count;
        Ok(operator_log::extend(&mut self.source, self.action, count).await?)
    }
}

impl Handler for RepairHandler<'_> {
    async fn missing(&mut self, events: &[Uuid]) -> anyhow::Result<()> {
        self.throttle.wait(&mut self.source).await?;
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
pub(crate) async fn append_entries(
    source: &mut Session,
    audit: &TableName,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let mut transaction = source.begin().await?;
    let entered = backfill::append_entries(&mut transaction, audit, events, Some(forwarder)).await?;
    transaction.commit().await?;
    Ok(entered)
}
