//! Delivers a batch, wherever it comes from: reload the rows, forward them, commit what failed. Nothing here knows a broker.
//!
//! [`work_item`] is what is to be done; a [`dispatcher`] does it with a [`source`] of rows and an isolated forwarder
//! ([`isolation`]), holds it through outages ([`outage`], [`breaker`]), and returns one [`disposition`] for each item.

pub(crate) mod audit_row;
mod batch_outcome;
pub mod breaker;
pub mod column_watch;
pub mod delivery_watch;
pub mod dispatcher;
pub mod disposition;
pub mod isolation;
mod liveness;
pub mod missing_rows;
pub mod outage;
pub mod source;
pub mod work_item;
