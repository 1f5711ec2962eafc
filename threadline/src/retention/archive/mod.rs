//! Handing over what a purge deletes before it deletes it.
//!
//! A run goes slice by slice ([`mod@slice`]): rows of one kind up to a time, exported from one snapshot, verified, recorded in
//! `threadline_archives` ([`make`]), and only then deleted ([`delete`]). Which rows are deleted is read from the archive itself ([`ids`]): a row
//! that was committed behind the archive's snapshot, whatever its time says, is in none, and stays for the next run. So does one that is no
//! longer what stands there ([`unchanged`]).

mod delete;
mod ids;
mod leftovers;
mod make;
mod settings;
mod slice;
mod store;
mod take_over;
mod unchanged;
mod verify;

pub use leftovers::leftovers;
pub use settings::{ARCHIVE_ROWS, Archive};
pub use store::{ARCHIVES_LISTED_MAX, Archived, RecordedArchive, archives};
pub use verify::{ArchiveFault, verify};

pub(super) use ids::Held;
pub(crate) use settings::directory_of;
pub(super) use settings::url_of;
pub(super) use store::{evidence, of_runs, tables};
pub(super) use unchanged::{Compared, compared};
