//! How many changes of each table there were in the last days, as far as it is worth the time.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _};

use crate::{
    StorageSchema,
    capture::HostTable,
    query::{Statement, is_canceled, limit_time},
};

/// Days, the one that goes on included. They begin and end in UTC.
pub const DAYS: i64 = 14;

/// Counting a day stops here: a table that changes more often than that changes often.
pub const CHANGES_MAX: i64 = 1_000;

/// Counting all of them stops after this time.
const COUNTING: Duration = Duration::from_secs(1);

/// Of these tables, in their order: the changes that were captured on each of the last [`DAYS`], the oldest first, up to [`CHANGES_MAX`] on
/// each. None where counting took too long.
///
/// # Errors
/// What the database says.
pub async fn changes_by_day(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[HostTable],
) -> Result<Option<Vec<Vec<i64>>>, sqlx::Error> {
    let mut statement =
        Statement::new("select array_agg(counted.changes order by d.day) from rows from (unnest(");
    statement.bind(tables.iter().map(|table| table.schema.clone()).collect::<Vec<_>>());
    statement
        .push("::text[]), unnest(")
        .bind(tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>());
    statement
        .push(
            "::text[])) with ordinality w (schema, name, place)
             cross join lateral (select date_trunc('day', now() at time zone 'UTC') - n::int * interval '1 day' as day from generate_series(0, ",
        )
        .bind(DAYS - 1)
        .push(&format!(
            ") n) d
             cross join lateral (select count(*) as changes from (
                 select from {} c where c.table_name = w.name and c.table_schema = w.schema
                     and c.captured_at >= d.day at time zone 'UTC' and c.captured_at < (d.day + interval '1 day') at time zone 'UTC' limit ",
            storage.table("audit_changes")
        ))
        .bind(CHANGES_MAX)
        .push(") up_to_that_many) counted group by w.place order by w.place");
    let mut transaction = connection.begin().await?;
    limit_time(&mut transaction, COUNTING).await?;
    match statement.fetch_all(&mut transaction).await {
        Ok(rows) => Ok(Some(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)),
        Err(error) if is_canceled(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
