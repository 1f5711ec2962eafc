//! Whether a database can take actions, found out without writing any.

use sqlx::PgConnection;

use crate::{StorageSchema, schema::ACTION_COLUMNS};

/// The tables that the pipeline's preflight looks for.
const TABLES: [&str; 5] =
    ["audit_transactions", "audit_changes", "audit_actions", "audit_receipts", "audit_adoptions"];

/// The table that says which migrations made them.
pub(crate) const MIGRATIONS: &str = "threadline_migrations";

/// What the database says of `audit_actions`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "answers of one statement")]
#[non_exhaustive]
pub struct SchemaStatus {
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
    /// Sessions of the role cannot write.
    pub is_read_only: bool,
    /// A policy of the table applies to the role.
    pub is_policed: bool,
    /// How the database stores text.
    pub encoding: String,
    /// Tables of the store that are not there.
    pub missing_tables: Vec<String>,
    /// What was adopted is recorded where the role may not read it.
    pub has_hidden_adoptions: bool,
}

/// Columns of `audit_actions` that are read when actions are written.
const READ: [&str; 3] = ["id", "correlation_id", "inserted_at"];

/// A column that actions cannot be written to as it is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[non_exhaustive]
pub struct ColumnMismatch {
    /// Its name.
    pub name: String,
    /// What is wrong: `missing`, `type`, `generated`, `not null`, or `unknown` for a column of the host's own that must have a
    /// value and has none by default.
    pub fault: String,
    /// The type that it should have.
    pub wanted: String,
    /// The type that it has.
    pub found: String,
}

/// Looks at the tables in `schema`, without a lock on them.
///
/// # Errors
/// When the server is away.
pub async fn check_schema(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<SchemaStatus, sqlx::Error> {
    sqlx::query_as(
        "select pg_is_in_recovery() as is_standby,
                c.oid is not null as is_installed,
                array(select 'usage' where not has_schema_privilege(n.oid, 'usage')
                      union all
                      select p.name from (values ('select', $3::text[]), ('insert', $4::text[])) p (name, columns)
                      where exists (select from pg_attribute a
                                    where a.attrelid = c.oid and a.attname = any (p.columns)
                                      and not has_column_privilege(c.oid, a.attnum, p.name))) as missing_grants,
                exists (select from pg_index i
                        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null
                          and (select array_agg(a.attname::text order by a.attname) from pg_attribute a
                               where a.attrelid = i.indexrelid and a.attnum <= i.indnkeyatts)
                              in ('{id}'::text[], '{id,inserted_at}'::text[])) as has_key,
                format('%I', current_user) as role,
                current_setting('transaction_read_only')::boolean as is_read_only,
                coalesce(row_security_active(c.oid), false) as is_policed,
                current_setting('server_encoding') as encoding,
                array(select w.name from unnest($2::text[]) w (name)
                      where not exists (select from pg_class t where t.relnamespace = n.oid and t.relname = w.name))
                    as missing_tables,
                exists (select from pg_class t
                        join pg_attribute a on a.attrelid = t.oid and a.attname in ('forwarder', 'until')
                        where t.relnamespace = n.oid and t.relname = 'audit_adoptions'
                          and not has_column_privilege(t.oid, a.attnum, 'select')) as has_hidden_adoptions
         from (select 1) one
         left join pg_namespace n on n.nspname = $1
         left join pg_class c on c.relnamespace = n.oid and c.relname = 'audit_actions' and c.relkind in ('r', 'p')",
    )
    .bind(schema.as_str())
    .bind([&TABLES[..], &[MIGRATIONS]].concat())
    .bind(READ)
    .bind(ACTION_COLUMNS)
    .fetch_one(connection)
    .await
}

/// Columns of `audit_actions` that are not what a batch is written to. Domains count as what they are over.
///
/// # Errors
/// When the server is away.
pub async fn mismatched_columns(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<ColumnMismatch>, sqlx::Error> {
    sqlx::query_as(
        "with wanted (name, types, is_optional) as (
             select 'id', '{uuid}'::text[], false
             union all select 'actor_ref', '{jsonb,json}', false
             union all select 'inserted_at', '{timestamptz}', false
             union all select n, '{text,varchar,citext}', false from unnest('{name,status}'::text[]) n
             union all select n, '{text,varchar,citext}', true
                       from unnest('{verb,category,reason,comment,correlation_id,request_id,job_id}'::text[]) n),
         found as (
             select a.attname::text as name, a.atttypid, b.typname::text as base, a.attnotnull,
                    a.attgenerated <> '' or a.attidentity = 'a' as is_generated,
                    a.atthasdef or a.attidentity <> '' as has_default
             from pg_class c
             join pg_namespace n on n.oid = c.relnamespace
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             join pg_type t on t.oid = a.atttypid
             join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
             where n.nspname = $1 and c.relname = 'audit_actions')
         select coalesce(w.name, f.name) as name,
                case when f.name is null then 'missing'
                     when w.name is null then 'unknown'
                     when f.base <> all (w.types) then 'type'
                     when f.is_generated then 'generated'
                     else 'not null' end as fault,
                coalesce(w.types[1], '') as wanted,
                coalesce(f.atttypid::regtype::text, '') as found
         from wanted w full join found f on f.name = w.name
         where f.name is null
            or w.name is null and f.attnotnull and not f.has_default and not f.is_generated
            or f.base <> all (w.types) or w.name is not null and f.is_generated
            or w.is_optional and f.attnotnull
         order by 1",
    )
    .bind(schema.as_str())
    .fetch_all(connection)
    .await
}

/// Events that are there twice: under their own id, and in an action of the same name that another system wrote under their
/// correlation id. Visits all actions of others.
///
/// # Errors
/// When the server is away.
pub async fn duplicated_events(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<i64, sqlx::Error> {
    let actions = schema.table("audit_actions");
    let statement = format!(
        "select count(*)
         from (select a.name, case when a.correlation_id ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'
                                   then a.correlation_id::uuid end as event
               from {actions} a where a.correlation_id <> a.id::text) theirs
         join {actions} ours on ours.id = theirs.event and ours.name = theirs.name
                            and ours.correlation_id = ours.id::text"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await
}
