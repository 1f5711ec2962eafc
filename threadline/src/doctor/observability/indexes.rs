//! Indexes that cost writers something and help nobody.

use sqlx::{FromRow, PgConnection};

use crate::{
    catalog,
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
};

/// The tables that are written to all the time.
const TABLES: [&str; 3] = ["audit_transactions", "audit_changes", "audit_actions"];

/// An index that is in no list of what the timeline has, and why it could go.
#[derive(FromRow)]
struct Spare {
    /// Quoted, with its schema.
    name: String,
    is_partitioned: bool,
    why: String,
}

/// Where an application of Elixir keeps the versions of its migrations, its library of the timeline may read correlation ids: then the whole
/// index is what it needs (migration 0040 has the same condition).
const SPARE: &str = "
    with indexes as (
        select t.relname::text as of, x.relname::text as name, format('%I.%I', n.nspname, x.relname) as quoted, m.amname::text as method, x.relkind = 'I' as is_partitioned,
               i.indisunique, i.indisvalid, i.indpred is not null as is_partial,
               exists (select from pg_catalog.pg_constraint k where k.conindid = i.indexrelid) as is_constraint,
               -- Null for an expression; those behind the keys come with an entry.
               array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality c (number, nth)
                     left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = c.number and c.number > 0
                     order by c.nth) as columns,
               i.indnkeyatts as keys
        from pg_catalog.pg_index i
        join pg_catalog.pg_class x on x.oid = i.indexrelid
        join pg_catalog.pg_am m on m.oid = x.relam
        join pg_catalog.pg_class t on t.oid = i.indrelid
        join pg_catalog.pg_namespace n on n.oid = t.relnamespace
        where n.nspname = $1 and t.relname = any ($2)),
    others as (
        select * from indexes
        where not indisunique and not is_constraint and not is_partial and name <> all ($3) and array_position(columns, null) is null)
    select o.quoted as name, o.is_partitioned,
           case when c.name is not null then format('%s of %s begins with the same columns', c.name, o.of)
                when o.columns = '{actor_ref}' then 'no read looks for actors of actions in it'
                else 'actions are found by the smaller index of correlation ids' end as why
    from others o
    left join lateral (
        select c.name from indexes c
        where c.of = o.of and c.name <> o.name and c.method = 'btree' and o.method = 'btree' and c.indisvalid and not c.is_partial
          and c.columns[1:least(c.keys, cardinality(o.columns))] = o.columns
          -- Of two that are the same one is enough.
          and (c.columns <> o.columns or c.name = any ($3) or c.indisunique or c.name < o.name)
        order by c.name limit 1) c on true
    where c.name is not null
       or o.of = 'audit_actions' and o.method = 'gin' and o.columns = '{actor_ref}'
       or o.of = 'audit_actions' and o.method = 'btree' and o.columns = '{correlation_id}'
          and not exists (
              select from pg_catalog.pg_class m
              where m.relkind = 'r' and m.relnatts = 2
                and array(select format('%s %s', a.attname, a.atttypid::regtype) from pg_catalog.pg_attribute a
                          where a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
                    = '{version bigint,inserted_at timestamp without time zone}')
    order by o.quoted";

pub(super) async fn spare(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let ours = catalog::made().into_iter().filter(|one| matches!(one.kind.as_str(), "index" | "key"));
    let found: Vec<Spare> = sqlx::query_as(SPARE)
        .persistent(false)
        .bind(facts.storage.as_str())
        .bind(TABLES)
        .bind(ours.map(|one| one.name).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    if found.is_empty() {
        return Ok(Outcome::ok("none"));
    }
    let lines = found.iter().map(|one| format!("{}: {}", one.name, one.why));
    let drops = found.iter().map(|one| {
        // The server drops no index of a partitioned table without its lock.
        let way = if one.is_partitioned { "" } else { "concurrently " };
        Remedy::sql(format!("drop index {way}{}", one.name))
    });
    Ok(Outcome::attention(listed(lines)).remedy(drops))
}
