//! Retention: deleting what a policy no longer keeps, without standing in a writer's way, and saying so.
//!
//! A [`Policy`] says how long changes are kept, table by table, and actions. [`Timeline::purge`](crate::Timeline::purge) deletes what is older, in
//! short transactions with pauses between them, one process at a time. Each run is a row of `threadline_retention_runs`, which ends in a
//! state even when its process is killed; [`runs()`] lists them. [`horizon()`] says from which time on a timeline is whole, so that a
//! reader is not left with an empty answer. With an [`Archive`] a purge hands over what it deletes before it deletes it, and deletes nothing
//! else. A [`Scheduler`] purges at intervals inside a host.
//!
//! ```no_run
//! use threadline::{Timeline, retention::{Keep, Policy, PurgeOptions}};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::new(Keep::days(90)?)?.table("billing.invoices".parse()?, Keep::Forever);
//! let purged = timeline.purge(&policy, &PurgeOptions::default()).await?;
//! println!("{} changes", purged.deleted_changes);
//! # Ok(())
//! # }
//! ```

mod archive;
mod batch;
mod dry_run;
mod error;
mod options;
mod partitions;
mod policy;
mod purge;
mod record;
mod runs;
mod scheduler;
mod tables;
mod walk;
mod windows;

pub use crate::horizon::{ArchivedBefore, Horizon, Purgeable, horizon, purged};
pub(crate) use archive::directory_of;
pub use archive::{
    ARCHIVE_ROWS, ARCHIVES_LISTED_MAX, Archive, ArchiveFault, Archived, RecordedArchive, archives, leftovers,
    verify,
};
pub use error::PurgeError;
pub use options::{
    BATCH_SIZE, BATCH_SIZE_MAX, BATCHES_MAX, DRY_RUN_TIME, LOCK_TIMEOUT, LOCKED_LIMIT, PurgeOptions, SLEEP,
};
pub use policy::{Keep, Policy};
pub use purge::Purged;
pub(crate) use record::LEASE;
pub use runs::{RUNS_LISTED, RUNS_LISTED_MAX, RecordedRun, runs};
pub use scheduler::{INTERVAL, Scheduler};
pub(crate) use tables::unknown as unknown_tables;
pub use windows::Windows;
