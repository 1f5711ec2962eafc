//! Several statements that see one state of the timeline.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sqlx::{Postgres, Transaction, postgres::PgRow};

use super::super::{
    ReadError, Reader,
    statement::{Statement, is_canceled, limit_time},
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
        let begin = "begin transaction isolation level repeatable read, read only";
        let mut transaction = reader.pool.begin_with(begin).await?;
        let limit = limit.unwrap_or(QUESTION_TIME);
        limit_time(&mut transaction, limit).await?;
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
