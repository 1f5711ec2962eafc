//! Reading tables from the catalog: each kind of property in one statement for all of them.

use std::collections::{BTreeMap, HashMap};

use sqlx::{FromRow, PgConnection};

use super::{Column, HostTable, Table, TableKind, UniqueIndex};

#[derive(FromRow)]
struct TableRow {
    relation: i64,
    schema: String,
    name: String,
    #[sqlx(flatten)]
    kind: TableKind,
}

#[derive(FromRow)]
struct ColumnRow {
    relation: i64,
    #[sqlx(flatten)]
    column: Column,
}

#[derive(FromRow)]
struct IndexRow {
    relation: i64,
    #[sqlx(flatten)]
    index: UniqueIndex,
}

impl Table {
    /// One table; `None` when it is not there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn read(connection: &mut PgConnection, name: &HostTable) -> Result<Option<Self>, sqlx::Error> {
        Ok(Self::read_all(connection, std::slice::from_ref(name)).await?.remove(name))
    }

    /// Those of the tables that are there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn read_all(
        connection: &mut PgConnection,
        names: &[HostTable],
    ) -> Result<BTreeMap<HostTable, Self>, sqlx::Error> {
        let rows = tables(connection, names).await?;
        let relations: Vec<i64> = rows.iter().map(|row| row.relation).collect();
        let mut columns = grouped(columns(connection, &relations).await?, |row| (row.relation, row.column));
        let mut keys = grouped(primary_keys(connection, &relations).await?, |row| row);
        let mut indexes =
            grouped(unique_indexes(connection, &relations).await?, |row| (row.relation, row.index));
        let mut leaves = grouped(leaves(connection, &relations).await?, |(relation, schema, name)| {
            (relation, HostTable { schema, name })
        });
        let table = |row: TableRow| {
            let name = HostTable { schema: row.schema, name: row.name };
            let table = Self {
                name: name.clone(),
                oid: row.relation,
                kind: row.kind,
                columns: columns.remove(&row.relation).unwrap_or_default(),
                primary_key: keys.remove(&row.relation).unwrap_or_default(),
                unique_indexes: indexes.remove(&row.relation).unwrap_or_default(),
                leaves: leaves.remove(&row.relation).unwrap_or_default(),
            };
            (name, table)
        };
        Ok(rows.into_iter().map(table).collect())
    }
}

fn grouped<R, T>(rows: Vec<R>, split: impl Fn(R) -> (i64, T)) -> HashMap<i64, Vec<T>> {
    let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
    for (relation, one) in rows.into_iter().map(split) {
        groups.entry(relation).or_default().push(one);
    }
    groups
}

async fn tables(connection: &mut PgConnection, names: &[HostTable]) -> Result<Vec<TableRow>, sqlx::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        names.iter().map(|name| (name.schema.as_str(), name.name.as_str())).unzip();
    sqlx::query_as(
        "select distinct c.oid::int8 as relation, n.nspname::text as schema, c.relname::text as name, c.relkind::text as kind,
                c.relispartition as is_partition,
                exists (select from pg_inherits i where i.inhparent = c.oid)
                    or exists (select from pg_inherits i where i.inhrelid = c.oid) as has_relatives,
                c.relpersistence = 'u' as is_unlogged,
                exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname like 'threadline\\_audit\\_%')
                    as has_capture
         from unnest($1::text[], $2::text[]) w (schema, name)
         join pg_namespace n on n.nspname = w.schema
         join pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind in ('r', 'p', 'v', 'm', 'f')",
    )
    .bind(schemas)
    .bind(names)
    .fetch_all(connection)
    .await
}

