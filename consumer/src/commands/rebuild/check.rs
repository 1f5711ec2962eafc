//! Whether the new table is what the source says.

use std::collections::HashSet;

use common::process::console::ProgressBar;
use threadline::{AuditAction, StoredAction, stored};
use uuid::Uuid;

use super::Rebuilding;
use crate::projection::comparison::Handler;

/// Checks twice what the comparison finds, because live traffic continues.
pub(crate) struct Check<'a, 'b> {
    pub(crate) rebuilding: &'a Rebuilding<'b>,
    pub(crate) bar: &'a ProgressBar,
    pub(crate) faults: Vec<Uuid>,
}

impl Handler for Check<'_, '_> {
    async fn missing(&mut self, events: &[Uuid]) -> anyhow::Result<()> {
        self.rebuilding.catch_up_to_now().await?;
        let mut timeline = self.rebuilding.projection.timeline.database().connect_directly().await?;
        let there: HashSet<Uuid> =
            stored::present(&mut timeline, &self.rebuilding.table, events).await?.into_iter().collect();
        self.faults.extend(events.iter().filter(|id| !there.contains(*id)));
        Ok(())
    }

    async fn differing(&mut self, actions: &[AuditAction]) -> anyhow::Result<()> {
        self.rebuilding.catch_up_to_now().await?;
        let mut timeline = self.rebuilding.projection.timeline.database().connect_directly().await?;
        let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
        let there = stored::find(&mut timeline, &self.rebuilding.table, &ids).await?;
        let keeps_time = self.rebuilding.projection.timeline.keeps_time();
        for action in actions {
            let (mut expected, id) = (StoredAction::expected(action), action.id);
            let found = there.iter().find(|stored| stored.id == id).cloned();
            let mut found = found.unwrap_or_else(|| expected.clone().timeless());
            if !keeps_time {
                (expected, found) = (expected.timeless(), found.timeless());
            }
            if expected != found {
                self.faults.push(id);
            }
        }
        Ok(())
    }

    /// Carried over from the first table, unless that has not got them either.
    async fn extra(&mut self, actions: &[StoredAction]) -> anyhow::Result<()> {
        self.rebuilding.catch_up_to_now().await?;
        let mut timeline = self.rebuilding.projection.timeline.database().connect_directly().await?;
        let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
        let live = self.rebuilding.projection.timeline.table();
        let carried: HashSet<Uuid> = stored::present(&mut timeline, live, &ids).await?.into_iter().collect();
        let gone: Vec<Uuid> = ids.into_iter().filter(|id| !carried.contains(id)).collect();
        let still = stored::present(&mut timeline, &self.rebuilding.table, &gone).await?;
        self.faults.extend(still);
        Ok(())
    }

    fn passed(&mut self, rows: u64) {
        self.bar.advance(rows);
    }
}
