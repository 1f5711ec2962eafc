//! All audit rows by ascending id. One that makes the statement fail stands alone in the end, and the walk goes on behind it.

use std::sync::Arc;

use common::{
    database::{self, Database},
    event::AuditEvent,
    identifier::{ForwarderId, TableName},
};
use futures::{
    SinkExt as _, StreamExt as _, TryStreamExt as _,
    channel::mpsc,
    future::ready,
    stream::{self, BoxStream},
};
use sqlx::{AssertSqlSafe, Row as _};
use threadline::stored::Window;
use uuid::Uuid;

use super::merge::Keyed;
use crate::{
    audit_row::{RowQuery, Unreadable},
    forwarders::Timeline,
    source::{ErrorScope, Source},
};

/// How many rows are looked at one statement each, or few, when one of them has made a statement fail.
const INDIVIDUAL_ROWS: i64 = 1_000;

/// Rows read ahead of who takes them.
const READ_AHEAD: usize = 4;

/// An audit row, or that it cannot be read.
pub(crate) struct SourceRow {
    pub(crate) id: Uuid,
    /// The row.
    pub(crate) event: Result<AuditEvent, Unreadable>,
}

impl Keyed for SourceRow {
    fn key(&self) -> Uuid {
        self.id
    }
}

/// Whose rows are walked.
#[derive(Clone)]
pub(crate) struct SourceScan {
    pub(crate) source: Database,
    pub(crate) audit: TableName,
    /// Of what its forwarder looks at.
    pub(crate) timeline: Timeline,
    pub(crate) forwarder: ForwarderId,
}

impl SourceScan {
    /// The rows of a window.
    pub(crate) fn rows(self, window: Window) -> BoxStream<'static, anyhow::Result<SourceRow>> {
        let (sender, rows) = mpsc::channel(READ_AHEAD);
        let walked = stream::once(self.run(window, sender)).filter_map(|end| ready(end.err().map(Err)));
        stream::select(rows.map(Ok), walked).boxed()
    }

    async fn run(self, window: Window, mut rows: mpsc::Sender<SourceRow>) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let Err(error) = self.read(window, &mut after, &mut rows).await else { return Ok(()) };
            if ErrorScope::of(&error) == ErrorScope::Server {
                return Err(error.into());
            }
            let Some(last) = self.read_individually(window, after, &mut rows).await? else {
                // It was none of the rows.
                return Err(error.into());
            };
            after = Some(last);
        }
    }

    /// With one statement, to the end or the first error.
    async fn read(
        &self,
        window: Window,
        after: &mut Option<Uuid>,
        rows: &mut mpsc::Sender<SourceRow>,
    ) -> Result<(), sqlx::Error> {
        let mut connection = self.source.connect().await?;
        let mut scan = database::read_only_scan(&mut connection).await?;
        let row_query =
            RowQuery::of(&mut scan, &self.audit, &self.timeline, self.timeline.batch_bytes()).await?;
        let RowQuery { select, texts, columns, time, table, .. } = &row_query;
        // Sorted before there is any text, which may be a thousand times as large.
        let statement = format!(
            "select {select} from (
                 select {columns} from {table} e
                 where ($1::timestamptz is null or {time} >= $1) and ($2::timestamptz is null or {time} < $2)
                   and ($3::uuid is null or e.id > $3)
                 order by e.id offset 0) e {texts}
             order by e.id"
        );
        let mut found = sqlx::query(AssertSqlSafe(statement))
            .bind(window.since)
            .bind(window.until)
            .bind(*after)
            .fetch(&mut *scan);
        while let Some(row) = found.try_next().await? {
            let id = row.try_get(0)?;
            let event = row_query.event(&row, id)?;
            // Whoever takes them may have gone.
            if rows.send(SourceRow { id, event }).await.is_err() {
                return Ok(());
            }
            *after = Some(id);
        }
        Ok(())
    }

    /// The next rows by their ids, those that fail one by one; returns the last of them.
    async fn read_individually(
        &self,
        window: Window,
        after: Option<Uuid>,
        rows: &mut mpsc::Sender<SourceRow>,
    ) -> Result<Option<Uuid>, sqlx::Error> {
        let batch_bytes = self.timeline.batch_bytes();
        let mut connection = self.source.connect().await?;
        let mut ids: Vec<Uuid> = {
            let mut scan = database::read_only_scan(&mut connection).await?;
            let RowQuery { time, table, .. } =
                RowQuery::of(&mut scan, &self.audit, &self.timeline, batch_bytes).await?;
            let statement = format!(
                "select e.id from {table} e
                 where ($1::timestamptz is null or {time} >= $1) and ($2::timestamptz is null or {time} < $2)
                   and ($3::uuid is null or e.id > $3)
                 order by e.id limit $4"
            );
            sqlx::query_scalar(AssertSqlSafe(statement))
                .bind(window.since)
                .bind(window.until)
                .bind(after)
                .bind(INDIVIDUAL_ROWS)
                .fetch_all(&mut *scan)
                .await?
        };
        let last = ids.last().copied();
        let wanted = Arc::new(self.timeline.clone());
        let mut source = Source::connect(&self.source, &self.audit, wanted, batch_bytes).await?;
        while !ids.is_empty() {
            // In their order: those of a slice may come in any.
            let asked = ids.len().min(source.next_rows());
            let rest = ids.split_off(asked);
            let mut open = std::mem::replace(&mut ids, rest);
            let mut loaded = Vec::new();
            while !open.is_empty() {
                let slice = source.load(&self.forwarder, &open, batch_bytes).await?;
                open.retain(|id| !slice.absent.contains(id) && slice.loaded.iter().all(|row| row.id != *id));
                loaded.extend(slice.loaded);
            }
            loaded.sort_unstable_by_key(|row| row.id);
            for row in loaded {
                if rows.send(SourceRow { id: row.id, event: row.event }).await.is_err() {
                    return Ok(last);
                }
            }
        }
        Ok(last)
    }
}
