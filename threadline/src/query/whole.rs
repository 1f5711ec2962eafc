//! Everything that a filter finds, for an export: read in one transaction, which sees nothing of what is written meanwhile. It comes in
//! stretches, each the answer of one statement, as many rows at a time as a bounded memory holds.

use std::{cmp::Ordering, collections::VecDeque};

use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, Row as _, Transaction, ValueRef as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Cursor, Entry, Filter, Instant, Kind, ReadError, Reader, Scope, Statement, Window,
    direction::Direction,
    entry,
    library_row::{self, Columns},
    place::Place,
    plan::{self, Driver},
    resolve,
    streams::Ask,
};
use crate::StorageSchema;

/// Rows of the first stretch, before anything is known of their size.
const ROWS_FIRST: i64 = 50;

/// Rows of a stretch at most.
const ROWS_MAX: i64 = 10_000;

/// Bytes of values that a stretch is meant to have.
const STRETCH_BYTES: usize = 2 << 20;

/// Bytes of values at which a stretch ends wherever it is: rows are larger than those before them.
const STRETCH_BYTES_MAX: usize = 8 << 20;

/// What a row takes in memory besides its values, about.
const ROW_OVERHEAD: usize = 400;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Changes, with what the Elixir library shows of them and in its order: the newest first, by time of capture.
    Library,
    /// Entries of all kinds, with everything, in the order of pages.
    Entries,
}

/// What a statement has brought.
#[derive(Debug)]
pub(crate) enum Stretch {
    /// Rows of [`super::library_row`].
    Library(Vec<PgRow>),
    Entries(Vec<Entry>),
}

/// Where everything was read from: the same for a reading that goes on later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The time of the database when it began, RFC 3339.
    pub(crate) started_at: String,
    /// As `pg_current_snapshot()` printed it.
    pub(crate) snapshot: String,
    /// A standby does not say which transactions are running: nobody can go on later.
    pub(crate) is_standby: bool,
    pub(crate) database: String,
    pub(crate) system_identifier: String,
    /// The filter with the columns of its key and with both ends of its window, as they were then.
    pub(crate) filter: Filter,
}

/// Up to where entries have been handed over: the place of the last one of each kind of stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    changes: Option<String>,
    actions: Option<String>,
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
            Shape::Library => Driver::Changes,
            Shape::Entries => {
                let any = changes.as_ref().or(actions.as_ref());
                plan::driver(&mut transaction, &self.schema, &origin.filter, false, any).await?
            }
        };
        let source = |cursor, is_asked: bool| Source {
            queue: VecDeque::new(),
            cursor,
            has_ended: !is_asked,
            rows: ROWS_FIRST,
        };
        let has_actions = shape == Shape::Entries && origin.filter.has_actions();
        Ok(Whole {
            schema: &self.schema,
            scope: &self.scope,
            changes: source(changes, origin.filter.has_changes()),
            actions: source(actions, has_actions),
            is_later: position.is_some(),
            transaction,
            shape,
            driver,
            origin,
        })
    }
}

