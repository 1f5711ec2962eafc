//! The tables as they are, and what their policies hide.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};
use time::OffsetDateTime;

use super::net::Net;
use crate::{
    StorageSchema,
    capture::{DeployedPolicy, HostTable, Policy},
};

/// A table as it is.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: HostTable,
    pub(super) is_partitioned: bool,
    pub(super) columns: BTreeMap<String, Column>,
    /// Tables of which rows go, or change, with a row of this one.
    pub(super) dependents: Vec<String>,
    /// None where it is not known what is hidden.
    pub(super) policy: Option<Policy>,
    /// Since when this policy is in force.
    pub(super) policy_since: Option<OffsetDateTime>,
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
    nets: &[Net],
) -> Result<BTreeMap<HostTable, Target>, sqlx::Error> {
    let mut names: Vec<HostTable> = nets.iter().map(|net| net.table.clone()).collect();
    names.sort();
    names.dedup();
    let mut targets: BTreeMap<HostTable, Target> = BTreeMap::new();
    for column in columns(snapshot, &names).await? {
        let name = HostTable { schema: column.schema.clone(), name: column.table.clone() };
        let target = targets.entry(name.clone()).or_insert_with(|| Target {
            name,
            is_partitioned: column.is_partitioned,
            columns: BTreeMap::new(),
            dependents: column.dependents.clone(),
            policy: None,
            policy_since: None,
        });
        target.columns.insert(column.name.clone(), column);
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
