//! What is known of tables besides their capture: when they changed last, and how large they are.

use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;

use crate::{
    StorageSchema,
    capture::HostTable,
    query::{Statement, clamped_time, serialize},
};

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct TableFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// When its last change was captured; none of a table that none was captured of, or that was purged of all.
    #[serde(serialize_with = "serialize::optional_time")]
    pub last_change_at: Option<OffsetDateTime>,
    /// Bytes of the table, its partitions and indexes; none of a table that is not there.
    pub bytes: Option<i64>,
}

/// Of these tables, in their order.
///
/// # Errors
/// What the database says.
pub async fn table_facts(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[HostTable],
) -> Result<Vec<TableFacts>, sqlx::Error> {
    let mut statement = Statement::new(
        "select w.schema, w.name as table, last.at as last_change_at, size.bytes from rows from (unnest(",
    );
    statement.bind(tables.iter().map(|table| table.schema.clone()).collect::<Vec<_>>());
    statement
        .push("::text[]), unnest(")
        .bind(tables.iter().map(|table| table.name.clone()).collect::<Vec<_>>());
    statement.push(&format!(
        "::text[])) with ordinality w (schema, name, place)
         left join lateral (
             select {} as at from {} c where c.table_name >= w.name and c.table_name <= w.name and c.table_schema = w.schema
             order by c.table_name desc, c.captured_at desc, c.id desc limit 1
         ) last on true
         left join lateral (
             select coalesce((select sum(pg_catalog.pg_total_relation_size(p.relid)) from pg_catalog.pg_partition_tree(r.oid) p),
                             pg_catalog.pg_total_relation_size(r.oid))::int8 as bytes
             from pg_catalog.pg_class r join pg_catalog.pg_namespace n on n.oid = r.relnamespace
             where n.nspname = w.schema and r.relname = w.name
         ) size on true
         order by w.place",
        clamped_time("c.captured_at"),
        storage.table("audit_changes")
    ));
    let rows = statement.fetch_all(connection).await?;
    rows.iter().map(TableFacts::from_row).collect()
}
