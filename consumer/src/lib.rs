//! From JetStream, or from the log itself, to the forwarders.
//!
//! [`cli`] is the binary, [`run`] the service: for every configured forwarder a [`lane`] of workers that pull from the
//! stream ([`pull`], [`delivery`]), or, without a broker, a relay that reads the log ([`direct`]); [`roads`] decides which.
//! Both hand what is to be done to a [`dispatcher`], which reloads the rows ([`source`]), hands them to the forwarder
//! ([`guard`]) and commits what failed; every message is settled by its verdict ([`settle`]). [`forwarders`] are the
//! kinds that come along; a host's own binary may register more and call [`cli::main`]. [`doctor`] says what is wrong
//! before any of it runs.
//!
//! For operators: [`failures`], [`mod@replay`], `reconcile` (with the standing comparison that [`run`] starts), `receipts`,
//! `rebuild`, [`explain`], [`status`].

/// What short commands are called at the servers.
pub(crate) const APPLICATION: &str = "audit-consumer-command";

pub mod absent;
mod book;
pub mod breaker;
pub mod cli;
pub mod delivery;
pub mod direct;
pub mod dispatcher;
pub mod doctor;
pub mod durables;
pub mod explain;
pub mod failures;
pub mod forwarder;
pub mod forwarders;
pub mod guard;
pub mod lane;
pub mod patience;
pub mod pull;
mod pulse;
#[cfg(feature = "threadline")]
pub mod rebuild;
#[cfg(feature = "threadline")]
pub mod receipts;
#[cfg(feature = "threadline")]
pub mod reconcile;
pub mod replay;
pub mod roads;
mod rows;
pub mod run;
pub mod settle;
pub mod source;
mod stall;
pub mod status;
