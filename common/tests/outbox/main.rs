//! The outbox log on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod capture;
mod catalog;
mod columns;
mod crash;
mod digits;
mod failures;
mod log_model;
mod owner;
mod prune;
mod reader;
mod recipe;
mod relay;
mod retention;
mod triggers;
