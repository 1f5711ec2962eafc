//! Erasure: values of a row, an actor or a person go; rows, the reason, who did it and when stay, and receipts still verify.
//!
//! An [`Erasure`] says what goes. [`Timeline::erase`](crate::Timeline::erase) puts [`ERASED`] in the place of each value, in short transactions with
//! pauses between them, and keeps the SHA-256 of what stood there before. Each run is a row of `threadline_erasures`, which says why and by
//! whom, and not whom it was about; [`runs()`] lists them.
//!
//! Erase the values in the host's own tables first: what is written or committed after a run has ended is found by the next one alone. Out of
//! reach are exports, archives and backups that were made before, and texts of others that happen to speak of a person, such as reasons. The
//! hash of a text confirms a guess of that text to whoever may read the timeline.
//!
//! ```no_run
//! use threadline::{ActorRef, ActorType, Timeline, erasure::{Erasure, ErasureOptions}};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let actor = ActorRef::new(ActorType::User, Some("u1"))?;
//! let erasure = Erasure::Actor { actor, texts: false };
//! let erased = timeline.erase(&erasure, &ErasureOptions::because("request 4711")).await?;
//! println!("{} rows", erased.counts.total_rows());
//! # Ok(())
//! # }
//! ```

mod counts;
mod error;
mod left;
mod named;
mod persons;
mod plan;
mod policy;
mod record;
mod request;
mod run;
mod runs;
mod scrub;
mod step;

pub use counts::Counts;
pub use error::ErasureError;
pub use left::ERASED;
pub(crate) use left::{KnownRuns, Mark, Marks};
pub use policy::ErasurePolicy;
pub use request::{BATCH_SIZE, BATCH_SIZE_MAX, Erasure, ErasureOptions, REASON_MAX};
pub use run::{Erased, PASSES_MAX};
pub use runs::{ErasureRun, RUNS_LISTED, RUNS_LISTED_MAX, runs};
