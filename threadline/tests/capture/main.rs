//! Capture on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod audited;
mod command_line;
mod coverage;
mod firing;
mod first_generation;
mod keys;
mod large;
mod library;
mod library_beside;
mod library_ways;
mod migrations;
mod python;
mod readiness;
mod redaction;
mod refusals;
mod replay;
mod same_rows;
mod server_versions;
mod sessions;
mod sql_functions;
mod strict;
mod subscribers;
mod switched_off;
mod switching;
mod telemetry;
mod transactions;
mod values;
mod virtual_columns;

use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{Capture, HostTable, Migration, PlanError, Policy, plan},
};

/// A database with the timeline and the host's tables.
async fn host(tables: &'static str) -> anyhow::Result<(TestDatabase, PgConnection)> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    connection.execute(tables).await?;
    Ok((database, connection))
}

async fn captures(
    connection: &mut PgConnection,
    tables: &[(&str, Value)],
) -> Result<Vec<Capture>, PlanError> {
    let mut wanted = Vec::new();
    for (name, section) in tables {
        let table: HostTable = name.parse()?;
        let policy = Policy::read(&table, section.as_object().unwrap())?;
        wanted.push((table, policy));
    }
    plan(connection, &StorageSchema::default(), &wanted).await
}

/// Installs the triggers.
async fn capture(connection: &mut PgConnection, tables: &[(&str, Value)]) -> anyhow::Result<Migration> {
    let captures = captures(connection, tables).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    run(connection, &migration.up).await?;
    Ok(migration)
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(format!("begin; {sql}; commit"))).await?;
    Ok(())
}

/// Everything of a change but ids and times, in order.
async fn changes(connection: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    Ok(sqlx::query_scalar(
        "select jsonb_strip_nulls(to_jsonb(c) - '{id,transaction_id,captured_at,position,table_schema}'::text[])
         from audit_changes c order by position",
    )
    .fetch_all(connection)
    .await?)
}

async fn actors(connection: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    Ok(sqlx::query_scalar(
        "select jsonb_strip_nulls(to_jsonb(t) - '{id,txid,occurred_at}'::text[]) from audit_transactions t order by occurred_at",
    )
    .fetch_all(connection)
    .await?)
}

/// As a number: 150020 is 15.20.
async fn server_version(connection: &mut PgConnection) -> anyhow::Result<i32> {
    Ok(sqlx::query_scalar("select current_setting('server_version_num')::int").fetch_one(connection).await?)
}

fn both_levels() -> [Value; 2] {
    [json!({"level": "row"}), json!({"level": "statement"})]
}
