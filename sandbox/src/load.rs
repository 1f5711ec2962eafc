//! Writers that play a [`Workload`] against a database, each on a connection of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::identifier::TableName;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    audit,
    workload::{End, Transaction, Workload},
};

/// What to write.
#[derive(Debug, Clone)]
pub struct Load {
    /// Connection URL of the source database.
    pub url: String,
    /// The audit table.
    pub table: TableName,
    /// Connections that write at the same time.
    pub writers: u32,
    /// Transactions a second over all writers; `None` for as fast as they can.
    pub rate: Option<u32>,
    /// Each writer's stream derives from it.
    pub seed: u64,
    /// The longest time that a transaction is held open; the workload itself goes up to 30 s.
    pub hold_max: Duration,
}

/// Counts while it runs.
#[derive(Debug, Clone, Default)]
pub struct LoadCounter {
    committed: Arc<AtomicU64>,
    rolled_back: Arc<AtomicU64>,
}

impl LoadCounter {
    /// Rows committed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Rows undone by a roll-back, whole or to a savepoint.
    #[must_use]
    pub fn rolled_back(&self) -> u64 {
        self.rolled_back.load(Ordering::Relaxed)
    }
}

/// Ids by what became of their transactions.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// These must arrive.
    pub committed: Vec<Uuid>,
    /// None of these may.
    pub rolled_back: Vec<Uuid>,
}

impl Load {
    /// Writes until `transactions` have been played or `stop`.
    ///
    /// # Errors
    /// When the server refuses a statement.
    pub async fn run(
        &self,
        transactions: u64,
        counter: &LoadCounter,
        stop: &CancellationToken,
    ) -> anyhow::Result<Written> {
        let mut connection = PgConnection::connect(&self.url).await?;
        audit::insert_organizations(&mut connection, &self.table, Workload::new(self.seed).organizations())
            .await?;
        connection.close().await?;
        let mut writers = JoinSet::new();
        let count = u64::from(self.writers);
        for writer in 0..self.writers {
            let share = transactions / count + u64::from(u64::from(writer) < transactions % count);
            let (load, counter, stop) = (self.clone(), counter.clone(), stop.clone());
            writers.spawn(async move { load.write(writer, share, counter, stop).await });
        }
        let mut written = Written::default();
        while let Some(result) = writers.join_next().await {
            let mut part = result??;
            written.committed.append(&mut part.committed);
            written.rolled_back.append(&mut part.rolled_back);
        }
        Ok(written)
    }

    async fn write(
        self,
        writer: u32,
        share: u64,
        counter: LoadCounter,
        stop: CancellationToken,
    ) -> anyhow::Result<Written> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let stream = Workload::new(self.seed.wrapping_mul(1_000).wrapping_add(writer.into()));
        let pace = self
            .rate
            .map(|rate| Duration::from_secs_f64(f64::from(rate).recip()).mul_f64(f64::from(self.writers)));
        // Spread out: writers that tick together would write in bursts.
        let offset = pace.map(|pace| pace.mul_f64(f64::from(writer) / f64::from(self.writers)));
        let mut ticker = pace
            .zip(offset)
            .map(|(pace, offset)| tokio::time::interval_at(tokio::time::Instant::now() + offset, pace));
        let mut written = Written::default();
        for transaction in stream.take(usize::try_from(share)?) {
            if let Some(ticker) = &mut ticker {
                ticker.tick().await;
            }
            if stop.is_cancelled() {
                break;
            }
            let transaction = Transaction { held: transaction.held.min(self.hold_max), ..transaction };
            play(&mut connection, &self.table, &transaction).await?;
            let committed = transaction.committed().len();
            counter.committed.fetch_add(committed as u64, Ordering::Relaxed);
            counter.rolled_back.fetch_add((transaction.rows.len() - committed) as u64, Ordering::Relaxed);
            let mut ids = transaction.rows.iter().map(|row| row.id);
            written.committed.extend(ids.by_ref().take(committed));
            written.rolled_back.extend(ids);
        }
        Ok(written)
    }
}

/// Plays one transaction to its end.
///
/// # Errors
/// When the server refuses a statement.
pub async fn play(
    connection: &mut PgConnection,
    table: &TableName,
    transaction: &Transaction,
) -> anyhow::Result<()> {
    connection.execute("begin").await?;
    let kept = match transaction.end {
        End::RollBackLast => transaction.committed(),
        _ => &transaction.rows[..],
    };
    audit::insert(connection, table, kept).await?;
    if transaction.end == End::RollBackLast {
        connection.execute("savepoint last").await?;
        audit::insert(connection, table, &transaction.rows[kept.len()..]).await?;
        connection.execute("rollback to savepoint last").await?;
    }
    if !transaction.held.is_zero() {
        // Part of the workload, not synchronisation: a late commit.
        tokio::time::sleep(transaction.held).await;
    }
    let end = if transaction.end == End::RollBack { "rollback" } else { "commit" };
    connection.execute(end).await?;
    Ok(())
}
