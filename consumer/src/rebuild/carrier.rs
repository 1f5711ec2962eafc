//! What changes in the first table while the second one is made, carried over.

use std::{collections::HashSet, sync::Arc};

use sqlx::{Connection as _, PgConnection};
use threadline::{ActionTable, AuditAction, StoredAction, action::overwrite_batch, shadow::Shadow, stored};
use uuid::Uuid;

use super::{CHUNK, Rebuilding};
use crate::{reconcile::Subject, source::Source};

/// What becomes of a change of the first table in the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carry {
    /// What the pipeline projected is mapped anew, the rest copied.
    Map,
    /// Everything is copied.
    Copy,
}

/// Carries changes over, on connections of its own.
pub(super) struct Carrier<'a> {
    shadow: &'a Shadow,
    table: &'a ActionTable,
    subject: &'a Subject,
    pub(super) timeline: PgConnection,
    source: Source,
    carry: Carry,
    bytes: usize,
}

impl<'a> Carrier<'a> {
    pub(super) async fn connect(rebuilding: &'a Rebuilding<'_>, carry: Carry) -> anyhow::Result<Self> {
        let Rebuilding { settings, subject, shadow, table, .. } = rebuilding;
        let wanted = Arc::new(subject.timeline.clone());
        Ok(Self {
            timeline: subject.timeline.database().connect_directly().await?,
            source: Source::connect(
                &subject.database,
                &settings.source.table,
                wanted,
                settings.consumer.batch_bytes,
            )
            .await?,
            shadow,
            table,
            subject,
            carry,
            bytes: settings.consumer.batch_bytes,
        })
    }

    /// A chunk of changes. They leave the journal in the transaction that carries them over.
    pub(super) async fn carry(&mut self) -> anyhow::Result<()> {
        let mut transaction = self.timeline.begin().await?;
        let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
        let changed = self.shadow.changes(&mut transaction, limit).await?;
        self.shadow.copy(&mut transaction, &changed).await?;
        if self.carry == Carry::Map {
            let there = stored::find(&mut transaction, self.table, &changed).await?;
            let own =
                |action: &&StoredAction| action.correlation_id() == Some(action.id.to_string().as_str());
            let mut ids: Vec<Uuid> = there.iter().filter(own).map(|action| action.id).collect();
            while !ids.is_empty() {
                let slice = self.source.load(&self.subject.forwarder.id, &ids, self.bytes).await?;
                let seen: HashSet<Uuid> =
                    slice.loaded.iter().map(|row| row.id).chain(slice.absent.iter().copied()).collect();
                ids.retain(|id| !seen.contains(id));
                let actions: Vec<AuditAction> = slice
                    .loaded
                    .into_iter()
                    .filter_map(|row| row.event.ok())
                    .filter_map(|event| self.subject.timeline.action(&event).ok())
                    .collect();
                overwrite_batch(&mut transaction, self.table, &actions, self.subject.timeline.keeps_time())
                    .await?;
            }
        }
        Ok(transaction.commit().await?)
    }
}