/// Where a transaction reads from. It never times out by itself from here on.
async fn origin(connection: &mut PgConnection, filter: &Filter) -> Result<Origin, ReadError> {
    let row = Statement::new(
        "select pg_current_snapshot()::text, pg_is_in_recovery(), current_database()::text,
                (select system_identifier::text from pg_control_system()), now(),
                (select count(set_config(name, '0', true)) from pg_settings
                 where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'))",
    )
    .query()
    .fetch_one(connection)
    .await?;
    let started_at: OffsetDateTime = row.try_get(4)?;
    let (from, to) = filter.window.ends(started_at);
    let window = match filter.window {
        Window::Everything => Window::Everything,
        _ => Window::Between { from: from.map(Instant::new), to: to.map(Instant::new) },
    };
    Ok(Origin {
        started_at: super::time_text(started_at),
        snapshot: row.try_get(0)?,
        is_standby: row.try_get(1)?,
        database: row.try_get(2)?,
        system_identifier: row.try_get(3)?,
        filter: filter.clone().within(window),
    })
}

impl Whole<'_> {
    /// Where it reads from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What comes next; none at the end.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) async fn next(&mut self) -> Result<Option<Stretch>, ReadError> {
        match self.shape {
            Shape::Library if self.changes.has_ended => Ok(None),
            Shape::Library => {
                let rows = self.read(Kind::Change).await?;
                if let Some(last) = rows.last() {
                    self.changes.cursor = Some(library_row::cursor(last)?);
                }
                Ok((!rows.is_empty()).then_some(Stretch::Library(rows)))
            }
            Shape::Entries => {
                for kind in [Kind::Change, Kind::Recorded] {
                    self.fill(kind).await?;
                }
                let entries = self.merge();
                Ok((!entries.is_empty()).then_some(Stretch::Entries(entries)))
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

    /// The next rows of a stream.
    async fn read(&mut self, kind: Kind) -> Result<Vec<PgRow>, ReadError> {
        let source = self.source(kind);
        let (limit, cursor) = (source.rows, source.cursor.clone());
        let ask = Ask {
            schema: self.schema,
            scope: self.scope,
            filter: &self.origin.filter,
            ends: self.origin.filter.window.ends(OffsetDateTime::UNIX_EPOCH),
            driver: self.driver,
            direction: Direction::Older,
            columns: if self.shape == Shape::Library { Columns::Library } else { Columns::Entry },
            visible_in: self.is_later.then_some(self.origin.snapshot.as_str()),
            cursor,
            limit,
            visited: None,
        };
        let statement = if kind == Kind::Change { ask.changes() } else { ask.actions() };
        let Some(statement) = statement else { return Ok(Vec::new()) };
        let (rows, bytes, has_ended) = stretch(&mut self.transaction, &statement, limit).await?;
        let source = self.source(kind);
        source.has_ended = has_ended;
        let mean = bytes / rows.len().max(1) + ROW_OVERHEAD;
        source.rows = i64::try_from(STRETCH_BYTES / mean).unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
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

/// The rows of a statement, as many as memory may hold; their bytes; and whether there are no more behind them.
async fn stretch(
    connection: &mut PgConnection,
    statement: &Statement,
    limit: i64,
) -> Result<(Vec<PgRow>, usize, bool), ReadError> {
    let query = statement.query();
    let mut answer = query.fetch(connection);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = answer.try_next().await? {
        bytes += size(&row)?;
        rows.push(row);
        // What is left of the answer is read and thrown away before the next statement.
        if bytes >= STRETCH_BYTES_MAX {
            return Ok((rows, bytes, false));
        }
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|read| read >= limit);
    Ok((rows, bytes, !is_full))
}

/// Bytes of the values of a row.
fn size(row: &PgRow) -> Result<usize, sqlx::Error> {
    let mut bytes = 0;
    for column in 0..row.len() {
        let value = row.try_get_raw(column)?;
        if !value.is_null() {
            bytes += value.as_bytes().map_or(0, <[u8]>::len);
        }
    }
    Ok(bytes)
}

/// Knows where entries of a reading end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    driver: Driver,
}

impl Ends {
    /// Moves a position behind rows that were handed over.
    pub(crate) fn pass_rows(self, rows: &[PgRow], position: &mut Position) -> Result<(), sqlx::Error> {
        if let Some(last) = rows.last() {
            position.changes = Some(library_row::cursor(last)?.to_string());
        }
        Ok(())
    }

    /// Moves a position behind entries that were handed over.
    pub(crate) fn pass_entries(self, entries: &[Entry], position: &mut Position) {
        let behind = |entry: &Entry| Cursor::new(&Place::of(entry, self.driver.unit())).to_string();
        let is_change = |entry: &&Entry| entry.kind() == Kind::Change;
        if let Some(last) = entries.iter().rev().find(is_change) {
            position.changes = Some(behind(last));
        }
        if let Some(last) = entries.iter().rev().find(|entry| !is_change(entry)) {
            position.actions = Some(behind(last));
        }
    }
}
