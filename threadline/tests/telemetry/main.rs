//! What the library says of its work and of a timeline's state, on a real PostgreSQL: events, figures, `threadline metrics`.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod command;
#[cfg(feature = "metrics")]
mod counters;
#[cfg(feature = "metrics")]
mod leaks;

use sandbox::fixture::{TestDatabase, timeline_database};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{HostTable, Migration, Policy, plan},
};

/// A host's table that is captured, and one that is not.
struct Host {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

const TABLES: &str = "create table posts (id text primary key, number int, title text); create table plain (id int primary key)";

async fn host() -> anyhow::Result<Host> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    connection.execute(TABLES).await?;
    let table: HostTable = "posts".parse()?;
    let policy = Policy::read(&table, json!({}).as_object().unwrap())?;
    let captures = plan(&mut connection, &StorageSchema::default(), &[(table, policy)]).await?;
    let migration = Migration::new(&captures, 1, threadline::capture::Capture::is_rerun);
    connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    let timeline = Timeline::new(PgPool::connect(&database.url).await?, StorageSchema::default());
    Ok(Host { database, connection, timeline })
}

impl Host {
    /// A change of twenty days ago, with its captured transaction.
    async fn record_old(&mut self, txid: i64, title: &str) -> anyhow::Result<()> {
        sqlx::query(
            "with t as (insert into audit_transactions (txid, occurred_at) values ($1, now() - interval '20 days') returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
             select id, 'public', 'posts', jsonb_build_object('id', $2), 'insert', jsonb_build_object('id', $2, 'title', $2),
                    now() - interval '20 days' from t",
        )
        .bind(txid)
        .bind(title)
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}

async fn insert(
    connection: &mut PgConnection,
    id: &str,
    number: i32,
    title: &str,
) -> Result<(), sqlx::Error> {
    let statement = sqlx::query("insert into posts values ($1, $2, $3)").bind(id).bind(number).bind(title);
    statement.execute(connection).await.map(drop)
}
