//! The tables that there are.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{StorageSchema, capture::HostTable};

/// The tables of the database, partitions too, and those that there are changes of.
pub(super) async fn known_tables(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<BTreeSet<HostTable>, sqlx::Error> {
    let mut tables = BTreeSet::from_iter(recorded_tables(connection, storage).await?);
    let there: Vec<(String, String)> = sqlx::query_as(
        "select n.nspname::text, c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    tables.extend(there.into_iter().map(|(schema, name)| HostTable { schema, name }));
    Ok(tables)
}

/// All tables that changes are filed under, a look into the index for each.
pub(crate) async fn recorded_tables(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<HostTable>, sqlx::Error> {
    let changes = storage.table("audit_changes");
    let statement = format!(
        "with recursive tables as (
             (select table_schema, table_name from {changes} order by 1, 2 limit 1)
             union all
             select n.table_schema, n.table_name
             from tables t
             cross join lateral (select c.table_schema, c.table_name from {changes} c
                                 where (c.table_schema, c.table_name) > (t.table_schema, t.table_name) order by 1, 2 limit 1) n)
         select table_schema, table_name from tables"
    );
    let tables = sqlx::query_as(AssertSqlSafe(statement)).persistent(false);
    let found: Vec<(String, String)> = tables.fetch_all(connection).await?;
    Ok(found.into_iter().map(|(schema, name)| HostTable { schema, name }).collect())
}
