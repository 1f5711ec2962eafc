//! Retention, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod actions;
mod archive;
mod archive_changed;
mod archive_commands;
mod archive_exact;
mod archive_faults;
mod archive_killed;
mod archive_memory;
mod archive_race;
mod changes;
mod commands;
mod concurrent;
mod dry_run;
mod horizon;
mod leases;
mod library;
mod locks;
mod partitions;
mod plans;
mod runs;
mod scheduler;
mod tables;
mod telemetry;
mod transactions;

use sandbox::fixture::{TestDatabase, timeline_database};
use sqlx::{Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{HostTable, Refusal},
    retention::{Keep, Policy, PurgeError, PurgeOptions, Purged},
};

/// A database with a timeline, and whoever purges it.
struct Host {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

/// One table of the host's is there: that which the settings of these tests name.
async fn host() -> anyhow::Result<Host> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    connection.execute("create schema billing; create table billing.invoices (id int primary key)").await?;
    let timeline = Timeline::new(PgPool::connect(&database.url).await?, StorageSchema::default());
    Ok(Host { database, connection, timeline })
}

const DAY: i64 = 86_400;

impl Host {
    /// Captured transactions of these numbers, each with changes of tables, so many seconds old.
    async fn record(&mut self, changes: &[(i64, &str, i64)]) -> anyhow::Result<()> {
        for (txid, table, age) in changes {
            let (schema, name) = table.split_once('.').unwrap_or(("public", table));
            sqlx::query(
                "with t as (insert into audit_transactions (txid, occurred_at) values ($1, now() - $2 * interval '1 second')
                            on conflict (txid) do update set source = excluded.source returning id)
                 insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
                 select t.id, $3, $4, '{\"id\": \"1\"}', 'insert', '{\"id\": 1}', now() - $2 * interval '1 second' from t",
            )
            .bind(txid)
            .bind(age)
            .bind(schema)
            .bind(name)
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// Captured transactions without changes, of these numbers and ages.
    async fn record_empty(&mut self, transactions: &[(i64, i64)]) -> anyhow::Result<()> {
        for (txid, age) in transactions {
            sqlx::query("insert into audit_transactions (txid, occurred_at) values ($1, now() - $2 * interval '1 second')")
                .bind(txid)
                .bind(age)
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    async fn purge(&self, policy: &Policy) -> Result<Purged, PurgeError> {
        self.timeline.purge(policy, &PurgeOptions::default()).await
    }

    async fn count(&mut self, table: &str) -> anyhow::Result<i64> {
        let statement = format!("select count(*) from {table}");
        Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?)
    }

    /// Numbers of the captured transactions that are left, with the tables of their changes.
    async fn left(&mut self) -> anyhow::Result<Vec<(i64, Vec<String>)>> {
        Ok(sqlx::query_as(
            "select t.txid, array(select c.table_schema || '.' || c.table_name from audit_changes c
                                  where c.transaction_id = t.id order by 1)
             from audit_transactions t order by 1",
        )
        .fetch_all(&mut self.connection)
        .await?)
    }
}

/// Ten days for everything.
fn ten_days() -> Policy {
    Policy::new(Keep::days(10).unwrap()).unwrap()
}

fn table(name: &str) -> HostTable {
    name.parse::<HostTable>().map_err(|refusal: Refusal| refusal.to_string()).unwrap()
}

/// The defaults but for this.
fn options(change: impl FnOnce(&mut PurgeOptions)) -> PurgeOptions {
    let mut options = PurgeOptions::default();
    change(&mut options);
    options
}

/// Changes, transactions, actions and batches.
fn counts(purged: &Purged) -> (u64, u64, u64, u32) {
    (purged.deleted_changes, purged.deleted_transactions, purged.deleted_actions, purged.batches_run)
}

fn term<T: std::fmt::Debug>(purged: Result<T, PurgeError>) -> Option<&'static str> {
    purged.unwrap_err().term()
}
