//! The pipeline as a whole: real processes on real servers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod dispatch;
mod failures;
mod guarantees;
mod letters;
mod operations;
mod outages;
mod poison;
mod projection;
mod retention;
