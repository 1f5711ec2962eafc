//! How many entries there are, as far as it is worth the time.

use std::time::Duration;

use sqlx::{Connection as _, Row as _};
use time::OffsetDateTime;

use super::{
    Count, Filter, ReadError, Reader,
    direction::Direction,
    plan, resolve,
    statement::{is_canceled, limit_time},
    streams::Ask,
};

/// Counting stops behind this number.
const COUNT_MAX: u32 = 10_000;

/// Counting stops after this time.
const COUNT_TIME: Duration = Duration::from_millis(500);

impl Reader {
    /// How many entries the timeline has, up to 10,000, and within half a second.
    ///
    /// # Errors
    /// When the filter cannot be used, and what the database says.
    pub async fn count(&self, filter: &Filter) -> Result<Count, ReadError> {
        filter.check()?;
        let mut connection = self.connection().await?;
        let filter = resolve::key(&mut connection, self, filter).await?;
        let driver = plan::driver(&mut connection, &self.schema, &filter, false, None).await?;
        let ask = Ask {
            schema: &self.schema,
            scope: &self.scope,
            filter: &filter,
            ends: filter.window.ends(OffsetDateTime::now_utc()),
            driver,
            direction: Direction::Older,
            cursor: None,
            limit: i64::from(COUNT_MAX) + 1,
            visited: None,
        };
        let mut transaction = connection.begin_with("begin transaction read only").await?;
        limit_time(&mut transaction, COUNT_TIME).await?;
        let mut entries: i64 = 0;
        for statement in ask.counts() {
            match statement.query().fetch_one(&mut *transaction).await {
                Ok(row) => entries += row.try_get::<i64, _>(0)?,
                Err(error) if is_canceled(&error) => {
                    transaction.rollback().await?;
                    return Ok(Count::Unknown);
                }
                Err(error) => return Err(error.into()),
            }
        }
        transaction.rollback().await?;
        Ok(match u32::try_from(entries) {
            Ok(entries) if entries <= COUNT_MAX => Count::Exactly(entries),
            _ => Count::MoreThan(COUNT_MAX),
        })
    }
}
