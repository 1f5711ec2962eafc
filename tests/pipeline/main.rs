//! The pipeline as a whole: real processes on real servers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod after_loss;
mod backfill;
mod clocks;
mod columns;
mod copies;
mod demo;
mod deploy;
mod dispatch;
mod doctor;
mod events;
mod explain;
mod failures;
mod faults;
mod forwarders;
mod guarantees;
mod hanging;
mod interrupted;
mod letters;
mod loss;
mod misuse;
mod operations;
mod outages;
mod poison;
mod pooler;
mod projection;
mod rebuild;
mod receipts;
mod reconcile;
mod refusals;
mod regressions;
mod replay;
mod restore;
mod retention;
mod rights;
mod snippets;
mod source_rows;
mod source_table;
mod status;
mod swallowed;
mod switching;
mod traces;
mod unreadable;
mod words;
