//! Changes by months: a table for each, of which a purge drops the whole.

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::StorageSchema;

/// Makes `audit_changes` with partitions, where the path leads.
const PARTITIONED: &str = include_str!("partitioned.sql");

/// Months behind the present one that have a partition before they come.
pub const MONTHS_AHEAD: i32 = 3;

/// What a `from` of the tables `c` that hold changes by months ends with the name of the schema.
pub(crate) const OF_CHANGES: &str =
    "pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p' and p.relname = 'audit_changes'
    join pg_catalog.pg_namespace n on n.oid = p.relnamespace and n.nspname = ";

/// How changes are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// As they are; a fresh timeline keeps all of them in one table.
    #[default]
    AsItIs,
    /// Those of each month, of UTC, in a table of their own. For a fresh timeline alone: changes that are there are not moved.
    Monthly,
}

/// Makes the table of changes in that layout, where there is none yet.
///
/// # Errors
/// When changes are stored in another layout, and what the database says.
pub(crate) async fn lay_out(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    layout: Layout,
) -> Result<(), sqlx::Error> {
    if layout == Layout::AsItIs {
        return Ok(());
    }
    match is_partitioned(connection, schema).await? {
        None => {
            let statement = format!("begin; set local search_path to \"{schema}\"; {PARTITIONED}; commit");
            connection.execute(AssertSqlSafe(statement)).await?;
            Ok(())
        }
        Some(true) => Ok(()),
        Some(false) => {
            let why = format!(
                "audit_changes in schema {schema} is one table already (not_fresh), and only a fresh timeline can have partitions: install \
                 without --partitions, or into another schema"
            );
            Err(sqlx::Error::Configuration(why.into()))
        }
    }
}

/// Whether changes are stored by months; none where there is no table of them.
pub(crate) async fn is_partitioned(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "select c.relkind = 'p' from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = 'audit_changes' and c.relkind in ('r', 'p')",
    )
    .persistent(false)
    .bind(schema.as_str())
    .fetch_optional(connection)
    .await
}

/// The tables that hold changes where they are stored by months, by their names; none where they are stored in one.
pub(crate) async fn tables(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<String>, sqlx::Error> {
    let statement = format!("select c.relname::text from {OF_CHANGES} $1 order by 1");
    sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(schema.as_str())
        .fetch_all(connection)
        .await
}

/// Makes the months that are to come; which of them were missing. None where changes are stored in one table.
pub(crate) async fn prepare(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<String>, sqlx::Error> {
    if is_partitioned(connection, schema).await? != Some(true) {
        return Ok(Vec::new());
    }
    let statement = format!("select * from \"{schema}\".threadline_prepare_partitions($1)");
    sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(MONTHS_AHEAD)
        .fetch_all(connection)
        .await
}

/// The first days of months, of this one and `ahead` behind it, that have no partition, as `2026-11`.
pub(crate) async fn missing(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    ahead: i32,
) -> Result<Vec<String>, sqlx::Error> {
    let statement = format!(
        "select to_char(m.first, 'YYYY-MM') from pg_catalog.generate_series(0, $2) n
         cross join lateral (select date_trunc('month', now() at time zone 'UTC') + make_interval(months => n) as first) m
         where not exists (
             select from {OF_CHANGES} $1 where c.relname = 'audit_changes_' || to_char(m.first, 'YYYY_MM'))
         order by 1"
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(schema.as_str())
        .bind(ahead)
        .fetch_all(connection)
        .await
}
