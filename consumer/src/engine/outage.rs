//! Waiting for a server that is away, and saying so.

use std::time::Duration;

use common::{
    backoff::Probe,
    process::health::{Progress, Resumed},
};
use tokio_util::sync::CancellationToken;

use crate::engine::{
    breaker::BreakerOpen, isolation::Unavailable, missing_rows::ForeignMessage, source::UnfitSource,
};

/// The longest that a target may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Why nothing can be settled now. No attempt is used, however long it lasts.
#[derive(Debug, thiserror::Error)]
pub enum HoldReason {
    /// A server is away, overloaded or refuses us.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Too many dead letters in a minute.
    #[error(transparent)]
    BreakerOpen(#[from] BreakerOpen),
    /// The requested event is another source's.
    #[error(transparent)]
    Foreign(#[from] ForeignMessage),
    /// What rows are read from is not what it was.
    #[error(transparent)]
    Unfit(#[from] UnfitSource),
}

/// The back-off of one worker during an outage: probes until its work succeeds.
#[derive(Debug, Default)]
pub struct OutageBackoff {
    probe: Probe,
    /// Whether what is waited for was reported as a fault.
    is_fault: bool,
}

impl OutageBackoff {
    /// Reports why the work is held, and waits before the next attempt, or until `shutdown`.
    pub async fn wait(&mut self, reason: &HoldReason, progress: &Progress, shutdown: &CancellationToken) {
        let least = match reason {
            HoldReason::Unavailable(Unavailable { retry_after, .. }) => {
                retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
            }
            HoldReason::BreakerOpen(_) | HoldReason::Foreign(_) | HoldReason::Unfit(_) => {
                // Ready would be a lie from the first moment on: waiting may fix it, but an operator has to check.
                progress.fault(Some(reason.to_string()));
                self.is_fault = true;
                Duration::ZERO
            }
        };
        let delay = self.probe.next_delay().max(least);
        tracing::warn!(
            component = progress.name(),
            retry_in_ms = common::process::millis(delay),
            "waiting for {reason}"
        );
        progress.waiting(reason.to_string());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// The work succeeded: logs the end of an outage if there was one, and resets the back-off.
    pub fn recovered(&mut self, progress: &Progress) {
        self.probe.reset();
        if std::mem::take(&mut self.is_fault) {
            progress.fault(None);
        }
        if let Some(Resumed { dependency, away }) = progress.resumed() {
            let away_ms = common::process::millis(away);
            tracing::info!(component = progress.name(), away_ms, waited_for = dependency, "recovered");
        }
    }
}

#[cfg(test)]
mod tests {
    use common::process::health::Health;
    use tokio::time::Instant;

    use super::*;

    /// Sigra's own forwarder gives an event up after 8.6 minutes of retries.
    #[tokio::test(start_paused = true)]
    async fn twelve_minutes_of_outage_are_probed_every_few_seconds_and_end_by_themselves() {
        let progress = Health::default().component("test", Duration::from_secs(60));
        let shutdown = CancellationToken::new();
        let mut backoff = OutageBackoff::default();
        let begun = Instant::now();
        let mut probes = 0;
        while begun.elapsed() < Duration::from_secs(720) {
            let reason = Unavailable::new("the target: connection refused").into();
            backoff.wait(&reason, &progress, &shutdown).await;
            probes += 1;
        }
        assert!((720 / 6..720 / 4).contains(&probes), "{probes} probes");
        backoff.recovered(&progress);
        assert!(progress.resumed().is_none(), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_says_when_to_come_back_is_left_alone_until_then_but_not_for_ever() {
        let progress = Health::default().component("test", Duration::from_secs(60));
        let shutdown = CancellationToken::new();
        for (asked, waited) in [(30, 30), (86_400, 300)] {
            let begun = Instant::now();
            let retry_after = Some(Duration::from_secs(asked));
            let reason = Unavailable { dependency: "429".into(), retry_after }.into();
            OutageBackoff::default().wait(&reason, &progress, &shutdown).await;
            assert_eq!(begun.elapsed().as_secs(), waited);
        }
    }
}
