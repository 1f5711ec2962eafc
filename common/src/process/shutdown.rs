//! Graceful shutdown: the first signal requests it, the second kills.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGINT or SIGTERM. A second signal ends the process at once with status
/// 130, for when the graceful way hangs on a server that is away.
///
/// # Errors
/// When the signal handlers cannot be installed.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        for asked_before in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked_before {
                tracing::warn!("second signal: stopping at once");
                std::process::exit(130);
            }
            tracing::info!("shutting down; a second signal stops at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// The end of a command's long work that was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted: {0}")]
pub struct Interrupted(pub &'static str);

/// Does the long work of a command, unless SIGINT or SIGTERM comes first. Then the work is dropped where it stands, with its
/// connections and transactions, and `left` says what is left of it.
///
/// # Errors
/// The work's own; or that it was interrupted.
pub async fn unless_interrupted<T, E: From<Interrupted> + From<std::io::Error>>(
    left: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let interrupted = on_signal()?;
    tokio::select! {
        done = work => done,
        () = interrupted.cancelled() => Err(Interrupted(left).into()),
    }
}

/// How long an orderly end may take, whatever a server does: ten seconds, with what the process itself needs.
const LIMIT: Duration = Duration::from_millis(9_500);

/// How much of it the page or batch in work has; the rest is for giving back what it did not come to.
const GRACE: Duration = Duration::from_secs(6);

/// Ends when what is in work at a shutdown has had its time.
pub async fn grace(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Runs a service, which ends by itself after `shutdown`, but no longer than its limit: `None` when a server that hangs kept it
/// from that. All unsettled work is redelivered.
pub async fn bounded<T>(shutdown: &CancellationToken, service: impl Future<Output = T>) -> Option<T> {
    let limit = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LIMIT).await;
    };
    tokio::select! {
        biased;
        ended = service => Some(ended),
        () = limit => {
            tracing::warn!("a server does not answer: stopped without giving everything back; unsettled work is redelivered");
            None
        }
    }
}
