//! An application that continues writing, whatever happens to its database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sandbox::{
    audit,
    fixture::audit_events,
    load,
    workload::{Transaction, Workload},
};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

/// Between two transactions.
const PACE: Duration = Duration::from_millis(10);

/// No transaction is held for longer.
const HOLD_MAX: Duration = Duration::from_millis(100);

/// Writes until it is dropped. Which of its transactions were committed is for the database to say: of one whose
/// connection broke at commit nobody else knows.
#[derive(Debug)]
pub(super) struct Writer {
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Writer {
    /// Begins to write to the database at `url`.
    pub(super) fn start(url: String, seed: u64) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(url, seed, done.clone()));
        Self { done, task }
    }

    /// Transactions that were played to their end.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(url: String, seed: u64, done: Arc<AtomicU64>) {
    let mut workload = Workload::new(seed);
    let mut ticker = tokio::time::interval(PACE);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Its database is away: an application would fail its requests; this one tries again.
        let Ok(mut connection) = PgConnection::connect(&url).await else {
            ticker.tick().await;
            continue;
        };
        let organizations = workload.organizations().to_vec();
        if audit::insert_organizations(&mut connection, &audit_events(), &organizations).await.is_err() {
            continue;
        }
        for transaction in workload.by_ref() {
            ticker.tick().await;
            let transaction = Transaction { held: transaction.held.min(HOLD_MAX), ..transaction };
            if load::play(&mut connection, &audit_events(), &transaction).await.is_err() {
                break;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}
