//! Several statements that see one state of the timeline.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, Postgres, Transaction, postgres::PgRow};

use super::super::{
    ReadError, Reader,
    statement::{Statement, is_canceled},
    tables::known_tables,
};
use super::events::Event;
use crate::capture::HostTable;

/// A transaction that only reads.
pub(crate) struct Reading<'r> {
    pub(super) reader: &'r Reader,
    /// Changes of keys to which no index leads, where somebody has looked for them.
    pub(super) silent: Vec<Event>,
    transaction: Transaction<'static, Postgres>,
    limit: Duration,
    end: Instant,
}

/// How long a question may take, unless it says otherwise.
const QUESTION_TIME: Duration = Duration::from_secs(5);

impl<'r> Reading<'r> {
    /// Begins one. Neither a statement nor all of them together take much longer than the limit.
    pub(crate) async fn begin(reader: &'r Reader, limit: Option<Duration>) -> Result<Self, ReadError> {
        let limit = limit.unwrap_or(QUESTION_TIME);
        // On one way to the server.
        let begin = format!(
            "begin transaction isolation level repeatable read, read only; set local statement_timeout = {}",
            limit.as_millis().max(1)
        );
        let transaction = reader.pool.begin_with(AssertSqlSafe(begin)).await?;
        Ok(Self { reader, silent: Vec::new(), transaction, limit, end: Instant::now() + limit })
    }

    pub(crate) async fn fetch_all(&mut self, statement: &Statement) -> Result<Vec<PgRow>, ReadError> {
        if Instant::now() > self.end {
            return Err(took_too_long(self.limit));
        }
        self.reader.keep(statement);
        match statement.query().fetch_all(&mut *self.transaction).await {
            Err(error) if is_canceled(&error) => Err(took_too_long(self.limit)),
            result => Ok(result?),
        }
    }

    /// The tables of the database, and those that there are changes of.
    pub(super) async fn tables(&mut self) -> Result<BTreeSet<HostTable>, ReadError> {
        Ok(known_tables(&mut self.transaction, self.reader.schema()).await?)
    }
}

fn took_too_long(limit: Duration) -> ReadError {
    let reason = format!(
        "finding the answer took longer than {} ms: ask for less, such as a smaller depth or bound, or give it more time",
        limit.as_millis()
    );
    ReadError::unusable("took_too_long", reason)
}
