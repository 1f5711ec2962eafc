//! Several statements that see one state of the timeline.

use std::time::{Duration, Instant};

use sqlx::{Postgres, Transaction, postgres::PgRow};

use super::super::{ReadError, Reader, statement::Statement};

/// A transaction that only reads.
pub(super) struct Reading<'r> {
    pub(super) reader: &'r Reader,
    transaction: Transaction<'static, Postgres>,
    limit: Option<(Duration, Instant)>,
}

impl<'r> Reading<'r> {
    /// Begins one. With a limit, neither a statement nor all of them together take much longer.
    pub(super) async fn begin(reader: &'r Reader, limit: Option<Duration>) -> Result<Self, ReadError> {
        let begin = "begin transaction isolation level repeatable read, read only";
        let mut transaction = reader.pool.begin_with(begin).await?;
        let limit = limit.map(|limit| (limit, Instant::now() + limit));
        if let Some((limit, _)) = limit {
            let milliseconds = limit.as_millis().max(1).to_string();
            sqlx::query("select set_config('statement_timeout', $1, true)")
                .persistent(false)
                .bind(milliseconds)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(Self { reader, transaction, limit })
    }

    pub(super) async fn fetch_all(&mut self, statement: &Statement) -> Result<Vec<PgRow>, ReadError> {
        if let Some((limit, end)) = self.limit
            && Instant::now() > end
        {
            return Err(took_too_long(limit));
        }
        match statement.query().fetch_all(&mut *self.transaction).await {
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CANCELED) => {
                match self.limit {
                    Some((limit, _)) => Err(took_too_long(limit)),
                    None => Err(sqlx::Error::Database(error).into()),
                }
            }
            result => Ok(result?),
        }
    }
}

fn took_too_long(limit: Duration) -> ReadError {
    let reason = format!(
        "finding the answer took longer than {} ms: ask for less, such as a smaller depth or bound, or give it more time",
        limit.as_millis()
    );
    ReadError::unusable("took_too_long", reason)
}

/// `query_canceled`: here, that it took too long.
const CANCELED: &str = "57014";
