//! A PostgreSQL server that starts, or recovers: after a crash too, and one statement can be its cause.

use std::{io::ErrorKind, time::Duration};

use rand::Rng as _;
use tokio::time::{Instant, sleep};

/// How often a server that starts is tried.
const INTERVAL: Duration = Duration::from_millis(250);

/// Clients that a crash has disconnected do not all come back at the same moment: what one of them sends may crash it again.
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

/// Class 57 of `SQLSTATE`: `cannot_connect_now` before the server takes connections, `crash_shutdown` where it ends them
/// (PostgreSQL documentation, appendix A). In between it accepts connections and ends them without a word; a server that is away
/// accepts none.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P02" | "57P03")),
        sqlx::Error::Io(error) => {
            matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
            )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_accepted_and_ended_is_a_server_that_starts_and_a_refused_one_is_not() {
        for (kind, starting) in [
            (ErrorKind::ConnectionReset, true),
            (ErrorKind::UnexpectedEof, true),
            (ErrorKind::ConnectionRefused, false),
            (ErrorKind::TimedOut, false),
        ] {
            assert_eq!(is_starting(&sqlx::Error::Io(kind.into())), starting, "{kind}");
        }
    }
}
