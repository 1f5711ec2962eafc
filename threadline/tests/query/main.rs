//! Reading the timeline, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod as_of;
mod blame;
mod children;
mod commands;
mod concurrent;
mod history;
mod library;
mod library_plans;
mod pages;
mod plans;
mod row_plans;
mod rows_replayed;
mod scope;
mod scope_rows;
mod table_as_of;
mod tail;
mod tenants;
mod timelines;
mod transactions;
mod tutorial;
mod undo;
mod undo_keys;
mod undo_refusals;
mod undo_values;

use library::library_database;
use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{Capture, HostTable, Migration, Policy, plan},
    query::{
        Reader, Scope, Table,
        row::{At, Row},
    },
};
use time::OffsetDateTime;

/// A database with a timeline, and whoever reads everything of it.
struct Read {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

impl Read {
    /// After this SQL.
    async fn after(sql: &'static str) -> anyhow::Result<Self> {
        let database = timeline_database().await?;
        let mut connection = database.connect().await?;
        connection.execute(sql).await?;
        let pool = PgPool::connect(&database.url).await?;
        Ok(Self { database, connection, timeline: Timeline::new(pool, StorageSchema::default()) })
    }

    fn reader(&self) -> Reader {
        self.timeline.reader(Scope::everything())
    }
}

/// Installs the triggers of these tables, with the sections of their policies.
async fn capture(connection: &mut PgConnection, tables: &[(&str, Value)]) -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    for (name, section) in tables {
        let table: HostTable = name.parse()?;
        let policy = Policy::read(&table, section.as_object().unwrap())?;
        wanted.push((table, policy));
    }
    let captures = plan(connection, &StorageSchema::default(), &wanted).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    Ok(())
}

fn both_levels() -> [Value; 2] {
    [json!({"level": "row"}), json!({"level": "statement"})]
}

/// A table of a name, `schema.name` where there is a dot.
fn table(name: &str) -> Table {
    match name.split_once('.') {
        Some((schema, name)) => Table { schema: Some(schema.to_owned()), name: name.to_owned() },
        None => Table { schema: None, name: name.to_owned() },
    }
}

/// A row, by what a key is written as.
async fn row(reader: &Reader, name: &str, key: &str) -> anyhow::Result<Row> {
    Ok(reader.row(&table(name), &key.parse()?).await?)
}

/// The time of the database.
async fn now(connection: &mut PgConnection) -> anyhow::Result<At> {
    Ok(At::from(
        sqlx::query_scalar::<_, OffsetDateTime>("select clock_timestamp()").fetch_one(connection).await?,
    ))
}
