//! What the server's own views say.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};

use crate::{
    capture::names::{literal, quote},
    catalog,
    doctor::{
        check::{Outcome, listed},
        facts::Facts,
        remedy::Remedy,
    },
    install::owned_tables,
};

/// Dead rows below which vacuum has nothing to do that anybody would notice.
const DEAD_MIN: i64 = 10_000;

/// Autovacuum begins at a fifth of a table by default: more than two of them means that it does not come to an end, or does not run.
const DEAD_PERCENT: i64 = 40;

/// A transaction that has been open for longer keeps vacuum from everything that was deleted since.
const TRANSACTION_MAX: Duration = Duration::from_secs(3_600);

/// A table, as vacuum sees it.
#[derive(FromRow)]
struct Vacuumed {
    name: String,
    live: i64,
    dead: i64,
    is_off: bool,
}

pub(super) async fn vacuum(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let is_on: bool = sqlx::query_scalar(
        "select current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    if !is_on {
        let steps =
            ["autovacuum", "track_counts"].map(|name| Remedy::sql(format!("alter system set {name} = on")));
        let steps = steps.into_iter().chain([Remedy::sql("select pg_reload_conf()")]);
        return Ok(Outcome::failed("autovacuum is off on this server").remedy(steps));
    }
    let tables: Vec<Vacuumed> = sqlx::query_as(
        "select format('%I.%I', n.nspname, c.relname) as name, pg_stat_get_live_tuples(c.oid) as live,
                pg_stat_get_dead_tuples(c.oid) as dead,
                exists (select from pg_options_to_table(c.reloptions) o
                        where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean) as is_off
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = any ($2) and c.relkind = 'r' order by c.relname",
    )
    .persistent(false)
    .bind(facts.storage.as_str())
    .bind(facts.with_months(&owned_tables()))
    .fetch_all(connection)
    .await?;
    let (mut lines, mut steps) = (Vec::new(), Vec::new());
    for table in &tables {
        let Vacuumed { name, live, dead, is_off } = table;
        if *is_off {
            lines.push(format!("autovacuum is off for {name}"));
            steps.push(Remedy::sql(format!("alter table {name} reset (autovacuum_enabled)")));
        }
        if *dead > DEAD_MIN && dead * 100 > (live + dead) * DEAD_PERCENT {
            lines.push(format!("{name} has {dead} dead rows and {live} live ones"));
            steps.push(Remedy::sql(format!("vacuum (analyze) {name}")));
        }
    }
    if lines.is_empty() {
        let dead: i64 = tables.iter().map(|table| table.dead).sum();
        return Ok(Outcome::ok(format!("{dead} dead rows in {} tables", tables.len())));
    }
    Ok(Outcome::attention(listed(lines)).remedy(steps))
}

pub(super) async fn indexes(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let invalid = catalog::invalid_indexes(connection, &facts.storage).await?;
    if invalid.is_empty() {
        return Ok(Outcome::ok("all of them"));
    }
    let schema = quote(facts.storage.as_str());
    let drops =
        invalid.iter().map(|index| Remedy::sql(format!("drop index concurrently {schema}.{}", quote(index))));
    let steps = drops.chain([Remedy::command("threadline install")]);
    Ok(Outcome::failed(format!("not valid, or being built: {}", listed(&invalid))).remedy(steps))
}