async fn columns(connection: &mut PgConnection, relations: &[i64]) -> Result<Vec<ColumnRow>, sqlx::Error> {
    sqlx::query_as(
        "with recursive domains (domain, type) as (
             select t.oid, t.typbasetype from pg_type t where t.typtype = 'd'
             union
             select d.domain, t.typbasetype from domains d join pg_type t on t.oid = d.type and t.typtype = 'd'),
         bases as (select d.domain, d.type from domains d join pg_type t on t.oid = d.type and t.typtype <> 'd')
         select a.attrelid::int8 as relation, a.attname::text as name, format_type(a.atttypid, null) as type_name,
                t.typname::text as base, t.typtype = 'e' as is_enum, a.attgenerated = 'v' as is_virtual, a.attnum as number,
                exists (select from pg_cast c where c.castsource = t.oid and c.castfunc <> 0
                        and c.casttarget in ('json'::regtype, 'jsonb'::regtype)) as has_json_cast,
                array(select distinct p.attname::text from pg_depend e
                      join pg_attribute p on p.attrelid = a.attrelid and p.attnum = e.refobjsubid and p.attnum <> a.attnum
                      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                      where a.attgenerated <> '' and e.refclassid = 'pg_class'::regclass and e.refobjid = a.attrelid
                        -- What depends is the column's default, in 14 the column itself.
                        and (e.classid = 'pg_attrdef'::regclass and e.objid = d.oid
                             or e.classid = 'pg_class'::regclass and e.objid = a.attrelid and e.objsubid = a.attnum)
                     ) as computed_from
         from unnest($1::int8[]) w (relation)
         join pg_attribute a on a.attrelid = w.relation::oid and a.attnum > 0 and not a.attisdropped
         left join bases b on b.domain = a.atttypid
         join pg_type t on t.oid = coalesce(b.type, a.atttypid)
         order by a.attrelid, a.attnum",
    )
    .bind(relations)
    .fetch_all(connection)
    .await
}

async fn primary_keys(
    connection: &mut PgConnection,
    relations: &[i64],
) -> Result<Vec<(i64, String)>, sqlx::Error> {
    sqlx::query_as(
        "select i.indrelid::int8, a.attname::text
         from unnest($1::int8[]) w (relation)
         join pg_index i on i.indrelid = w.relation::oid and i.indisprimary
         cross join unnest(i.indkey::int2[]) with ordinality k (number, n)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
         where k.n <= i.indnkeyatts
         order by i.indrelid, k.n",
    )
    .bind(relations)
    .fetch_all(connection)
    .await
}

async fn unique_indexes(
    connection: &mut PgConnection,
    relations: &[i64],
) -> Result<Vec<IndexRow>, sqlx::Error> {
    sqlx::query_as(
        "select i.indrelid::int8 as relation, x.relname::text as name,
                array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (number, n)
                      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
                      where k.n <= i.indnkeyatts order by k.n) as columns,
                array_remove(array[
                    case when not (i.indisvalid and i.indisready) then 'invalid' end,
                    case when not i.indimmediate then 'deferrable' end,
                    case when i.indpred is not null then 'partial' end,
                    case when i.indexprs is not null then 'expression' end,
                    case when exists (select from unnest(i.indkey::int2[]) with ordinality k (number, n)
                                      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
                                      where k.n <= i.indnkeyatts and not a.attnotnull) then 'nullable column' end], null)
                    as flaws
         from unnest($1::int8[]) w (relation)
         join pg_index i on i.indrelid = w.relation::oid and i.indisunique and not i.indisprimary
         join pg_class x on x.oid = i.indexrelid
         order by 1, 2",
    )
    .bind(relations)
    .fetch_all(connection)
    .await
}

async fn leaves(
    connection: &mut PgConnection,
    relations: &[i64],
) -> Result<Vec<(i64, String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select c.oid::int8, n.nspname::text, l.relname::text
         from unnest($1::int8[]) w (relation)
         join pg_class c on c.oid = w.relation::oid and c.relkind = 'p'
         cross join lateral pg_partition_tree(c.oid::regclass) t
         join pg_class l on l.oid = t.relid join pg_namespace n on n.oid = l.relnamespace
         where t.isleaf and t.relid <> c.oid order by 1, 2, 3",
    )
    .bind(relations)
    .fetch_all(connection)
    .await
}
