//! Reloading audit rows by id, together with what is known of their failures. One documented function per statement.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    database::Database,
    doctor::{Problem, columns},
    event::AuditEvent,
    failures::{self, PriorAttempts},
    fault::{Fault, classify},
    identifier::{ForwarderId, TableName},
    session::Session,
};
use futures::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

pub use crate::engine::audit_row::Unreadable;
use crate::{
    engine::{
        audit_row::{self, RowQuery},
        column_watch::ColumnWatch,
    },
    forwarder::ForwarderFactory,
};

/// Where the statement says whether anything has ever failed, the same in all rows.
const FAILURES_AT: usize = audit_row::REST_AT;

/// A session with the source database. Reopened after an error, so that a changed table is seen.
pub struct Source {
    connection: Session,
    database: Database,
    table: TableName,
    /// Whose columns are read.
    factory: Arc<dyn ForwarderFactory>,
    batch_bytes: usize,
    row_query: RowQuery,
    statement: String,
    /// How many rows the next statement asks for.
    rows: usize,
    /// When the columns were looked at.
    since: Instant,
}

/// For how long columns that are gone are not looked for again.
const COLUMNS_GOOD_FOR: Duration = Duration::from_secs(5);

/// Most rows that one statement asks for.
const ROWS_MAX: usize = 10_000;

/// Some of the rows that were asked for. Those that are neither here nor absent are for the next call.
#[derive(Debug)]
pub struct Slice {
    /// Rows, with what is known of their failures.
    pub loaded: Vec<LoadedRow>,
    /// Ids without a row.
    pub absent: Vec<Uuid>,
}

/// Rows are there, and cannot be read for what they are; only a person can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct UnfitSource {
    /// What is so.
    pub what: String,
    /// What mends it.
    pub remedy: String,
}

/// One row with its past.
#[derive(Debug)]
pub struct LoadedRow {
    /// Its id.
    pub id: Uuid,
    /// The row, or why it cannot be read.
    pub event: Result<AuditEvent, Unreadable>,
    /// `None` when it never failed for this forwarder.
    pub earlier: Option<PriorAttempts>,
}

/// What an error of a reload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorScope {
    /// The server, the connection, the table: nothing about any row.
    Server,
    /// Perhaps a row.
    Row,
    /// Perhaps a row that takes too long, or too much memory; or a server that is short of them.
    Cost,
}

impl ErrorScope {
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match (classify(error), code.as_deref()) {
            // Statement time-out, out of memory.
            (_, Some("57014" | "53200")) => Self::Cost,
            (Fault::Event | Fault::Statement | Fault::Table, _) => Self::Row,
            (Fault::Conflict | Fault::Unavailable, _) => Self::Server,
        }
    }
}

/// Into so many parts rows are split of which some cost too much: each costs a time-out.
const PARTS_OF_COST: usize = 16;

impl Source {
    /// Connects and looks at the table's columns; of the texts only those are read that `factory` looks at, and no row whose
    /// texts take more than `batch_bytes` and than a row may.
    ///
    /// # Errors
    /// When the server is away or the table is missing.
    pub async fn connect(
        database: &Database,
        table: &TableName,
        factory: Arc<dyn ForwarderFactory>,
        batch_bytes: usize,
    ) -> Result<Self, sqlx::Error> {
        let mut connection = database.connect().await?;
        let since = Instant::now();
        let row_query =
            database.with_timeout(RowQuery::of(&mut connection, table, &*factory, batch_bytes)).await?;
        let RowQuery { select, texts, table: quoted, .. } = &row_query;
        let statement = format!(
            "select {select}, (select exists (select from outbox.failures f where f.forwarder = $2))
             from {quoted} e {texts}
             where e.id = any ($1)"
        );
        let (database, table) = (database.clone(), table.clone());
        Ok(Self {
            connection,
            database,
            table,
            factory,
            batch_bytes,
            row_query,
            statement,
            rows: ROWS_MAX,
            since,
        })
    }

    /// Another session: what the server had planned and remembered with the one before is gone with it.
    async fn reconnect(&mut self) -> Result<(), sqlx::Error> {
        let rows = self.rows;
        *self = Self::connect(&self.database, &self.table, self.factory.clone(), self.batch_bytes).await?;
        self.rows = rows;
        Ok(())
    }

    /// How many rows the next statement asks for at most.
    #[cfg(feature = "threadline")]
    pub(crate) fn next_rows(&self) -> usize {
        self.rows
    }

    /// Whether the table has, since this session began, what a forwarder needs of it; with a word about columns that have gone
    /// since the process began.
    ///
    /// # Errors
    /// When it has not.
    pub(crate) fn check_columns(
        &self,
        forwarder: &ForwarderId,
        watch: &ColumnWatch,
    ) -> Result<(), UnfitSource> {
        let read = &self.row_query.read;
        let needed = self.factory.required_columns().iter().copied();
        let lacking: Vec<&str> = needed.filter(|name| !read.contains(name)).collect();
        if !lacking.is_empty() {
            let Problem { what, remedy } = columns::undeliverable(&self.table, forwarder, &lacking);
            return Err(UnfitSource { what, remedy });
        }
        watch.observe(forwarder, &self.table, read, self.since);
        Ok(())
    }