pub(super) async fn slots(connection: &mut PgConnection, _: &Facts) -> Result<Outcome, sqlx::Error> {
    let slots: Vec<(String, bool, Option<String>)> = sqlx::query_as(
        "select slot_name::text, active, wal_status from pg_catalog.pg_replication_slots order by slot_name",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    let held: Vec<&(String, bool, Option<String>)> = slots
        .iter()
        .filter(|(_, _, status)| matches!(status.as_deref(), Some("extended" | "unreserved" | "lost")))
        .collect();
    if held.is_empty() {
        return Ok(Outcome::ok(format!("{} slots", slots.len())));
    }
    let lines = held.iter().map(|(name, is_active, status)| {
        let active = if *is_active { "active" } else { "not active" };
        format!("{name} ({active}, {})", status.as_deref().unwrap_or_default())
    });
    let seen = format!("{} of {} slots: {}", held.len(), slots.len(), listed(lines));
    let idle = held.iter().filter(|(_, is_active, _)| !is_active);
    let mut steps: Vec<Remedy> = idle
        .map(|(name, ..)| Remedy::sql(format!("select pg_drop_replication_slot({})", literal(name))))
        .collect();
    if held.iter().any(|(_, is_active, _)| *is_active) {
        steps.push(Remedy::advice(
            "find out why the standby or subscriber of an active slot does not keep up",
        ));
    }
    Ok(Outcome::attention(seen).remedy(steps))
}

/// A transaction that is open: of a session, or prepared.
#[derive(FromRow)]
struct OpenTransaction {
    who: String,
    seconds: f64,
    /// What ends it.
    ending: String,
}

pub(super) async fn transactions(connection: &mut PgConnection, _: &Facts) -> Result<Outcome, sqlx::Error> {
    let open = open_transactions(connection, TRANSACTION_MAX).await?;
    if open.is_empty() {
        return Ok(Outcome::ok("none"));
    }
    let lines = open.iter().map(|one| format!("{} for {:.1} hours", one.who, one.seconds / 3_600.0));
    let steps = open.iter().map(|one| Remedy::sql(&one.ending));
    Ok(Outcome::attention(format!("{} are open: {}", open.len(), listed(lines))).remedy(steps))
}

/// Of this database, as far as the role sees when they began; the oldest 20.
async fn open_transactions(
    connection: &mut PgConnection,
    older_than: Duration,
) -> Result<Vec<OpenTransaction>, sqlx::Error> {
    sqlx::query_as(
        "select who, extract(epoch from clock_timestamp() - began)::float8 as seconds, ending
         from (select format('process %s (%s, %s)', pid, coalesce(usename::text, ''), coalesce(state, '')) as who, xact_start as began,
                      format('select pg_terminate_backend(%s)', pid) as ending
               from pg_catalog.pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
               union all
               select format('prepared transaction %s', gid), prepared, format('rollback prepared %L', gid)
               from pg_catalog.pg_prepared_xacts where database = current_database()) t
         where began < clock_timestamp() - $1 * interval '1 second' order by began limit 20",
    )
    .persistent(false)
    .bind(older_than.as_secs_f64())
    .fetch_all(connection)
    .await
}

pub(super) async fn event_triggers(connection: &mut PgConnection, _: &Facts) -> Result<Outcome, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "select format('%I (%s)', evtname, evtevent) from pg_catalog.pg_event_trigger where evtenabled <> 'D' order by 1",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(Outcome::ok(if names.is_empty() { "none".to_owned() } else { listed(names) }))
}

#[cfg(test)]
mod tests {
    use sandbox::fixture::timeline_database;
    use sqlx::Executor as _;

    use super::*;

    /// The doctor's own limit is an hour, which no test waits for.
    #[tokio::test]
    async fn open_and_prepared_transactions_are_seen_and_ended_by_what_the_doctor_says() -> anyhow::Result<()>
    {
        let database = timeline_database().await?;
        let (mut held, mut watch) = (database.connect().await?, database.connect().await?);
        let seen = async |connection: &mut PgConnection| open_transactions(connection, Duration::ZERO).await;
        assert!(seen(&mut watch).await?.is_empty());
        let name = format!("doctor_{}", uuid::Uuid::new_v4().simple());
        held.execute(sqlx::AssertSqlSafe(format!("begin; select 1; prepare transaction '{name}'"))).await?;
        held.execute("begin; select 1").await?;
        let open = seen(&mut watch).await?;
        assert_eq!(open.len(), 2, "{:?}", open.iter().map(|one| &one.who).collect::<Vec<_>>());
        assert!(open.iter().any(|one| one.who.contains("idle in transaction") && one.seconds >= 0.0));
        for one in &open {
            watch.execute(sqlx::AssertSqlSafe(one.ending.clone())).await?;
        }
        sandbox::wait::until_some("the session to end", Duration::from_secs(30), async || {
            Ok(seen(&mut watch).await?.is_empty().then_some(()))
        })
        .await?;
        Ok(())
    }
}
