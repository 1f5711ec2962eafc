//! Fills the second table: one part reads and maps, another one writes what the first has ready.

use std::collections::HashSet;

use common::{event::AuditEvent, failpoint, failures, process::console::ProgressBar, session::Session};
use futures::TryStreamExt as _;
use sqlx::PgConnection;
use threadline::AuditAction;
use tokio::sync::mpsc::{self, Receiver, Sender};
use uuid::Uuid;

use super::{CHUNK, Rebuilding};
use crate::projection;

/// Chunks that are ready before they are written: enough for the reader never to wait for long, and no memory to speak of.
const AHEAD: usize = 2;

/// Rows that were read, and what is to be written of them.
struct Chunk {
    rows: u64,
    actions: Vec<AuditAction>,
}

impl Rebuilding<'_> {
    /// All audit rows through the mapping; then what they do not account for. Returns how many were written.
    pub(super) async fn fill(&mut self, source: &mut Session) -> anyhow::Result<u64> {
        let keeps_time = self.projection.timeline.keeps_time();
        // The times of delivery and the host's own columns are nowhere else: all rows are copied first, and then overwritten
        // except these.
        let copies_first = !keeps_time || self.shadow.has_own_columns(&mut self.timeline).await?;
        let mut after = None;
        if copies_first {
            self.shadow.carry_over(&mut self.timeline).await?;
        } else {
            after = self.shadow.last_id(&mut self.timeline).await?;
        }
        let bar = ProgressBar::new("filling", projection::estimated_rows(source, self.settings).await?);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reader = self.connect().await?;
        let ((), written) = tokio::try_join!(
            self.read((source, reader), after, sender),
            self.write(receiver, copies_first, &bar)
        )?;
        bar.finish();
        let carried = self.shadow.finish_filling(&mut self.timeline).await?;
        tracing::info!(written, carried, "filled the new table");
        Ok(written)
    }

    /// Hands on what is to be written, in the order of ids.
    async fn read(
        &self,
        (source, mut timeline): (&mut Session, PgConnection),
        after: Option<Uuid>,
        ready: Sender<Chunk>,
    ) -> anyhow::Result<()> {
        let scan = self.projection.comparison_input(self.settings, self.adoption).source_scan();
        let mut rows = scan.rows_after(after);
        let mut events = Vec::with_capacity(CHUNK);
        let mut weight = 0;
        loop {
            let next = rows.try_next().await?;
            let ended = next.is_none();
            // Rows that cannot be read are dead letters, or will be.
            let event = next.and_then(|row| row.event.ok());
            weight += event.as_ref().map_or(0, AuditEvent::size_in_memory);
            events.extend(event);
            if events.len() < CHUNK && weight < self.settings.consumer.batch_bytes && !ended {
                continue;
            }
            let actions = self.actions(source, &mut timeline, &events).await?;
            // Whoever writes has failed, and says why.
            if ready.send(Chunk { rows: events.len() as u64, actions }).await.is_err() || ended {
                return Ok(());
            }
            events.clear();
            weight = 0;
        }
    }

    async fn write(
        &self,
        mut ready: Receiver<Chunk>,
        overwrites: bool,
        bar: &ProgressBar,
    ) -> anyhow::Result<u64> {
        let mut timeline = self.connect().await?;
        self.shadow.begin_filling(&mut timeline).await?;
        let keeps_time = self.projection.timeline.keeps_time();
        let mut written = 0;
        while let Some(Chunk { rows, actions }) = ready.recv().await {
            written += if overwrites {
                self.shadow.overwrite(&mut timeline, &actions, keeps_time).await?
            } else {
                self.shadow.append(&mut timeline, &actions).await?
            };
            failpoint::reach("rebuild.written");
            bar.advance(rows);
        }
        Ok(written)
    }

    /// Events as actions, without those that are dead letters: they have their own way.
    async fn actions(
        &self,
        source: &mut Session,
        timeline: &mut PgConnection,
        events: &[AuditEvent],
    ) -> anyhow::Result<Vec<AuditAction>> {
        let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
        let failed = failures::states(source, &self.projection.forwarder.id, &ids).await?;
        let mut left_out: HashSet<Uuid> = failed.into_iter().map(|(id, ..)| id).collect();
        left_out.extend(self.adoption.find(timeline, self.projection.timeline.table(), &ids).await?);
        let others = events.iter().filter(|event| !left_out.contains(&event.id));
        Ok(others.filter_map(|event| self.projection.timeline.action(event).ok()).collect())
    }
}
