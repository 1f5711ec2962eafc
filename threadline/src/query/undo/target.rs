//! The tables as they are, and what their policies hide.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;

use crate::{
    StorageSchema,
    capture::{DeployedPolicy, HostTable, Policy},
    query::{Change, Json},
};

/// A table as it is.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: HostTable,
    pub(super) is_partitioned: bool,
    /// Whether the server checks the primary key with each row, so that no two rows ever have one.
    pub(super) is_key_immediate: bool,
    pub(super) columns: BTreeMap<String, Column>,
    /// Its foreign keys.
    pub(super) references: Vec<Reference>,
    /// Tables of which rows go, or change, with a row of this one.
    pub(super) dependents: Vec<String>,
    /// None where it is not known what is hidden.
    pub(super) policy: Option<Policy>,
    /// Since when this policy is in force.
    pub(super) policy_since: Option<OffsetDateTime>,
}

/// A foreign key.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) columns: Vec<String>,
    /// The table that they refer to.
    pub(super) table: HostTable,
    /// Its columns, in the order of those that refer to them.
    pub(super) referred: Vec<String>,
}

/// A column.
#[derive(Debug, FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "answers of one statement")]
pub(super) struct Column {
    table: String,
    schema: String,
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) number: i16,
    pub(super) is_document: bool,
    /// Of type json, which keeps spaces and order; an image does not.
    pub(super) is_json: bool,
    pub(super) is_not_null: bool,
    pub(super) has_default: bool,
    pub(super) is_generated: bool,
    pub(super) is_virtual: bool,
    /// Only `overriding system value` sets it, and no update.
    pub(super) is_identity: bool,
    is_partitioned: bool,
    is_key_immediate: bool,
    dependents: Vec<String>,
}

impl Target {
    /// Whether a column is hidden, as a whole or in a part.
    pub(super) fn hides(&self, column: &str) -> bool {
        self.hidden().iter().any(|hidden| hidden == column)
    }

    pub(super) fn hidden(&self) -> Vec<String> {
        self.policy.as_ref().map(Policy::redacted).unwrap_or_default()
    }

    /// Whether an image that shows this in a column says all of it: it is neither cut nor a null that may be SQL's or JSON's.
    pub(super) fn shows_whole(&self, column: &str, document: &Json) -> bool {
        self.columns.get(column).is_some_and(|column| {
            let is_null = column.is_document && document.get() == "null";
            !is_null && !document.get().starts_with("{\"threadline.")
        })
    }

    /// In the order of the table.
    pub(super) fn columns_in_order(&self) -> Vec<&Column> {
        let mut columns: Vec<&Column> = self.columns.values().collect();
        columns.sort_by_key(|column| column.number);
        columns
    }
}