    /// Whether a session that began now might find columns that this one does without.
    pub(crate) fn is_stale(&self, watch: &ColumnWatch) -> bool {
        self.since.elapsed() > COLUMNS_GOOD_FOR && watch.has_more_than(&self.row_query.read)
    }

    /// The connection, for statements about failures.
    pub fn connection(&mut self) -> &mut Session {
        &mut self.connection
    }

    /// Reloads the first of these rows, as many as `bytes_max` allows. Of rows among which one makes the statement fail
    /// fewer are asked for, until it stands alone: then that is what is known of it.
    ///
    /// # Errors
    /// When the server is away, or the statement fails without any row.
    pub async fn load(
        &mut self,
        forwarder: &ForwarderId,
        ids: &[Uuid],
        bytes_max: usize,
    ) -> Result<Slice, sqlx::Error> {
        let mut is_repeated = false;
        loop {
            let asked = &ids[..ids.len().min(self.rows)];
            let error = match self.load_once(forwarder, asked, bytes_max).await {
                Ok(slice) => return Ok(slice),
                Err(error) => error,
            };
            let error_scope = ErrorScope::of(&error);
            if error_scope == ErrorScope::Server || asked.is_empty() {
                return Err(error);
            }
            self.reconnect().await?;
            if self.load_once(forwarder, &[], bytes_max).await.is_err() {
                return Err(error);
            }
            match (asked, error_scope) {
                // Twice, because some errors pass.
                ([_], _) if !is_repeated => is_repeated = true,
                ([id], _) => return self.load_failing(forwarder, *id, error_scope, &error).await,
                (_, ErrorScope::Cost) => self.rows = (asked.len() / PARTS_OF_COST).max(1),
                _ => (self.rows, is_repeated) = (asked.len() / 2, true),
            }
        }
    }

    /// A row that fails alone, with its past.
    async fn load_failing(
        &mut self,
        forwarder: &ForwarderId,
        id: Uuid,
        error_scope: ErrorScope,
        error: &sqlx::Error,
    ) -> Result<Slice, sqlx::Error> {
        let asked = [id];
        let earlier = failures::prior_attempts(&mut self.connection, forwarder, &asked);
        let earlier = self.database.with_timeout(earlier).await?.get(&id).copied();
        let error = errors::database(error);
        let event = Err(if error_scope == ErrorScope::Cost {
            Unreadable::Costly(error)
        } else {
            Unreadable::Broken(error)
        });
        Ok(Slice { loaded: vec![LoadedRow { id, event, earlier }], absent: Vec::new() })
    }

    /// Loads what is asked for, within the time that an answer may take.
    async fn load_once(
        &mut self,
        forwarder: &ForwarderId,
        asked: &[Uuid],
        bytes_max: usize,
    ) -> Result<Slice, sqlx::Error> {
        let database = self.database.clone();
        database.with_timeout(self.read(forwarder, asked, bytes_max)).await
    }

    /// The answer of the server is read to its end: what is left of one on the connection would hold up the next statement.
    /// Where that would be a second batch, the connection goes instead.
    async fn read(
        &mut self,
        forwarder: &ForwarderId,
        asked: &[Uuid],
        bytes_max: usize,
    ) -> Result<Slice, sqlx::Error> {
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(self.statement.as_str()))
            .bind(asked)
            .bind(forwarder.as_str())
            .fetch(&mut self.connection);
        let mut loaded: Vec<LoadedRow> = Vec::new();
        let mut absent: HashSet<Uuid> = asked.iter().copied().collect();
        let (mut weight, mut left): (usize, Option<usize>) = (0, None);
        let mut failures = false;
        let mut is_cut = false;
        while let Some(row) = rows.try_next().await? {
            let id = row.try_get(0)?;
            absent.remove(&id);
            if weight >= bytes_max {
                let more = left.get_or_insert(0);
                *more = more.saturating_add(self.row_query.sent(&row)?);
                is_cut = *more > bytes_max;
                if is_cut {
                    break;
                }
                continue;
            }
            failures = row.try_get(FAILURES_AT)?;
            let event = self.row_query.event(&row, id)?;
            weight += event.as_ref().map_or(0, AuditEvent::size_in_memory);
            loaded.push(LoadedRow { id, event, earlier: None });
        }
        drop(rows);
        if is_cut {
            absent.clear();
            self.reconnect().await?;
        }
        // Not joined: as a rule there are none, and a plan that was made for none would visit all for each row.
        if failures {
            let known = failures::prior_attempts(&mut self.connection, forwarder, asked).await?;
            for row in &mut loaded {
                row.earlier = known.get(&row.id).copied();
            }
        }
        // Rows are about as large as their neighbours: so many as were taken, or twice as many if there was room.
        self.rows =
            if left.is_some() { loaded.len() } else { self.rows.saturating_mul(2) }.clamp(1, ROWS_MAX);
        Ok(Slice { loaded, absent: absent.into_iter().collect() })
    }
}
