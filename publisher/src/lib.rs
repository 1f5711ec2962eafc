//! The relay with JetStream as its sink.
//!
//! [`service`] relays; [`sink`] publishes a page and checks every acknowledgement; [`maintenance`] is what the leader does
//! beside it; [`commands`] are the short ones, and [`commands::backfill`], which enters what was there before capture.

pub mod commands;
pub mod maintenance;
pub mod service;
pub mod sink;
