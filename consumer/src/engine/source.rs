//! Reloading audit rows by id, together with what is known of their failures. One documented function per statement.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    database::Database,
    doctor::{Problem, columns},
    event::AuditEvent,
    failures::{self, PriorAttempts},
    identifier::{ForwarderId, TableName},
    session::Session,
    starting::StartWait,
};
use sqlx::Executor as _;
use uuid::Uuid;

pub use self::read_history::ReadHistory;
use self::{
    fetch::{FetchError, Fetched, Reload, Request},
    read_fault::ReadFault,
};
pub use crate::engine::audit_row::Unreadable;
use crate::{
    engine::{audit_row::RowQuery, column_watch::ColumnWatch},
    forwarder::ForwarderFactory,
};

mod fetch;
mod read_fault;
mod read_history;

/// A session with the source database. Reopened after an error, so that a changed table is seen.
pub struct Source {
    connection: Session,
    database: Database,
    table: TableName,
    /// Whose columns are read.
    factory: Arc<dyn ForwarderFactory>,
    batch_bytes: usize,
    reload: Reload,
    /// How many rows the next statement requests.
    rows: usize,
    /// When the columns were read.
    since: Instant,
    history: ReadHistory,
}

/// For how long columns that are gone are not looked for again.
const COLUMNS_GOOD_FOR: Duration = Duration::from_secs(5);

/// For how long a server is waited for that a row may have crashed.
const STARTING_MAX: Duration = Duration::from_secs(5);

/// For how long a turn is waited for.
const TURN_MAX: Duration = Duration::from_secs(30);

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

