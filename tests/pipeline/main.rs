//! The pipeline as a whole: real processes on real servers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod clocks;
mod dispatch;
mod doctor;
mod failures;
mod faults;
mod forwarders;
mod guarantees;
mod letters;
mod loss;
mod operations;
mod outages;
mod poison;
mod projection;
mod regressions;
mod restore;
mod retention;
