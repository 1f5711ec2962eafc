//! How a purge goes about it.

use std::time::Duration;

use time::OffsetDateTime;

use super::archive::Archive;
use crate::{
    ActorRef,
    batches::{PAUSE_MAX, pause_behind},
    capture::Refusal,
};

/// Rows that one transaction deletes, unless said otherwise.
pub const BATCH_SIZE: u32 = 50;

/// Rows that one transaction may delete.
pub const BATCH_SIZE_MAX: u32 = 10_000;

/// Transactions of one run, unless said otherwise.
pub const BATCHES_MAX: u32 = 100_000;

/// The shortest pause between two of them, unless said otherwise.
pub const SLEEP: Duration = Duration::from_millis(100);

/// How long a statement waits for a lock, unless said otherwise.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a batch that finds locks is tried again, unless said otherwise.
pub const LOCKED_LIMIT: Duration = Duration::from_secs(60);

/// Time of a dry run, unless said otherwise.
pub const DRY_RUN_TIME: Duration = Duration::from_secs(60);

/// How a purge goes about it. The defaults leave writers alone; larger batches and a shorter pause delete faster, at their cost.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PurgeOptions {
    /// Rows that one transaction visits and deletes at most, 1 to [`BATCH_SIZE_MAX`].
    pub batch_size: u32,
    /// Transactions that delete something, at most; a further run goes on.
    pub max_batches: u32,
    /// The shortest pause behind a batch that has deleted something.
    pub sleep: Duration,
    /// The share of the time that batches may take, in percent, 1 to 100: behind a batch of 10 ms 50 is a pause of at least 10 ms.
    pub busy_percent: u8,
    /// Deletes only what is older than this too. It is not later than the policy's own cutoff.
    pub cutoff: Option<OffsetDateTime>,
    /// Counts, and writes nothing.
    pub dry_run: bool,
    /// Time of a dry run.
    pub dry_run_time: Duration,
    /// How long a statement waits for a lock that somebody holds, before the batch is given up.
    pub lock_timeout: Duration,
    /// How long such a batch is tried again, before the run fails.
    pub locked_limit: Duration,
    /// Who purges; without it the service account of the database's session user.
    pub actor: Option<ActorRef>,
    /// Hands over what it deletes before; then nothing is deleted that is in no archive. It needs two connections at a time.
    pub archive: Option<Archive>,
}

impl Default for PurgeOptions {
    fn default() -> Self {
        Self {
            batch_size: BATCH_SIZE,
            max_batches: BATCHES_MAX,
            sleep: SLEEP,
            busy_percent: 50,
            cutoff: None,
            dry_run: false,
            dry_run_time: DRY_RUN_TIME,
            lock_timeout: LOCK_TIMEOUT,
            locked_limit: LOCKED_LIMIT,
            actor: None,
            archive: None,
        }
    }
}

impl PurgeOptions {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let refused = |reason: String| Err(Refusal::new("option_invalid", reason));
        if !(1..=BATCH_SIZE_MAX).contains(&self.batch_size) {
            return refused(format!("a batch has 1 to {BATCH_SIZE_MAX} rows, not {}", self.batch_size));
        }
        if self.max_batches == 0 {
            return refused("a run has at least one batch".to_owned());
        }
        if !(1..=100).contains(&self.busy_percent) {
            return refused(format!("busy_percent is 1 to 100, not {}", self.busy_percent));
        }
        if self.sleep > PAUSE_MAX {
            return refused(format!("the pause between batches is at most {} s", PAUSE_MAX.as_secs()));
        }
        self.archive.as_ref().map_or(Ok(()), Archive::check)
    }

    /// The pause behind a batch: writers have at least their share of the time.
    pub(super) fn pause(&self, took: Duration, has_deleted: bool) -> Duration {
        // What was only visited stands in nobody's way.
        let least = if has_deleted { self.sleep } else { Duration::ZERO };
        pause_behind(took, self.busy_percent, least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_as_long_as_the_batch_or_longer() {
        let pause = |busy_percent, took, has_deleted| {
            let options = PurgeOptions { busy_percent, ..PurgeOptions::default() };
            options.pause(Duration::from_millis(took), has_deleted).as_millis()
        };
        assert_eq!(pause(50, 10, true), 100);
        assert_eq!(pause(50, 180, true), 180);
        assert_eq!(pause(20, 80, true), 320);
        assert_eq!(pause(100, 180, true), 100);
        assert_eq!(pause(50, 10, false), 10);
        assert_eq!(pause(1, 10_000, true), 20_000);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let default = PurgeOptions::default;
        for options in [
            PurgeOptions { batch_size: 0, ..default() },
            PurgeOptions { batch_size: 10_001, ..default() },
            PurgeOptions { max_batches: 0, ..default() },
            PurgeOptions { busy_percent: 0, ..default() },
            PurgeOptions { busy_percent: 101, ..default() },
            PurgeOptions { sleep: Duration::from_secs(21), ..default() },
        ] {
            assert_eq!(options.check().map_err(|refusal| refusal.term), Err("option_invalid"), "{options:?}");
        }
        assert_eq!(default().check(), Ok(()));
    }
}
