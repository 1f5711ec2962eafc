//! Purges again and again, inside a host's process.

use std::time::Duration;

use futures::FutureExt as _;

use super::{error::PurgeError, options::PurgeOptions, policy::Policy, purge::Purged};
use crate::{
    Timeline,
    telemetry::{self, Deleted},
};

/// The time from one purge to the next, unless said otherwise.
pub const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Purges a timeline at intervals. Several processes may do so: while one purges, the others skip.
///
/// ```no_run
/// use threadline::{Timeline, retention::{Keep, Policy, Scheduler}};
///
/// # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
/// let policy = Policy::new(Keep::days(90)?)?;
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let purging = tokio::spawn(Scheduler::new(timeline, policy).run_until(async {
///     let _ = stopped.await;
/// }));
/// // … at the end of the process:
/// drop(stop);
/// purging.await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is purged until it is run"]
pub struct Scheduler {
    timeline: Timeline,
    policy: Policy,
    options: PurgeOptions,
    interval: Duration,
}

impl Scheduler {
    /// Every [`INTERVAL`].
    pub fn new(timeline: Timeline, policy: Policy) -> Self {
        Self { timeline, policy, options: PurgeOptions::default(), interval: INTERVAL }
    }

    /// How a purge goes about it.
    pub fn options(self, options: PurgeOptions) -> Self {
        Self { options, ..self }
    }

    /// The time from the end of one purge to the next.
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Purges at once and then at each interval, until `shutdown` ends; the batch that is being deleted then is finished. A purge that fails
    /// is logged, and the next one is tried.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) {
        let shutdown = shutdown.shared();
        while shutdown.peek().is_none() {
            let stop = shutdown.clone();
            match self.timeline.purge_until(&self.policy, &self.options, stop, |_| ()).await {
                Ok(Purged {
                    deleted_changes,
                    deleted_transactions,
                    batches_run,
                    deleted_actions,
                    is_complete,
                    ..
                }) => {
                    let (changes, transactions) = (deleted_changes, deleted_transactions);
                    telemetry::schedule_purged(
                        Deleted { changes, transactions, batches_run },
                        deleted_actions,
                        is_complete,
                    );
                }
                Err(PurgeError::Held { .. }) => telemetry::purge_skipped(),
                Err(PurgeError::Cancelled) => return,
                Err(error) => telemetry::schedule_failed(error.kind()),
            }
            tokio::select! {
                biased;
                () = shutdown.clone() => return,
                () = tokio::time::sleep(self.interval) => {}
            }
        }
    }
}
