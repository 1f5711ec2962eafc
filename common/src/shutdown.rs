//! Graceful shutdown: the first signal asks, the second kills.

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
