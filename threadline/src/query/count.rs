//! How many entries there are: as far as it is worth the time, or exactly.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};
use time::OffsetDateTime;

use super::{
    Count, Filter, ReadError, Reader, Shape,
    direction::Direction,
    library_row::Columns,
    plan::{self, Driver},
    resolve,
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
        let limit = i64::from(COUNT_MAX) + 1;
        Ok(match self.count_up_to(filter, Shape::Entries, limit, COUNT_TIME).await? {
            None => Count::Unknown,
            Some(entries) => match u32::try_from(entries) {
                Ok(entries) if entries <= COUNT_MAX => Count::Exactly(entries),
                _ => Count::MoreThan(COUNT_MAX),
            },
        })
    }

    /// How many entries everything has that the filter finds.
    ///
    /// # Errors
    /// `took_too_long`, when the filter cannot be used, and what the database says.
    pub(crate) async fn count_whole(
        &self,
        filter: &Filter,
        shape: Shape,
        within: Duration,
    ) -> Result<u64, ReadError> {
        let counted = self.count_up_to(filter, shape, i64::MAX, within).await?;
        counted.and_then(|entries| u64::try_from(entries).ok()).ok_or_else(|| {
            let seconds = within.as_secs();
            let reason = format!(
                "counting took more than {seconds} seconds: a window such as last:24h makes it shorter"
            );
            ReadError::unusable("took_too_long", reason)
        })
    }

    /// None where it took too long.
    async fn count_up_to(
        &self,
        filter: &Filter,
        shape: Shape,
        limit: i64,
        within: Duration,
    ) -> Result<Option<i64>, ReadError> {
        filter.check()?;
        let mut connection = self.connection().await?;
        let filter = resolve::key(&mut connection, self, filter).await?;
        let driver = match shape {
            Shape::Library { .. } | Shape::Alone(_) => Driver::Changes,
            Shape::Entries => plan::driver(&mut connection, &self.schema, &filter, false, None).await?,
        };
        let ask = Ask {
            schema: &self.schema,
            scope: &self.scope,
            filter: &filter,
            ends: filter.window.ends(OffsetDateTime::now_utc()),
            driver,
            direction: Direction::Older,
            columns: Columns::Entry,
            visible_in: None,
            cursor: None,
            limit,
            visited: None,
        };
        let mut transaction = connection.begin_with("begin transaction read only").await?;
        limit_time(&mut transaction, within).await?;
        let counted = sum(&ask, shape, &mut transaction).await;
        transaction.rollback().await?;
        counted
    }
}

async fn sum(ask: &Ask<'_>, shape: Shape, connection: &mut PgConnection) -> Result<Option<i64>, ReadError> {
    let mut entries: i64 = 0;
    // The first one is of changes, where they can be what is asked for.
    let streams = if shape == Shape::Entries { 2 } else { 1 };
    for statement in ask.counts().iter().take(streams) {
        match statement.query().fetch_one(&mut *connection).await {
            Ok(row) => entries += row.try_get::<i64, _>(0)?,
            Err(error) if is_canceled(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(entries))
}
