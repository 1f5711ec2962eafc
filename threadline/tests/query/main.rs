//! Reading the timeline, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod commands;
mod pages;
mod plans;
mod tail;

use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{Capture, HostTable, Migration, Policy, plan},
    query::{Reader, Scope},
};

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
