//! Bundles: receipts with their rows in one file, which somebody without a server can verify. `docs/threadline-receipts.md` has the format.

mod format;
mod lines;
mod verify;
mod write;

pub use format::LINE_MAX;
pub use verify::verify_bundle;
pub use write::{Bundled, Span, bundle};
