//! Everything that a filter finds, for an export: read in one transaction, which sees nothing of what is written meanwhile. It comes in
//! stretches, each the answer of one statement, as many rows at a time as a bounded memory holds.

use std::{cmp::Ordering, collections::VecDeque};

use futures::TryStreamExt as _;
use sqlx::{Postgres, Row as _, Transaction, ValueRef as _, postgres::PgRow};
use time::OffsetDateTime;
use tokio::sync::mpsc::Sender;

use super::{
    Cursor, Entry, Filter, Kind, ReadError, Reader, Scope, Statement, Transaction as Captured,
    alone::{Alone, Lone},
    direction::Direction,
    entry,
    library_row::{self, Columns},
    origin::{Ends, Origin, Position, origin},
    place::Place,
    plan::{self, Driver},
    resolve,
    streams::Ask,
};
use crate::StorageSchema;

/// Rows of a statement at most, where rows are handed over as they come.
const ROWS_MAX: i64 = 100_000;

/// Rows of the first statement where both streams are kept until they are merged, before anything is known of their size.
const MERGED_ROWS_FIRST: i64 = 50;

/// Rows of such a statement at most.
const MERGED_ROWS_MAX: i64 = 10_000;

/// Bytes that a stretch is meant to have.
const STRETCH_BYTES: usize = 2 << 20;

/// Bytes at which a statement ends wherever it is, where streams are merged: rows are larger than those before them.
const MERGED_BYTES_MAX: usize = 8 << 20;

/// What a row takes in memory besides its values, about.
const ROW_OVERHEAD: usize = 400;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Changes, with what the Elixir library shows of them and in its order: the newest first, by time of capture.
    Library {
        /// Whether the linked action is wanted.
        action: bool,
    },
    /// Entries of all kinds, with everything, in the order of pages.
    Entries,
    /// What nothing else of the timeline holds, with everything; the newest first.
    Alone(Alone),
}

/// Some of what is read.
#[derive(Debug)]
pub(crate) enum Stretch {
    /// Rows of [`super::library_row`].
    Library(Vec<PgRow>),
    Entries(Vec<Entry>),
    Transactions(Vec<Captured>),
}

/// A reading.
pub(crate) struct Whole<'r> {
    schema: &'r StorageSchema,
    scope: &'r Scope,
    transaction: Transaction<'static, Postgres>,
    shape: Shape,
    driver: Driver,
    origin: Origin,
    /// Nothing is shown that was not visible at the origin, where this is a later transaction.
    is_later: bool,
    /// Rows of a statement, where they are handed over as they come.
    rows: i64,
    changes: Source,
    actions: Source,
}

/// One of the two streams.
#[derive(Debug)]
struct Source {
    /// What was read and not handed over.
    queue: VecDeque<(Place, Entry)>,
    /// Behind what is in the queue.
    cursor: Option<Cursor>,
    has_ended: bool,
    /// Rows of the next stretch.
    rows: i64,
}

impl Reader {
    /// Begins to read everything that the filter finds.
    ///
    /// # Errors
    /// When the filter cannot be used, and what the database says.
    pub(crate) async fn whole(&self, filter: &Filter, shape: Shape) -> Result<Whole<'_>, ReadError> {
        filter.check()?;
        let mut transaction = self.begin_whole().await?;
        let mut origin = origin(&mut transaction, filter).await?;
        origin.filter = resolve::key(&mut transaction, self, &origin.filter).await?;
        self.opened(transaction, shape, origin, None).await
    }

    /// Goes on behind a position, with what was visible at the origin. What has been removed since is not shown.
    ///
    /// # Errors
    /// `standby` when it began on one, `other_database`, and what the database says.
    pub(crate) async fn whole_from(
        &self,
        shape: Shape,
        began: Origin,
        position: &Position,
    ) -> Result<Whole<'_>, ReadError> {
        let mut transaction = self.begin_whole().await?;
        let now = origin(&mut transaction, &began.filter).await?;
        if began.is_standby || now.is_standby {
            let reason = "a standby does not say which transactions were running, so that nobody can go on later: begin again";
            return Err(ReadError::unusable("standby", reason));
        }
        if (&now.system_identifier, &now.database) != (&began.system_identifier, &began.database) {
            let reason = format!(
                "it began in the database {:?} of the cluster {}, and this is {:?} of {}: go on there, or begin again",
                began.database, began.system_identifier, now.database, now.system_identifier
            );
            return Err(ReadError::unusable("other_database", reason));
        }
        self.opened(transaction, shape, began, Some(position)).await
    }

    async fn begin_whole(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.pool.begin_with("begin transaction isolation level repeatable read, read only").await
    }

    async fn opened(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        shape: Shape,
        origin: Origin,
        position: Option<&Position>,
    ) -> Result<Whole<'_>, ReadError> {
        let cursor =
            |text: Option<&Option<String>>| text.and_then(Option::as_deref).map(str::parse).transpose();
        let changes: Option<Cursor> = cursor(position.map(|position| &position.changes))?;
        let actions: Option<Cursor> = cursor(position.map(|position| &position.actions))?;
        let driver = match shape {
            Shape::Library { .. } | Shape::Alone(_) => Driver::Changes,
            Shape::Entries => {
                let any = changes.as_ref().or(actions.as_ref());
                plan::driver(&mut transaction, &self.schema, &origin.filter, false, any).await?
            }
        };
        let source = |cursor, is_asked: bool| Source {
            queue: VecDeque::new(),
            cursor,
            has_ended: !is_asked,
            rows: MERGED_ROWS_FIRST,
        };
        let has_actions = shape == Shape::Entries && origin.filter.has_actions();
        Ok(Whole {
            schema: &self.schema,
            scope: &self.scope,
            changes: source(changes, origin.filter.has_changes()),
            actions: source(actions, has_actions),
            is_later: position.is_some(),
            rows: ROWS_MAX,
            transaction,
            shape,
            driver,
            origin,
        })
    }
}

