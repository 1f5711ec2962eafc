//! A PostgreSQL server that starts, or recovers: after a crash too, and one statement can be its cause.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::{Instant, sleep};

/// How often a server that starts is tried.
const INTERVAL: Duration = Duration::from_millis(250);

/// Clients that a crash has cut off do not all come back at the same moment: what one of them sends may crash it again.
const SPREAD: Duration = Duration::from_millis(500);

/// Waits for a server that starts; one that is away is not waited for.
#[derive(Debug, Clone, Copy)]
pub struct StartWait {
    until: Instant,
}

impl StartWait {
    /// Waits for `limit` in all.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { until: Instant::now() + limit }
    }

    /// After an attempt to connect has failed: waits if the server says that it starts. `false` when another attempt is in vain,
    /// or the time is over.
    pub async fn may_retry(&self, error: &sqlx::Error) -> bool {
        let may_retry = is_starting(error) && Instant::now() < self.until;
        if may_retry {
            let spread = SPREAD.mul_f64(rand::rng().random_range(0.0..1.0));
            sleep(INTERVAL + spread).await;
        }
        may_retry
    }
}

/// Class 57 of `SQLSTATE`: `cannot_connect_now` before the server takes connections, `crash_shutdown` where it ends them.
/// PostgreSQL documentation, appendix A.
fn is_starting(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("57P02" | "57P03"))
}
