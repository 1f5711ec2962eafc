//! The relay with JetStream as its sink.
//!
//! [`run`] is the service; [`sink`] publishes a page and checks every acknowledgement; [`maintenance`] is what the
//! leader does beside it; [`doctor`] says what is wrong before it runs; [`backfill`] enters what was there before capture;
//! [`commands`] are the short ones.

mod adopted;
pub mod backfill;
pub mod commands;
pub mod doctor;
pub mod maintenance;
pub mod run;
mod sequence_gaps;
pub mod sink;
pub mod status;
