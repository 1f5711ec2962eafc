//! Reloading audit rows by id, together with what is known of their failures. One documented function per statement.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
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
    starting::StartWait,
};
use futures::TryStreamExt as _;
use sqlx::{Executor as _, Row as _};
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
    /// How many rows the next statement requests.
    rows: usize,
    /// When the columns were read.
    since: Instant,
    known_readable: KnownReadable,
}

/// A row that could be read: read again where another one fails in a way that may be the server's own. One for all workers
/// of a forwarder.
#[derive(Debug, Clone, Default)]
pub struct KnownReadable(Arc<Mutex<Option<Uuid>>>);

impl KnownReadable {
    fn get(&self) -> Option<Uuid> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: Option<Uuid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    fn remember(&self, loaded: &[LoadedRow]) {
        if let Some(row) = loaded.iter().find(|row| row.event.is_ok()) {
            self.set(Some(row.id));
        }
    }
}

/// For how long columns that are gone are not looked for again.
const COLUMNS_GOOD_FOR: Duration = Duration::from_secs(5);

/// For how long a server is waited for that a row may have crashed.
const STARTING_MAX: Duration = Duration::from_secs(5);

/// Most rows that one statement requests.
const ROWS_MAX: usize = 10_000;

/// Some of the rows that were requested. Those that are neither here nor absent are for the next call.
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

/// What an error of a reload says, where the same statement passes without any row, in a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ErrorScope {
    /// A row.
    Row,
    /// Perhaps a row that takes too long, or too much memory; or a server that is short of them.
    Cost,
    /// Perhaps a row that makes the server fail, or end the connection; or a server that does so by itself.
    Server,
}

impl ErrorScope {
    fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match (error, code.as_deref()) {
            // Statement time-out, out of memory.
            (_, Some("57014" | "53200")) => Self::Cost,
            (sqlx::Error::Io(error), _) if error.kind() == std::io::ErrorKind::TimedOut => Self::Cost,
            _ => match classify(error) {
                Fault::Event | Fault::Statement | Fault::Table => Self::Row,
                Fault::Conflict | Fault::Unavailable => Self::Server,
            },
        }
    }

    /// How often a row must fail before that counts: some errors pass, and connections are cut.
    fn confirmations(self) -> u32 {
        match self {
            Self::Row | Self::Cost => 2,
            Self::Server => 3,
        }
    }
}

/// Into so many parts rows are split of which some cost too much: each costs a time-out.
const PARTS_OF_COST: usize = 16;

/// So many rows are tried where none is known that can be read.
const CANDIDATES: usize = 3;

