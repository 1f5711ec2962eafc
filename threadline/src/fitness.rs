//! Whether a database can take actions, found out without writing any.

use sqlx::PgConnection;

use crate::StorageSchema;

/// What the database says of `audit_actions`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Fitness {
    /// The server is a standby.
    pub is_standby: bool,
    /// The table is there.
    pub is_installed: bool,
    /// What the connection's role lacks, in the words of `grant`: `usage` of the schema, `select` and `insert` on the table.
    pub missing_grants: Vec<String>,
    /// A unique index keeps one event from being there twice: over the id, or over id and time, which an event keeps.
    pub has_key: bool,
    /// The connection's role, quoted where it has to be.
    pub role: String,
}

/// Looks at the tables in `schema`, without a lock on them.
///
/// # Errors
/// When the server is away.
pub async fn fitness(connection: &mut PgConnection, schema: &StorageSchema) -> Result<Fitness, sqlx::Error> {
    sqlx::query_as(
        "select pg_is_in_recovery() as is_standby,
                c.oid is not null as is_installed,
                array(select 'usage' where not has_schema_privilege(n.oid, 'usage')
                      union all
                      select p.name from unnest('{select,insert}'::text[]) p (name)
                      where not has_any_column_privilege(c.oid, p.name)) as missing_grants,
                exists (select from pg_index i
                        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null
                          and (select array_agg(a.attname::text order by a.attname) from pg_attribute a
                               where a.attrelid = i.indexrelid and a.attnum <= i.indnkeyatts)
                              in ('{id}'::text[], '{id,inserted_at}'::text[])) as has_key,
                format('%I', current_user) as role
         from (select 1) one
         left join pg_namespace n on n.nspname = $1
         left join pg_class c on c.relnamespace = n.oid and c.relname = 'audit_actions' and c.relkind in ('r', 'p')",
    )
    .bind(schema.as_str())
    .fetch_one(connection)
    .await
}
