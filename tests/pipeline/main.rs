//! The pipeline as a whole: real processes on real servers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod failures;
mod guarantees;
mod operations;
mod outages;
mod projection;
