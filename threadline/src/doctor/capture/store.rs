//! The timeline's own tables.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    catalog::{self, Property},
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
    install::{newest, owned_tables},
    partitions,
    schema_status::MIGRATIONS,
};

fn install() -> [Remedy; 1] {
    [Remedy::command("threadline install")]
}

pub(super) async fn schema(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has_timeline() {
        return Ok(Outcome::failed(format!("schema {} holds no timeline", facts.storage)).remedy(install()));
    }
    let lacking = catalog::lacking(connection, &facts.storage).await?;
    if lacking.is_empty() {
        return Ok(Outcome::ok(format!("{} tables in schema {}", catalog::tables().len(), facts.storage)));
    }
    let seen = format!("{} missing: {}", lacking.len(), listed(lacking.iter().map(Property::describe)));
    Ok(Outcome::failed(seen).remedy(install()))
}

pub(super) async fn migrations(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has(MIGRATIONS) {
        return Ok(Outcome::failed("there is no table of migrations").remedy(install()));
    }
    let statement = format!("select coalesce(max(version), 0) from {}", facts.table(MIGRATIONS));
    let version: i64 =
        sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).fetch_one(connection).await?;
    let seen = format!("migration {version}; this program knows {}", newest());
    Ok(match version.cmp(&newest()) {
        std::cmp::Ordering::Equal => Outcome::ok(seen),
        std::cmp::Ordering::Less => Outcome::attention(seen).remedy(install()),
        std::cmp::Ordering::Greater => Outcome::failed(seen)
            .remedy([Remedy::advice("use the threadline that has migrated, or a newer one")]),
    })
}

pub(super) async fn durable(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let unlogged: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname)
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = any ($2) and c.relpersistence = 'u' order by c.relname",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(facts.with_months(&owned_tables()))
    .fetch_all(connection)
    .await?;
    if unlogged.is_empty() {
        return Ok(Outcome::ok("no table is unlogged"));
    }
    let steps = unlogged.iter().map(|table| Remedy::sql(format!("alter table {table} set logged")));
    Ok(Outcome::failed(format!("unlogged: {}", listed(&unlogged))).remedy(steps))
}

pub(super) async fn months(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if partitions::is_partitioned(connection, &facts.storage).await? != Some(true) {
        return Ok(Outcome::not_applicable("changes are stored in one table"));
    }
    let missing = partitions::missing(connection, &facts.storage, 2).await?;
    let astray: i64 = sqlx::query_scalar(
        "select coalesce(sum(pg_relation_size(p.partdefid)), 0)::int8 from pg_catalog.pg_partitioned_table p where p.partrelid = to_regclass($1)",
    )
    .persistent(false)
    .bind(facts.table("audit_changes"))
    .fetch_one(connection)
    .await?;
    let (mut lines, mut steps) = (Vec::new(), Vec::new());
    if !missing.is_empty() {
        lines.push(format!("there is no table for {}", missing.join(", ")));
        steps.extend(install());
    }
    if astray > 0 {
        lines.push(format!("{astray} bytes are in no month, and are purged row by row"));
        steps.push(Remedy::advice("leave them: a purge deletes them when their time has come; purge at least every month, which makes those to come"));
    }
    if lines.is_empty() {
        return Ok(Outcome::ok("the next two months have their tables"));
    }
    Ok(Outcome::attention(listed(lines)).remedy(steps))
}
