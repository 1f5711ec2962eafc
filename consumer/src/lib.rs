//! From JetStream, or from the log itself, to the forwarders.
//!
//! [`cli`] is the binary, [`run`] the service: for every configured forwarder a [`stream_worker`] of workers that pull from the
//! stream ([`pull`], [`delivery`]), or, without a broker, a relay that reads the log ([`direct`]); [`dispatch_mode`] decides which.
//! Both hand what is to be done to a [`dispatcher`], which reloads the rows ([`source`]), hands them to the forwarder
//! ([`isolation`]) and commits what failed; every message is settled by its verdict ([`disposition`]). [`forwarders`] are the
//! kinds that come along; a host's own binary may register more and call [`cli::main`]. [`doctor`] says what is wrong
//! before any of it runs.
//!
//! For operators: [`failures`], [`mod@replay`], `reconcile` (with the continuous reconciliation that [`run`] starts), `receipts`,
//! `rebuild`, [`explain`], [`status`].

/// What short commands are called at the servers.
pub(crate) const APPLICATION: &str = "audit-consumer-command";

mod audit_row;
mod batch_outcome;
pub mod breaker;
pub mod cli;
pub mod column_watch;
pub mod delivery;
pub mod direct;
pub mod dispatch_mode;
pub mod dispatcher;
pub mod disposition;
pub mod doctor;
pub mod durables;
pub mod explain;
pub mod failures;
pub mod forwarder;
pub mod forwarders;
pub mod isolation;
mod liveness;
pub mod missing_rows;
pub mod outage;
pub mod pull;
#[cfg(feature = "threadline")]
pub mod rebuild;
#[cfg(feature = "threadline")]
pub mod receipts;
#[cfg(feature = "threadline")]
pub mod reconcile;
pub mod replay;
pub mod run;
pub mod source;
mod stall_detector;
pub mod status;
pub mod stream_worker;
