//! Realistic audit rows at a price that leaves the cores to what is measured.

use std::time::Duration;

use futures::future::try_join_all;
use sandbox::{audit, audit::AuditRow, fixture, golden, workload::Workload};
use sqlx::{Connection as _, PgConnection};
use time::{OffsetDateTime, PrimitiveDateTime};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

/// Rows of the workload that are written again and again, under new ids.
const POOL: usize = 20_000;

/// Rows a statement, where many are written at once.
pub(crate) const BULK: usize = 100;

/// How writers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One row, one statement, one transaction.
    Single,
    /// [`BULK`] rows a statement.
    Bulk,
}

/// Rows of the workload, the same in every run.
pub(crate) fn pool(count: usize) -> Vec<AuditRow> {
    Workload::new(1).flat_map(|transaction| transaction.rows).take(count).collect()
}

/// Makes rows whose foreign keys hold.
async fn organizations(connection: &mut PgConnection) -> anyhow::Result<()> {
    let table = fixture::audit_events();
    audit::insert_organizations(connection, &table, &golden::ORGANIZATIONS).await?;
    audit::insert_organizations(connection, &table, Workload::new(1).organizations()).await
}

/// Writes so many rows, in transactions of a thousand.
pub(crate) async fn fill(url: &str, count: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    organizations(&mut connection).await?;
    let pool = pool(POOL);
    let mut left = usize::try_from(count)?;
    for chunk in pool.chunks(1_000).cycle() {
        let take = chunk.len().min(left);
        if take == 0 {
            break;
        }
        insert_anew(&mut connection, &serde_json::to_value(&chunk[..take])?).await?;
        left -= take;
    }
    connection.close().await?;
    Ok(())
}

/// Inserts rows under new ids, as of now.
async fn insert_anew(connection: &mut PgConnection, rows: &serde_json::Value) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into public.audit_events
             (id, occurred_at, action, outcome, actor_id, actor_type, target_id, target_type, organization_id,
              effective_user_id, ip_address, user_agent, metadata, inserted_at)
         select gen_random_uuid(), clock_timestamp() at time zone 'UTC', r.action, r.outcome, r.actor_id, r.actor_type,
                r.target_id, r.target_type, r.organization_id, r.effective_user_id, r.ip_address, r.user_agent,
                r.metadata, clock_timestamp() at time zone 'UTC'
         from jsonb_populate_recordset(null::public.audit_events, $1) r",
    )
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writers on connections of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writers {
    /// How many.
    pub(crate) count: u32,
    /// How they write.
    pub(crate) shape: Shape,
    /// Rows a second over all of them; as fast as they can without.
    pub(crate) rate: Option<u32>,
}

impl Writers {
    /// Writes for so long; returns how many rows were committed, and in how many seconds.
    pub(crate) async fn write(self, url: &str, time: Duration) -> anyhow::Result<(u64, f64)> {
        let mut connection = PgConnection::connect(url).await?;
        organizations(&mut connection).await?;
        connection.close().await?;
        let pool = std::sync::Arc::new(pool(2_000));
        let mut connections = Vec::new();
        for _ in 0..self.count {
            connections.push(PgConnection::connect(url).await?);
        }
        let begun = Instant::now();
        let writing = connections.into_iter().zip(0..).map(|(connection, number)| {
            let writer = Writer { connection, number, all: self, pool: pool.clone() };
            tokio::spawn(writer.write(begun, begun + time))
        });
        let written = try_join_all(writing).await?.into_iter().sum::<anyhow::Result<u64>>()?;
        Ok((written, begun.elapsed().as_secs_f64()))
    }
}

struct Writer {
    connection: PgConnection,
    number: u32,
    all: Writers,
    pool: std::sync::Arc<Vec<AuditRow>>,
}

impl Writer {
    async fn write(mut self, begun: Instant, until: Instant) -> anyhow::Result<u64> {
        let bulk = serde_json::to_value(&self.pool[..BULK])?;
        let mut ticker = self.all.rate.map(|rate| {
            let pace = Duration::from_secs(1).mul_f64(f64::from(self.all.count) / f64::from(rate));
            // Spread out: writers that tick together would write in bursts.
            let offset = pace.mul_f64(f64::from(self.number) / f64::from(self.all.count));
            let mut ticker = interval_at(begun + offset, pace);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticker
        });
        let mut rows = self.pool.iter().cycle().skip(self.number as usize * 97);
        let mut written = 0;
        while Instant::now() < until {
            if let Some(ticker) = &mut ticker {
                ticker.tick().await;
            }
            match self.all.shape {
                Shape::Single => {
                    if let Some(row) = rows.next() {
                        insert(&mut self.connection, row).await?;
                    }
                    written += 1;
                }
                Shape::Bulk => {
                    insert_anew(&mut self.connection, &bulk).await?;
                    written += BULK as u64;
                }
            }
        }
        self.connection.close().await?;
        Ok(written)
    }
}

/// One row as an application writes it: one prepared statement, which commits.
async fn insert(connection: &mut PgConnection, row: &AuditRow) -> Result<(), sqlx::Error> {
    let now = OffsetDateTime::now_utc();
    let now = PrimitiveDateTime::new(now.date(), now.time());
    sqlx::query(
        "insert into public.audit_events
             (id, occurred_at, action, outcome, actor_id, actor_type, target_id, target_type, organization_id,
              effective_user_id, ip_address, user_agent, metadata, inserted_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(Uuid::new_v4())
    .bind(now)
    .bind(&row.action)
    .bind(&row.outcome)
    .bind(row.actor_id)
    .bind(&row.actor_type)
    .bind(row.target_id)
    .bind(&row.target_type)
    .bind(row.organization_id)
    .bind(row.effective_user_id)
    .bind(&row.ip_address)
    .bind(&row.user_agent)
    .bind(&row.metadata)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
