//! Exports in the background: a job is a row that says what to export and where to bring it, and a worker of any machine makes it.
//!
//! The table is the Elixir library's. A job of ours has a `request`; one without is the library's, and nothing here takes, changes or
//! deletes it.
//!
//! | part | where |
//! |---|---|
//! | asking for an export | [`add`], [`JobRequest`] |
//! | what became of it | [`get`], [`list()`], [`Job`] |
//! | having it not made, or made after all | [`cancel`], [`retry`] |
//! | making exports | [`Worker`] |
//! | having one here | [`fetch()`], [`Job::open`] |
//! | deleting what has been kept long enough | [`Worker::clean`] |
//! | asking again and again | [`schedules`] |
//!
//! Every statement is a transaction, and the clock is the database's: a job is held by a lease in its row, as [`crate::lease`] says.

mod claim;
mod clean;
mod error;
mod fetch;
mod job;
mod list;
mod request;
pub mod schedules;
mod states;
mod steps;
mod stored;
mod work;
mod worker;

pub use clean::Cleaned;
pub use error::JobError;
pub use fetch::{Fetched, fetch};
pub use job::Job;
pub use list::{JOBS_LISTED, JOBS_LISTED_MAX, get, list};
pub use request::JobRequest;
pub use states::{add, add_within, cancel, cancel_within, retry};
pub use stored::{StoredFile, StoredPart};
pub use work::{ATTEMPTS_MAX, Ended, Outcome};
pub use worker::{KEEP, KEEP_MAX, Worker};

/// The table of jobs, which is the Elixir library's.
const TABLE: &str = "threadline_export_jobs";
