//! Replays the changes that the first table sees while the second one is filled.

use std::{collections::HashSet, sync::Arc};

use sqlx::{Connection as _, PgConnection};
use threadline::{ActionTable, AuditAction, StoredAction, action::overwrite_batch, shadow::Shadow, stored};
use uuid::Uuid;

use super::{CHUNK, Rebuilding};
use crate::{engine::source::Source, projection::Projection};

/// What becomes of a change of the first table in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CatchUpMode {
    /// What the pipeline projected is mapped again, the rest copied.
    Map,
    /// Everything is copied.
    Copy,
}

/// Replays changes, on connections of its own.
pub(crate) struct ChangeReplayer<'a> {
    shadow: &'a Shadow,
    table: &'a ActionTable,
    projection: &'a Projection,
    pub(crate) timeline: PgConnection,
    source: Source,
    mode: CatchUpMode,
    bytes: usize,
}

impl<'a> ChangeReplayer<'a> {
    pub(crate) async fn connect(rebuilding: &'a Rebuilding<'_>, mode: CatchUpMode) -> anyhow::Result<Self> {
        let Rebuilding { settings, projection, shadow, table, .. } = rebuilding;
        let wanted = Arc::new(projection.timeline.clone());
        Ok(Self {
            timeline: projection.timeline.database().connect_directly().await?,
            source: Source::connect(
                &projection.database,
                &settings.source.table,
                wanted,
                settings.consumer.batch_bytes,
            )
            .await?,
            shadow,
            table,
            projection,
            mode,
            bytes: settings.consumer.batch_bytes,
        })
    }

    /// A chunk of changes; returns to how many actions. They leave the journal in the transaction that carries them over.
    pub(crate) async fn apply_chunk(&mut self) -> anyhow::Result<u64> {
        let mut transaction = self.timeline.begin().await?;
        let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
        let changed = self.shadow.changes(&mut transaction, limit).await?;
        self.shadow.copy(&mut transaction, &changed).await?;
        if self.mode == CatchUpMode::Map {
            let there = stored::find(&mut transaction, self.table, &changed).await?;
            let own =
                |action: &&StoredAction| action.correlation_id() == Some(action.id.to_string().as_str());
            let mut ids: Vec<Uuid> = there.iter().filter(own).map(|action| action.id).collect();
            while !ids.is_empty() {
                let slice = self.source.load(&self.projection.forwarder.id, &ids, self.bytes).await?;
                let seen: HashSet<Uuid> =
                    slice.loaded.iter().map(|row| row.id).chain(slice.absent.iter().copied()).collect();
                ids.retain(|id| !seen.contains(id));
                let actions: Vec<AuditAction> = slice
                    .loaded
                    .into_iter()
                    .filter_map(|row| row.event.ok())
                    .filter_map(|event| self.projection.timeline.action(&event).ok())
                    .collect();
                overwrite_batch(
                    &mut transaction,
                    self.table,
                    &actions,
                    self.projection.timeline.keeps_time(),
                )
                .await?;
            }
        }
        transaction.commit().await?;
        Ok(changed.len() as u64)
    }
}