impl Whole<'_> {
    /// Where it reads from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Asks for no more than so many entries, and one to know of more, at a time.
    pub(crate) fn want(&mut self, entries: u64) {
        self.rows = i64::try_from(entries).unwrap_or(ROWS_MAX).saturating_add(1).min(ROWS_MAX);
    }

    /// Reads everything, and hands it over stretch by stretch until whoever takes it has enough.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn each<M: From<Stretch>>(&mut self, to: &Sender<M>) -> Result<(), ReadError> {
        match self.shape {
            Shape::Library { .. } => self.each_of_changes(to).await,
            Shape::Entries => self.each_merged(to).await,
            Shape::Alone(alone) => self.each_alone(alone, to).await,
        }
    }

    /// Rows as they come: the server waits while nobody takes them.
    async fn each_of_changes<M: From<Stretch>>(&mut self, to: &Sender<M>) -> Result<(), ReadError> {
        while !self.changes.has_ended {
            let Some(statement) = self.statement(Kind::Change, self.rows) else { return Ok(()) };
            let query = statement.query();
            let mut answer = query.fetch(&mut *self.transaction);
            let (mut read, mut rows, mut bytes) = (0, Vec::new(), 0);
            while let Some(row) = answer.try_next().await? {
                read += 1;
                bytes += size(&row)?;
                rows.push(row);
                if bytes >= STRETCH_BYTES {
                    let last = rows.last().map(library_row::cursor).transpose()?;
                    self.changes.cursor = last;
                    bytes = 0;
                    if !sent(Stretch::Library(std::mem::take(&mut rows)), to).await {
                        return Ok(());
                    }
                }
            }
            drop(answer);
            self.changes.has_ended = read < self.rows;
            if let Some(last) = rows.last() {
                self.changes.cursor = Some(library_row::cursor(last)?);
                if !sent(Stretch::Library(rows), to).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn each_alone<M: From<Stretch>>(&mut self, alone: Alone, to: &Sender<M>) -> Result<(), ReadError> {
        let ends = self.origin.filter.window.ends(OffsetDateTime::UNIX_EPOCH);
        let mut after = None;
        loop {
            let statement = alone.statement(self.schema, ends, after.as_ref(), self.rows);
            let query = statement.query();
            let mut answer = query.fetch(&mut *self.transaction);
            let (mut read, mut bytes, mut stretch) = (0, 0, Lone::of(alone));
            while let Some(row) = answer.try_next().await? {
                read += 1;
                bytes += size(&row)?;
                after = Some(stretch.push(&row)?);
                if bytes >= STRETCH_BYTES {
                    bytes = 0;
                    if !sent(std::mem::replace(&mut stretch, Lone::of(alone)).0, to).await {
                        return Ok(());
                    }
                }
            }
            drop(answer);
            if bytes > 0 && !sent(stretch.0, to).await || read < self.rows {
                return Ok(());
            }
        }
    }

    async fn each_merged<M: From<Stretch>>(&mut self, to: &Sender<M>) -> Result<(), ReadError> {
        loop {
            for kind in [Kind::Change, Kind::Recorded] {
                self.fill(kind).await?;
            }
            let entries = self.merge();
            if entries.is_empty() || !sent(Stretch::Entries(entries), to).await {
                return Ok(());
            }
        }
    }

    /// What knows where its entries end, wherever they are handed over.
    pub(crate) fn ends(&self) -> Ends {
        Ends { driver: self.driver }
    }

    fn source(&mut self, kind: Kind) -> &mut Source {
        if kind == Kind::Change { &mut self.changes } else { &mut self.actions }
    }

    /// The statement for the next rows of a stream; none where there can be none.
    fn statement(&mut self, kind: Kind, limit: i64) -> Option<Statement> {
        let cursor = self.source(kind).cursor.clone();
        let ask = Ask {
            schema: self.schema,
            scope: self.scope,
            filter: &self.origin.filter,
            ends: self.origin.filter.window.ends(OffsetDateTime::UNIX_EPOCH),
            driver: self.driver,
            direction: Direction::Older,
            columns: match self.shape {
                Shape::Entries | Shape::Alone(_) => Columns::Entry,
                Shape::Library { action: true } => Columns::Library,
                Shape::Library { action: false } => Columns::LibraryAlone,
            },
            visible_in: self.is_later.then_some(self.origin.snapshot.as_str()),
            cursor,
            limit,
            visited: None,
        };
        if kind == Kind::Change { ask.changes() } else { ask.actions() }
    }

    /// The next rows of a stream, as many as memory may hold.
    async fn read(&mut self, kind: Kind) -> Result<Vec<PgRow>, ReadError> {
        let limit = self.source(kind).rows;
        let Some(statement) = self.statement(kind, limit) else { return Ok(Vec::new()) };
        let query = statement.query();
        let mut answer = query.fetch(&mut *self.transaction);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        // What is left of the answer is read and thrown away before the next statement.
        while bytes < MERGED_BYTES_MAX
            && let Some(row) = answer.try_next().await?
        {
            bytes += size(&row)?;
            rows.push(row);
        }
        drop(answer);
        let source = self.source(kind);
        source.has_ended =
            bytes < MERGED_BYTES_MAX && i64::try_from(rows.len()).is_ok_and(|read| read < limit);
        let mean = bytes / rows.len().max(1);
        source.rows =
            i64::try_from(STRETCH_BYTES / mean.max(1)).unwrap_or(MERGED_ROWS_MAX).clamp(1, MERGED_ROWS_MAX);
        Ok(rows)
    }

    /// Reads a stream of which nothing is left.
    async fn fill(&mut self, kind: Kind) -> Result<(), ReadError> {
        let source = self.source(kind);
        if source.has_ended || !source.queue.is_empty() {
            return Ok(());
        }
        let rows = self.read(kind).await?;
        let unit = self.driver.unit();
        let source = self.source(kind);
        for row in &rows {
            let entry = match kind {
                Kind::Change => Entry::Change(Box::new(entry::change(row)?)),
                _ => entry::entry_of_action(row)?,
            };
            source.queue.push_back((Place::of(&entry, unit), entry));
        }
        if let Some((place, _)) = source.queue.back() {
            source.cursor = Some(Cursor::new(place));
        }
        Ok(())
    }

    /// What is known to be next: nothing of the other stream can come before it.
    fn merge(&mut self) -> Vec<Entry> {
        let mut merged = Vec::new();
        loop {
            let (changes, actions) = (&mut self.changes, &mut self.actions);
            let next = match (changes.queue.front(), actions.queue.front()) {
                (Some((one, _)), Some((other, _))) => match one.cmp(other) {
                    Ordering::Less => &mut actions.queue,
                    _ => &mut changes.queue,
                },
                (Some(_), None) if actions.has_ended => &mut changes.queue,
                (None, Some(_)) if changes.has_ended => &mut actions.queue,
                _ => return merged,
            };
            merged.extend(next.pop_front().map(|(_, entry)| entry));
        }
    }
}

/// Hands a stretch over; whether whoever takes it wants more.
async fn sent<M: From<Stretch>>(stretch: Stretch, to: &Sender<M>) -> bool {
    to.send(stretch.into()).await.is_ok()
}

/// Bytes of a row in memory, about.
fn size(row: &PgRow) -> Result<usize, sqlx::Error> {
    let mut bytes = ROW_OVERHEAD;
    for column in 0..row.len() {
        let value = row.try_get_raw(column)?;
        if !value.is_null() {
            bytes += value.as_bytes().map_or(0, <[u8]>::len);
        }
    }
    Ok(bytes)
}
