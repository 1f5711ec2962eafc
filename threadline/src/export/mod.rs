//! Handing a part of the timeline over to somebody: as CSV or JSON, from one snapshot, with a manifest that says what it is and that
//! can be verified without a server.
//!
//! | part | where |
//! |---|---|
//! | what an export looks like | [`Options`] |
//! | making one: a file that can be gone on with, or a stream | [`export`] |
//! | what it is, and its signature | [`Manifest`] |
//! | whether it is still that | [`verify()`] |
//! | making one in the background, and keeping it for a time | [`jobs`] |
//!
//! ```no_run
//! use threadline::{Timeline, export::{Destination, Options, Request, export}, query::Scope};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let reader = timeline.reader(Scope::of_context("tenant", "t1"));
//! let request = Request::new("table:posts last:30d".parse()?, Options::default());
//! let exported = export(&reader, request, Destination::file("posts.csv")).await?;
//! println!("{} rows, {}", exported.manifest.rows.total(), exported.manifest.sha256);
//! # Ok(())
//! # }
//! ```

mod csv;
mod described;
mod entries;
mod error;
mod files;
mod footer;
pub mod jobs;
mod manifest;
mod options;
mod output;
mod progress;
mod record;
mod render;
mod run;
mod verify;
mod writer;

pub use error::ExportError;
pub use manifest::{Manifest, Part, Product, Purged, Rows};
pub use options::{Format, Options, Profile};
pub(crate) use record::EXPORTED;
pub(crate) use render::line;
pub(crate) use run::export_as;
pub use run::{Destination, Exported, OnProgress, Request, count, export};
pub use verify::{Fault, Verified, verify};
