//! All audit rows by ascending id: a page of ids, then their rows. A row that makes a statement fail stands alone in the end,
//! and the walk continues behind it.
//!
//! Nothing is open on the source while a row is processed: code that needs another connection for that
//! gets it even from a pooler that has only one.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use common::{
    database::{self, Database},
    event::AuditEvent,
    identifier::{ForwarderId, TableName},
};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use sqlx::AssertSqlSafe;
use threadline::stored::Window;
use uuid::Uuid;

use super::merge::Keyed;
use crate::{
    engine::{
        audit_row::{RowQuery, Unreadable},
        source::Source,
    },
    kinds::TimelineForwarder,
};

/// Ids that are read with one statement, so few that they need no memory to speak of, so many that a window which has to
/// be sorted is not sorted often.
const IDS: i64 = 100_000;

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
    /// Of what its forwarder reads.
    pub(crate) timeline: TimelineForwarder,
    pub(crate) forwarder: ForwarderId,
}

/// How far a walk has come.
struct Walk {
    scan: SourceScan,
    window: Window,
    session: Option<Source>,
    /// Ids whose rows are not read yet, in order.
    ids: VecDeque<Uuid>,
    /// The last id of all pages so far, or that behind which the walk begins.
    after: Option<Uuid>,
    /// Rows that were not taken yet.
    rows: VecDeque<SourceRow>,
}

impl SourceScan {
    /// The rows of a window.
    pub(crate) fn rows(self, window: Window) -> BoxStream<'static, anyhow::Result<SourceRow>> {
        self.walk(window, None)
    }

    /// All rows behind an id.
    pub(crate) fn rows_after(self, after: Option<Uuid>) -> BoxStream<'static, anyhow::Result<SourceRow>> {
        self.walk(Window::default(), after)
    }

    fn walk(self, window: Window, after: Option<Uuid>) -> BoxStream<'static, anyhow::Result<SourceRow>> {
        let walk =
            Walk { scan: self, window, session: None, ids: VecDeque::new(), after, rows: VecDeque::new() };
        stream::try_unfold(walk, async |mut walk: Walk| {
            let next = walk.next().await?;
            Ok::<_, anyhow::Error>(next.map(|row| (row, walk)))
        })
        .boxed()
    }

    /// The next ids of a window.
    async fn page(
        &self,
        session: &mut Source,
        window: Window,
        after: Option<Uuid>,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let mut scan = database::read_only_scan(session.connection()).await?;
        let RowQuery { time, table, .. } =
            RowQuery::of(&mut scan, &self.audit, &self.timeline, self.timeline.batch_bytes()).await?;
        let statement = format!(
            "select e.id from {table} e
             where ($1::timestamptz is null or {time} >= $1) and ($2::timestamptz is null or {time} < $2)
               and ($3::uuid is null or e.id > $3)
             order by e.id limit $4"
        );
        let ids = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(window.since)
            .bind(window.until)
            .bind(after)
            .bind(IDS)
            .fetch_all(&mut *scan)
            .await?;
        scan.rollback().await?;
        Ok(ids)
    }
}

impl Walk {
    async fn next(&mut self) -> Result<Option<SourceRow>, sqlx::Error> {
        loop {
            if let Some(row) = self.rows.pop_front() {
                return Ok(Some(row));
            }
            let bytes = self.scan.timeline.batch_bytes();
            let session = match &mut self.session {
                Some(session) => session,
                empty => {
                    let wanted = Arc::new(self.scan.timeline.clone());
                    let session = Source::connect(&self.scan.source, &self.scan.audit, wanted, bytes);
                    empty.insert(session.await?)
                }
            };
            if self.ids.is_empty() {
                self.ids = self.scan.page(session, self.window, self.after).await?.into();
                let Some(last) = self.ids.back() else { return Ok(None) };
                self.after = Some(*last);
            }
            let asked = self.ids.len().min(session.next_rows());
            let mut open: Vec<Uuid> = self.ids.drain(..asked).collect();
            let slice = session.load(&self.scan.forwarder, &open, bytes).await?;
            let mut loaded = slice.loaded;
            loaded.sort_unstable_by_key(|row| row.id);
            let done: HashSet<Uuid> =
                slice.absent.into_iter().chain(loaded.iter().map(|row| row.id)).collect();
            // Those of a slice may come in any order: behind the first that is not there yet all are requested again, fewer
            // of them at a time.
            if let Some(first) = open.iter().find(|id| !done.contains(*id)).copied() {
                loaded.retain(|row| row.id < first);
                open.retain(|id| *id >= first);
                open.into_iter().rev().for_each(|id| self.ids.push_front(id));
            }
            self.rows.extend(loaded.into_iter().map(|row| SourceRow { id: row.id, event: row.event }));
        }
    }
}