/// Rows are there, and cannot be read for what they are; only a person can fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {remedy}")]
pub struct UnfitSource {
    /// What is so.
    pub what: String,
    /// What fixes it.
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
        let (database, table) = (database.clone(), table.clone());
        Ok(Self {
            connection,
            database,
            table,
            factory,
            batch_bytes,
            reload: Reload::new(row_query),
            rows: ROWS_MAX,
            since,
            history: ReadHistory::default(),
        })
    }

    /// With what other workers know.
    pub(crate) fn with_history(self, history: ReadHistory) -> Self {
        Self { history, ..self }
    }

    /// Another session: what the server had planned and remembered with the one before is gone with it.
    async fn reconnect(&mut self) -> Result<(), sqlx::Error> {
        let (rows, history) = (self.rows, self.history.clone());
        let starting = StartWait::new(STARTING_MAX);
        let new = loop {
            let factory = self.factory.clone();
            match Self::connect(&self.database, &self.table, factory, self.batch_bytes).await {
                Err(error) if starting.may_retry(&error).await => {}
                connected => break connected?,
            }
        };
        *self = Self { rows, history, ..new };
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
        let read = &self.reload.row_query.read;
        let needed = self.factory.required_columns().iter().copied();
        let lacking: Vec<&str> = needed.filter(|name| !read.contains(name)).collect();
        if !lacking.is_empty() {
            let Problem { what, remedy, .. } = columns::undeliverable(&self.table, forwarder, &lacking);
            return Err(UnfitSource { what, remedy });
        }
        watch.observe(forwarder, &self.table, read, self.since);
        Ok(())
    }

    /// Whether a session that began now might find columns that this one does without.
    pub(crate) fn is_stale(&self, watch: &ColumnWatch) -> bool {
        self.since.elapsed() > COLUMNS_GOOD_FOR && watch.has_more_than(&self.reload.row_query.read)
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
        let isolated = self.history.isolated(ids);
        if !isolated.is_empty() {
            return self.with_earlier(forwarder, isolated).await;
        }
        // How often in a row the first of them has failed in the same way.
        let (mut failed, mut last) = (0, None);
        loop {
            let request = Request { forwarder, ids: &ids[..ids.len().min(self.rows)], bytes_max };
            let error = match self.load_once(request).await {
                Ok(slice) => {
                    self.history.record(&slice.loaded);
                    return Ok(slice);
                }
                Err(FetchError::Statement(error)) if !ids.is_empty() => error,
                Err(FetchError::Statement(error) | FetchError::Turn(error)) => return Err(error),
            };
            let read_fault = ReadFault::of(&error);
            if read_fault == ReadFault::Server {
                self.history.server_failed();
            }
            Box::pin(self.reconnect()).await?;
            let rows = self.rows;
            if self.load_once(Request { ids: &[], ..request }).await.is_err() {
                return Err(error);
            }
            self.rows = rows;
            failed = if last.replace(read_fault) == Some(read_fault) { failed + 1 } else { 1 };
            let asked = request.ids.len();
            if asked > 1 {
                // Several rows fail: the error is about one of them, or about the server.
                failed = u32::from(read_fault == ReadFault::Row);
                let parts = if read_fault == ReadFault::Cost { PARTS_OF_COST } else { 2 };
                self.rows = (asked / parts).max(1);
            } else if failed >= read_fault.confirmations() {
                let request = Request { ids, ..request };
                return Box::pin(self.load_failing(request, read_fault, error)).await;
            } else {
                // No more than that, though none at all could be read.
                self.rows = 1;
            }
        }
    }

    /// The first row, which fails alone, with its past.
    async fn load_failing(
        &mut self,
        request: Request<'_>,
        read_fault: ReadFault,
        error: sqlx::Error,
    ) -> Result<Slice, sqlx::Error> {
        let id = request.ids[0];
        let words = errors::database(&error);
        // Of a table that no row can be read from, every row would fail like this.
        let reads_others = self.reads_others(request, error).await?;
        if read_fault == ReadFault::Row && reads_others {
            // The table may have been repaired between the row's failure and the other's success.
            if let Ok(slice) = self.load_once(Request { ids: &[id], ..request }).await {
                return Ok(slice);
            }
            self.reconnect().await?;
        }
        let unreadable = if read_fault == ReadFault::Row && reads_others {
            Unreadable::Broken(words)
        } else {
            Unreadable::Unclear { counts: reads_others, error: words }
        };
        if read_fault != ReadFault::Row {
            self.history.isolate(id, unreadable.clone());
        }
        self.with_earlier(request.forwarder, vec![(id, unreadable)]).await
    }

    /// Rows that cannot be read, with their past.
    async fn with_earlier(
        &mut self,
        forwarder: &ForwarderId,
        rows: Vec<(Uuid, Unreadable)>,
    ) -> Result<Slice, sqlx::Error> {
        let ids: Vec<Uuid> = rows.iter().map(|(id, _)| *id).collect();
        let earlier = failures::prior_attempts(&mut self.connection, forwarder, &ids);
        let earlier = self.database.with_timeout(earlier).await?;
        let loaded = rows.into_iter().map(|(id, unreadable)| LoadedRow {
            id,
            event: Err(unreadable),
            earlier: earlier.get(&id).copied(),
        });
        Ok(Slice { loaded: loaded.collect(), absent: Vec::new() })
    }

    /// Whether another row can be read while the first one makes the server fail with `error`; `false` where none is known that
    /// could show it.
    ///
    /// # Errors
    /// With `error` where a row that could be read before cannot: then the server is what fails.
    async fn reads_others(&mut self, request: Request<'_>, error: sqlx::Error) -> Result<bool, sqlx::Error> {
        let Request { ids, .. } = request;
        if let Some(known) = self.history.readable().filter(|known| *known != ids[0]) {
            match self.load_once(Request { ids: &[known], ..request }).await {
                Ok(slice) if slice.loaded.iter().any(|row| row.event.is_ok()) => return Ok(true),
                // It has been deleted.
                Ok(_) => self.history.clear_readable(),
                Err(_) => return Err(error),
            }
        }
        for candidate in ids[1..].iter().take(CANDIDATES) {
            match self.load_once(Request { ids: &[*candidate], ..request }).await {
                Ok(slice) if slice.loaded.iter().any(|row| row.event.is_ok()) => {
                    self.history.record(&slice.loaded);
                    return Ok(true);
                }
                Ok(_) => {}
                Err(_) => self.reconnect().await?,
            }
        }
        Ok(false)
    }

    /// Loads what is requested, within the time that an answer may take.
    async fn load_once(&mut self, request: Request<'_>) -> Result<Slice, FetchError> {
        let fetched = self.fetch(request).await?;
        let Fetched { mut loaded, absent, has_failures, has_more, is_cut } = fetched;
        let asked = request.ids;
        if is_cut {
            Box::pin(self.reconnect()).await.map_err(FetchError::Turn)?;
        }
        // Not joined: as a rule there are none, and a plan that was made for none would visit all for each row.
        if has_failures {
            let known = failures::prior_attempts(&mut self.connection, request.forwarder, asked);
            let known = self.database.with_timeout(known).await.map_err(FetchError::Turn)?;
            for row in &mut loaded {
                row.earlier = known.get(&row.id).copied();
            }
        }
        // Rows are about as large as their neighbours: so many as were taken, or twice as many if there was room.
        self.rows = if has_more { loaded.len() } else { self.rows.saturating_mul(2) }.clamp(1, ROWS_MAX);
        Ok(Slice { loaded, absent: absent.into_iter().collect() })
    }

    /// In turn with others while rows may be what makes the server fail. Whoever waits for a turn may lose the connection by
    /// what the other one reads, and waits again.
    async fn fetch(&mut self, request: Request<'_>) -> Result<Fetched, FetchError> {
        let begun = Instant::now();
        while self.history.takes_turns() {
            match self.reload.fetch_in_turn(&mut self.connection, &self.database, request).await {
                Err(FetchError::Turn(error)) if begun.elapsed() > TURN_MAX => {
                    return Err(FetchError::Turn(error));
                }
                Err(FetchError::Turn(_)) => Box::pin(self.reconnect()).await.map_err(FetchError::Turn)?,
                fetched => return fetched,
            }
        }
        let fetched = self.reload.fetch(&mut self.connection, request);
        self.database.with_timeout(fetched).await.map_err(FetchError::Statement)
    }
}
