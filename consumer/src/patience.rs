//! Waiting for a server that is away, and saying so.

use std::time::Duration;

use common::{
    backoff::Probe,
    health::{Progress, Resumed},
};
use tokio_util::sync::CancellationToken;

use crate::{absent::Foreign, breaker::Tripped, guard::Unavailable};

/// The longest that a target may ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Why nothing can be settled now. No attempt is used, however long it lasts.
#[derive(Debug, thiserror::Error)]
pub enum Held {
    /// A server is away, overloaded or refuses us.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Too many dead letters in a minute.
    #[error(transparent)]
    Tripped(#[from] Tripped),
    /// What is asked for is another source's.
    #[error(transparent)]
    Foreign(#[from] Foreign),
}

/// One worker's patience with one piece of work: probes with back-off until it succeeds.
#[derive(Debug, Default)]
pub struct Patience {
    probe: Probe,
}

impl Patience {
    /// Reports why nothing goes on, and waits before the next attempt, or until `shutdown`.
    pub async fn wait(&mut self, held: &Held, progress: &Progress, shutdown: &CancellationToken) {
        let least = match held {
            Held::Unavailable(Unavailable { retry_after, .. }) => {
                retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
            }
            Held::Tripped(_) | Held::Foreign(_) => {
                // Ready would be a lie from the first moment on: waiting may mend it, but somebody has to look.
                progress.fault(Some(held.to_string()));
                Duration::ZERO
            }
        };
        let delay = self.probe.next_delay().max(least);
        tracing::warn!(component = progress.name(), retry_in_ms = delay.as_millis(), "waiting for {held}");
        progress.waiting(held.to_string());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// It went on: says so if there was an outage, and starts over.
    pub fn over(&mut self, progress: &Progress) {
        self.probe.reset();
        progress.fault(None);
        if let Some(Resumed { dependency, away }) = progress.resumed() {
            let away_ms = away.as_millis();
            tracing::info!(component = progress.name(), away_ms, waited_for = dependency, "it goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use common::health::Health;
    use tokio::time::Instant;

    use super::*;

    /// Sigra's own forwarder gives an event up after 8.6 minutes of retries.
    #[tokio::test(start_paused = true)]
    async fn twelve_minutes_of_outage_are_probed_every_few_seconds_and_end_by_themselves() {
        let progress = Health::default().component("test", Duration::from_secs(60));
        let shutdown = CancellationToken::new();
        let mut patience = Patience::default();
        let begun = Instant::now();
        let mut probes = 0;
        while begun.elapsed() < Duration::from_secs(720) {
            let held = Unavailable::new("the target: connection refused").into();
            patience.wait(&held, &progress, &shutdown).await;
            probes += 1;
        }
        assert!((720 / 6..720 / 4).contains(&probes), "{probes} probes");
        patience.over(&progress);
        assert!(progress.resumed().is_none(), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_says_when_to_come_back_is_left_alone_until_then_but_not_for_ever() {
        let progress = Health::default().component("test", Duration::from_secs(60));
        let shutdown = CancellationToken::new();
        for (asked, waited) in [(30, 30), (86_400, 300)] {
            let begun = Instant::now();
            let retry_after = Some(Duration::from_secs(asked));
            let held = Unavailable { dependency: "429".into(), retry_after }.into();
            Patience::default().wait(&held, &progress, &shutdown).await;
            assert_eq!(begun.elapsed().as_secs(), waited);
        }
    }
}