impl Source {
    /// Connects and reads the table's columns; of the texts only those are loaded that `factory` needs, and no row whose
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
            known_readable: KnownReadable::default(),
        })
    }

    /// With what other workers know.
    pub(crate) fn with_known_readable(self, known_readable: KnownReadable) -> Self {
        Self { known_readable, ..self }
    }

    /// Another session: what the server had planned and remembered with the one before is gone with it.
    async fn reconnect(&mut self) -> Result<(), sqlx::Error> {
        let (rows, known_readable) = (self.rows, self.known_readable.clone());
        let starting = StartWait::new(STARTING_MAX);
        let new = loop {
            let factory = self.factory.clone();
            match Self::connect(&self.database, &self.table, factory, self.batch_bytes).await {
                Err(error) if starting.may_retry(&error).await => {}
                connected => break connected?,
            }
        };
        *self = Self { rows, known_readable, ..new };
        Ok(())
    }

    /// How many rows the next statement requests at most.
    #[cfg(feature = "threadline")]
    pub(crate) fn next_rows(&self) -> usize {
        self.rows
    }

    /// Whether the table has, since this session began, what a forwarder needs of it; with a message about columns that have gone
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

    /// Another session if this one has ended.
    ///
    /// # Errors
    /// When the server is away.
    pub(crate) async fn revive(&mut self) -> Result<(), sqlx::Error> {
        match self.database.with_timeout(self.connection.execute("select 1")).await {
            Ok(_) => Ok(()),
            Err(_) => Box::pin(self.reconnect()).await,
        }
    }

    /// The connection, for statements about failures.
    pub fn connection(&mut self) -> &mut Session {
        &mut self.connection
    }

    /// Reloads the first of these rows, as many as `bytes_max` allows. Of rows among which one makes the statement fail
    /// fewer are requested, until it stands alone: then that is what is known of it.
    ///
    /// # Errors
    /// When the server is away, or the statement fails without any row.
    pub async fn load(
        &mut self,
        forwarder: &ForwarderId,
        ids: &[Uuid],
        bytes_max: usize,
    ) -> Result<Slice, sqlx::Error> {
        // How often in a row the first of them has failed in the same way.
        let (mut failed, mut scope) = (0, None);
        loop {
            let asked = &ids[..ids.len().min(self.rows)];
            let error = match self.load_once(forwarder, asked, bytes_max).await {
                Ok(slice) => {
                    self.known_readable.remember(&slice.loaded);
                    return Ok(slice);
                }
                Err(error) => error,
            };
            if asked.is_empty() {
                return Err(error);
            }
            Box::pin(self.reconnect()).await?;
            if self.load_once(forwarder, &[], bytes_max).await.is_err() {
                return Err(error);
            }
            let error_scope = ErrorScope::of(&error);
            failed = if scope.replace(error_scope) == Some(error_scope) { failed + 1 } else { 1 };
            if asked.len() > 1 {
                // Of a row that fails in company what is said is about it, unless it may be about the server.
                failed = u32::from(error_scope == ErrorScope::Row);
                let parts = if error_scope == ErrorScope::Cost { PARTS_OF_COST } else { 2 };
                self.rows = (asked.len() / parts).max(1);
            } else if failed >= error_scope.confirmations() {
                return Box::pin(self.load_failing(forwarder, ids, bytes_max, error_scope, error)).await;
            } else {
                // No more than that, though none at all could be read.
                self.rows = 1;
            }
        }
    }

    /// The first row, which fails alone, with its past.
    async fn load_failing(
        &mut self,
        forwarder: &ForwarderId,
        ids: &[Uuid],
        bytes_max: usize,
        error_scope: ErrorScope,
        error: sqlx::Error,
    ) -> Result<Slice, sqlx::Error> {
        let id = ids[0];
        let words = errors::database(&error);
        // Of a table that no row can be read from, every row would fail like this.
        let reads_others = self.reads_others(forwarder, ids, bytes_max, error).await?;
        if error_scope == ErrorScope::Row && reads_others {
            // The table may have been repaired between the row's failure and the other's success.
            if let Ok(slice) = self.load_once(forwarder, &ids[..1], bytes_max).await {
                return Ok(slice);
            }
            self.reconnect().await?;
        }
        let event = Err(if error_scope == ErrorScope::Row && reads_others {
            Unreadable::Broken(words)
        } else {
            Unreadable::Unclear { counts: reads_others, error: words }
        });
        let asked = [id];
        let earlier = failures::prior_attempts(&mut self.connection, forwarder, &asked);
        let earlier = self.database.with_timeout(earlier).await?.get(&id).copied();
        Ok(Slice { loaded: vec![LoadedRow { id, event, earlier }], absent: Vec::new() })
    }

    /// Whether another row can be read while the first one makes the server fail with `error`; `false` where none is known that
    /// could show it.
    ///
    /// # Errors
    /// With `error` where a row that could be read before cannot: then the server is what fails.
    async fn reads_others(
        &mut self,
        forwarder: &ForwarderId,
        ids: &[Uuid],
        bytes_max: usize,
        error: sqlx::Error,
    ) -> Result<bool, sqlx::Error> {
        if let Some(known) = self.known_readable.get().filter(|known| *known != ids[0]) {
            match self.load_once(forwarder, &[known], bytes_max).await {
                Ok(slice) if slice.loaded.iter().any(|row| row.event.is_ok()) => return Ok(true),
                // It has been deleted.
                Ok(_) => self.known_readable.set(None),
                Err(_) => return Err(error),
            }
        }
        for candidate in ids[1..].iter().take(CANDIDATES) {
            match self.load_once(forwarder, &[*candidate], bytes_max).await {
                Ok(slice) if slice.loaded.iter().any(|row| row.event.is_ok()) => {
                    self.known_readable.remember(&slice.loaded);
                    return Ok(true);
                }
                Ok(_) => {}
                Err(_) => self.reconnect().await?,
            }
        }
        Ok(false)
    }

    /// Loads what is requested, within the time that an answer may take.
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
            Box::pin(self.reconnect()).await?;
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