/// Those of the tables that are there.
pub(super) async fn read(
    snapshot: &mut PgConnection,
    storage: &StorageSchema,
    changes: &[Change],
) -> Result<BTreeMap<HostTable, Target>, sqlx::Error> {
    let name =
        |change: &Change| HostTable { schema: change.table_schema.clone(), name: change.table_name.clone() };
    let mut names: Vec<HostTable> = changes.iter().map(name).collect();
    names.sort();
    names.dedup();
    let mut targets: BTreeMap<HostTable, Target> = BTreeMap::new();
    for column in columns(snapshot, &names).await? {
        let name = HostTable { schema: column.schema.clone(), name: column.table.clone() };
        let target = targets.entry(name.clone()).or_insert_with(|| Target {
            name,
            is_partitioned: column.is_partitioned,
            is_key_immediate: column.is_key_immediate,
            columns: BTreeMap::new(),
            references: Vec::new(),
            dependents: column.dependents.clone(),
            policy: None,
            policy_since: None,
        });
        target.columns.insert(column.name.clone(), column);
    }
    for (name, reference) in references(snapshot, &names).await? {
        if let Some(target) = targets.get_mut(&name) {
            target.references.push(reference);
        }
    }
    // A role that may not read policies does not know what is hidden.
    let mut attempt = snapshot.begin().await?;
    match policies(&mut attempt, storage, &names, &mut targets).await {
        Ok(()) => attempt.commit().await?,
        Err(sqlx::Error::Database(_)) => {
            attempt.rollback().await?;
            for target in targets.values_mut() {
                target.policy = None;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(targets)
}

async fn policies(
    snapshot: &mut PgConnection,
    storage: &StorageSchema,
    names: &[HostTable],
    targets: &mut BTreeMap<HostTable, Target>,
) -> Result<(), sqlx::Error> {
    for (name, deployed) in DeployedPolicy::read(snapshot, storage, names).await? {
        let since = installed_at(snapshot, storage, &name).await?;
        if let (Some(target), Some(since)) = (targets.get_mut(&name), since) {
            target.policy = deployed.policy();
            target.policy_since = Some(since);
        }
    }
    Ok(())
}

/// When the triggers of a table were last made, under whatever name.
async fn installed_at(
    snapshot: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let policies = storage.table("threadline_capture_policies");
    let statement = format!(
        "select max(p.installed_at) from {policies} p
         where (p.table_schema, p.table_name) = ($1, $2) or p.table_oid = pg_catalog.to_regclass($3)"
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(&table.schema)
        .bind(&table.name)
        .bind(table.quoted())
        .fetch_one(snapshot)
        .await
}

/// Schema, table and columns, of who refers and of what is referred to.
type KeyColumns = (String, String, Vec<String>, String, String, Vec<String>);

/// Foreign keys, each with the table that has it.
async fn references(
    snapshot: &mut PgConnection,
    names: &[HostTable],
) -> Result<Vec<(HostTable, Reference)>, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    let rows: Vec<KeyColumns> = sqlx::query_as(
        "select n.nspname::text, c.relname::text,
                array(select a.attname::text from unnest(f.conkey) with ordinality k (number, place)
                      join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number order by k.place),
                m.nspname::text, d.relname::text,
                array(select a.attname::text from unnest(f.confkey) with ordinality k (number, place)
                      join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.number order by k.place)
         from unnest($1::text[], $2::text[]) w (schema, name)
         join pg_namespace n on n.nspname = w.schema
         join pg_class c on c.relnamespace = n.oid and c.relname = w.name
         join pg_constraint f on f.conrelid = c.oid and f.contype = 'f' and f.conparentid = 0
         join pg_class d on d.oid = f.confrelid
         join pg_namespace m on m.oid = d.relnamespace
         order by f.oid",
    )
    .persistent(false)
    .bind(schemas)
    .bind(names)
    .fetch_all(snapshot)
    .await?;
    let reference = |(schema, name, columns, other_schema, other, referred)| {
        let table = HostTable { schema: other_schema, name: other };
        (HostTable { schema, name }, Reference { columns, table, referred })
    };
    Ok(rows.into_iter().map(reference).collect())
}

async fn columns(snapshot: &mut PgConnection, names: &[HostTable]) -> Result<Vec<Column>, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    sqlx::query_as(
        "with recursive domains (domain, type, is_not_null) as (
             select t.oid, t.typbasetype, t.typnotnull from pg_type t where t.typtype = 'd'
             union
             select d.domain, t.typbasetype, d.is_not_null or t.typnotnull
             from domains d join pg_type t on t.oid = d.type and t.typtype = 'd'),
         bases as (select d.domain, d.type, d.is_not_null
                   from domains d join pg_type t on t.oid = d.type and t.typtype <> 'd')
         select n.nspname::text as schema, c.relname::text as table, a.attname::text as name,
                format_type(a.atttypid, a.atttypmod) as type_name, a.attnum as number,
                coalesce(b.type, a.atttypid) in ('json'::regtype, 'jsonb'::regtype) as is_document,
                coalesce(b.type, a.atttypid) = 'json'::regtype as is_json,
                a.attnotnull or coalesce(b.is_not_null, false) as is_not_null,
                a.atthasdef or a.attidentity <> '' or t.typdefault is not null as has_default,
                a.attgenerated <> '' as is_generated, a.attgenerated = 'v' as is_virtual, a.attidentity = 'a' as is_identity,
                c.relkind = 'p' as is_partitioned,
                exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indimmediate) as is_key_immediate,
                array(select distinct f.conrelid::regclass::text from pg_constraint f
                      where f.confrelid = c.oid and f.contype = 'f' and f.confdeltype in ('c', 'n', 'd') order by 1) as dependents
         from unnest($1::text[], $2::text[]) w (schema, name)
         join pg_namespace n on n.nspname = w.schema
         join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p')
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         join pg_type t on t.oid = a.atttypid
         left join bases b on b.domain = a.atttypid",
    )
    .persistent(false)
    .bind(schemas)
    .bind(names)
    .fetch_all(snapshot)
    .await
}
