//! The statement that reloads rows, and its answer.

use std::collections::HashSet;

use common::{database::Database, event::AuditEvent, identifier::ForwarderId, session::Session};
use futures::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

use super::LoadedRow;
use crate::engine::audit_row::{self, RowQuery};

/// Where the statement says whether anything has ever failed, the same in all rows.
const FAILURES_AT: usize = audit_row::REST_AT;

/// The advisory lock of those who read in turns. Any number that nobody else is likely to use; `outbox.` in ASCII.
const TURN: i64 = 0x006f_7574_626f_782e;

/// Rows to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'r> {
    pub(super) forwarder: &'r ForwarderId,
    pub(super) ids: &'r [Uuid],
    pub(super) bytes_max: usize,
}

/// How the rows are read.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) row_query: RowQuery,
    statement: String,
}

/// What was read of the requested rows.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) loaded: Vec<LoadedRow>,
    /// Ids without a row, of those that were looked for.
    pub(super) absent: HashSet<Uuid>,
    /// Whether the forwarder has failures of any event.
    pub(super) has_failures: bool,
    /// Whether there was more than fits.
    pub(super) has_more: bool,
    /// Whether the answer was not read to its end: the connection is of no use.
    pub(super) is_cut: bool,
}

/// Why rows were not read.
#[derive(Debug)]
pub(super) enum FetchError {
    /// The server was away before the statement began.
    Turn(sqlx::Error),
    /// The statement failed.
    Statement(sqlx::Error),
}

impl Reload {
    pub(super) fn new(row_query: RowQuery) -> Self {
        let RowQuery { select, texts, table, .. } = &row_query;
        let statement = format!(
            "select {select}, (select exists (select from outbox.failures f where f.forwarder = $2))
             from {table} e {texts}
             where e.id = any ($1)"
        );
        Self { row_query, statement }
    }

    /// While nobody else of those who take turns does so, in whatever process: the lock ends with the transaction.
    pub(super) async fn fetch_in_turn(
        &self,
        session: &mut Session,
        database: &Database,
        request: Request<'_>,
    ) -> Result<Fetched, FetchError> {
        let turn = async {
            let mut transaction = session.begin().await?;
            sqlx::query("select pg_advisory_xact_lock($1)").bind(TURN).execute(&mut *transaction).await?;
            Ok(transaction)
        };
        let mut transaction = database.with_timeout(turn).await.map_err(FetchError::Turn)?;
        let fetched = database.with_timeout(self.fetch(&mut transaction, request)).await;
        let fetched = fetched.map_err(FetchError::Statement)?;
        if !fetched.is_cut {
            database.with_timeout(transaction.commit()).await.map_err(FetchError::Statement)?;
        }
        Ok(fetched)
    }

    /// The answer of the server is read to its end: what is left of one on the connection would hold up the next statement.
    /// Where that would be a second batch, the connection goes instead.
    pub(super) async fn fetch(
        &self,
        session: &mut Session,
        request: Request<'_>,
    ) -> Result<Fetched, sqlx::Error> {
        let Request { forwarder, ids, bytes_max } = request;
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(self.statement.as_str()))
            .bind(ids)
            .bind(forwarder.as_str())
            .fetch(session);
        let mut loaded: Vec<LoadedRow> = Vec::new();
        let mut absent: HashSet<Uuid> = ids.iter().copied().collect();
        let (mut weight, mut left): (usize, Option<usize>) = (0, None);
        let (mut has_failures, mut is_cut) = (false, false);
        while let Some(row) = rows.try_next().await? {
            let id = row.try_get(0)?;
            absent.remove(&id);
            if weight >= bytes_max {
                let more = left.get_or_insert(0);
                *more = more.saturating_add(self.row_query.sent(&row)?);
                is_cut = *more > bytes_max;
                if is_cut {
                    absent.clear();
                    break;
                }
                continue;
            }
            has_failures = row.try_get(FAILURES_AT)?;
            let event = self.row_query.event(&row, id)?;
            weight += event.as_ref().map_or(0, AuditEvent::size_in_memory);
            loaded.push(LoadedRow { id, event, earlier: None });
        }
        Ok(Fetched { loaded, absent, has_failures, has_more: left.is_some(), is_cut })
    }
}
