//! What the migrations make, in full, compared with what is there.

use std::collections::BTreeSet;

use sqlx::{FromRow, PgConnection};

use crate::StorageSchema;

/// What a schema has after all migrations, a line for each property; `tests/store/catalog.rs` holds it to that.
const MADE: &str = include_str!("catalog.txt");

/// A property of a table or a function of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct Property {
    /// Which kind, such as `column`.
    pub kind: String,
    /// Of which table or function.
    pub object: String,
    /// Its own name; empty where the object has one only.
    pub name: String,
    /// What it is, as in SQL, without the schema.
    pub definition: String,
}

impl Property {
    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} | {} | {} | {}\n", self.kind, self.object, self.name, self.definition)
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self.kind.as_str() {
            "table" | "function" => format!("{} {}", self.kind, self.object),
            "check" | "foreign key" => format!("{} of {}: {}", self.kind, self.object, self.definition),
            _ => format!("{} {} of {}", self.kind, self.name, self.object),
        }
    }
}

/// All properties of what the migrations make, in order.
pub(crate) fn made() -> Vec<Property> {
    let property = |line: &str| {
        let mut parts = line.splitn(4, " | ").map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Property { kind: part(), object: part(), name: part(), definition: part() }
    };
    MADE.lines().map(property).collect()
}

/// The names of all tables of the timeline.
pub(crate) fn tables() -> Vec<&'static str> {
    MADE.lines().filter_map(|line| line.strip_prefix("table | ")?.split(" | ").next()).collect()
}

/// All properties of what is in the schema, in order; `tables` are those that count.
///
/// # Errors
/// When the server is away.
pub async fn properties(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    tables: &[String],
) -> Result<Vec<Property>, sqlx::Error> {
    let mut found: Vec<Property> = sqlx::query_as(
        "with tables as (
             select c.oid, c.relname::text as object, quote_ident(n.nspname) || '.' as storage
             from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relkind in ('r', 'p') and c.relname = any ($2)),
         columns as (
             select t.object, t.storage, a.*, pg_get_expr(d.adbin, d.adrelid) as expression
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
             left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum)
         select 'table' as kind, object, '' as name, '' as definition from tables
         union all
         select 'column', object, attname::text, format_type(atttypid, atttypmod) from columns
         union all
         select 'not null', object, attname::text, 'not null' from columns where attnotnull
         union all
         select 'default', object, attname::text, replace(expression, storage, '') from columns where expression is not null
         union all
         select 'identity', object, attname::text, case attidentity when 'a' then 'always' else 'by default' end
         from columns where attidentity <> ''
         union all
         select case c.contype when 'c' then 'check' when 'f' then 'foreign key' else 'key' end, t.object,
                case when c.contype in ('c', 'f') then '' else c.conname::text end,
                replace(pg_get_constraintdef(c.oid), t.storage, '')
         from tables t join pg_constraint c on c.conrelid = t.oid where c.contype <> 'n'
         union all
         select 'index', t.object, x.relname::text,
                regexp_replace(replace(pg_get_indexdef(i.indexrelid), t.storage, ''), '[[:space:]]+', ' ', 'g')
         from tables t join pg_index i on i.indrelid = t.oid join pg_class x on x.oid = i.indexrelid
         where not exists (select from pg_constraint c where c.conindid = i.indexrelid)
         union all
         select 'trigger', t.object, g.tgname::text, replace(pg_get_triggerdef(g.oid), t.storage, '')
         from tables t join pg_trigger g on g.tgrelid = t.oid where not g.tgisinternal
         union all
         select 'function', format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)), '',
                format('%s, %s, %s, settings %s, body %s', l.lanname,
                       case when p.prosecdef then 'security definer' else 'security invoker' end,
                       case p.provolatile when 'v' then 'volatile' when 's' then 'stable' else 'immutable' end,
                       coalesce((select string_agg(s.one, '; ' order by s.one) from unnest(p.proconfig) s (one)), 'none'),
                       md5(replace(p.prosrc, quote_ident(n.nspname) || '.', '')))
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
         where n.nspname = $1 and p.proname like 'threadline\\_%'
           and p.proname !~ '^threadline_capture_(changes|updates|deletes)_'",
    )
    .bind(schema.as_str())
    .bind(tables)
    .fetch_all(connection)
    .await?;
    found.sort();
    Ok(found)
}

/// What the migrations make and is not there. What is there and is different is another matter: it may be the host's own.
pub(crate) async fn lacking(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<Property>, sqlx::Error> {
    let names: Vec<String> = tables().into_iter().map(str::to_owned).collect();
    let found = properties(connection, schema, &names).await?;
    // A constraint is identified by its definition, because it may have been created under another name.
    let known = |one: &Property| {
        let identity =
            if matches!(one.kind.as_str(), "check" | "foreign key") { &one.definition } else { &one.name };
        (one.kind.clone(), one.object.clone(), identity.clone())
    };
    let there: BTreeSet<_> = found.iter().map(known).collect();
    let is_structure = |one: &Property| {
        matches!(
            one.kind.as_str(),
            "table"
                | "column"
                | "identity"
                | "check"
                | "foreign key"
                | "key"
                | "index"
                | "trigger"
                | "function"
        )
    };
    Ok(made().into_iter().filter(|one| is_structure(one) && !there.contains(&known(one))).collect())
}

/// Columns of transactions, changes and actions that are not there, as `table.column`. Without them a timeline cannot be read; without
/// other things, such as an index, it can.
///
/// # Errors
/// When the server is away.
pub async fn missing_columns(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<String>, sqlx::Error> {
    let is_read = |one: &Property| {
        one.kind == "column"
            && matches!(one.object.as_str(), "audit_transactions" | "audit_changes" | "audit_actions")
    };
    let (tables, columns): (Vec<String>, Vec<String>) =
        made().into_iter().filter(is_read).map(|one| (one.object, one.name)).unzip();
    sqlx::query_scalar(
        "select w.object || '.' || w.name from unnest($2::text[], $3::text[]) w (object, name)
         where not exists (
             select from pg_namespace n
             join pg_class c on c.relnamespace = n.oid
             join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
             where n.nspname = $1 and c.relname = w.object and a.attname = w.name)
         order by 1",
    )
    .bind(schema.as_str())
    .bind(tables)
    .bind(columns)
    .fetch_all(connection)
    .await
}

/// What a migration may replace: the indexes and foreign keys of the timeline's tables.
pub(crate) async fn replaceable(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<Property>, sqlx::Error> {
    let names: Vec<String> = tables().into_iter().map(str::to_owned).collect();
    let mut found = properties(connection, schema, &names).await?;
    found.retain(|one| matches!(one.kind.as_str(), "index" | "foreign key"));
    Ok(found)
}

/// Indexes of the timeline's tables that an interrupted build has left behind, or that are being built; `if not exists` takes them
/// for what they are not.
pub(crate) async fn invalid_indexes(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<Vec<String>, sqlx::Error> {
    let ours: Vec<String> =
        made().into_iter().filter(|one| one.kind == "index").map(|one| one.name).collect();
    sqlx::query_scalar(
        "select x.relname::text
         from pg_index i
         join pg_class x on x.oid = i.indexrelid
         join pg_namespace n on n.oid = x.relnamespace
         where n.nspname = $1 and not i.indisvalid and x.relname = any ($2) order by 1",
    )
    .bind(schema.as_str())
    .bind(ours)
    .fetch_all(connection)
    .await
}
