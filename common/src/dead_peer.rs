//! Noticing that a network has forgotten a connection to PostgreSQL: nothing comes on it any more, no error either, and waiting
//! for the server's own time-out would take as long as that is. Another connection shows whether the server still works on it.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};

/// How long an answer is waited for before the first probe.
const PROBE_AFTER: Duration = Duration::from_millis(1_500);

/// How often the probe is repeated.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Detects a dead peer, as TCP keep-alive would, by querying the server for the process that serves one connection.
#[derive(Debug, Default)]
pub(crate) struct DeadPeerDetector(AtomicI32);

impl DeadPeerDetector {
    /// Stores which process of the server serves this connection.
    pub(crate) async fn watch(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(connection).await?;
        self.0.store(pid, Ordering::SeqCst);
        Ok(())
    }

    /// Ends once the server has certainly nothing in work for this connection, although an answer is waited for; never while it
    /// works, waits for a lock, or cannot be queried.
    pub(crate) async fn detected(&self, options: &PgConnectOptions) {
        sleep(PROBE_AFTER).await;
        // Hardly ever come to: not part of every answer's future.
        Box::pin(self.probe(options)).await;
    }

    async fn probe(&self, options: &PgConnectOptions) {
        let mut other = None;
        loop {
            match timeout(PROBE_TIMEOUT, self.is_idle(options, &mut other)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(_)) | Err(_) => other = None,
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    async fn is_idle(
        &self,
        options: &PgConnectOptions,
        other: &mut Option<PgConnection>,
    ) -> Result<bool, sqlx::Error> {
        let mut connection = match other.take() {
            Some(connection) => connection,
            None => PgConnection::connect_with(options).await?,
        };
        // One whose state is not shown, or has just changed, may be at work.
        let is_idle = sqlx::query_scalar(
            "select not exists (
                 select from pg_stat_activity
                 where pid = $1 and (state is null or state not like 'idle%'
                                     or state_change > clock_timestamp() - interval '1 second'))",
        )
        .bind(self.0.load(Ordering::SeqCst))
        .fetch_one(&mut connection)
        .await?;
        *other = Some(connection);
        Ok(is_idle)
    }
}
