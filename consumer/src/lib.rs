//! From JetStream, or from the log itself, to the forwarders.
//!
//! [`cli`] is the binary, [`service`] the service: for every configured forwarder workers that pull from the stream ([`stream`]), or,
//! without a broker, a relay that reads the log ([`direct`]). Both hand what is to be done to the [`engine`], which reloads the rows,
//! forwards them and commits what failed; every message is settled by its disposition. [`forwarders`] are the kinds that come
//! along; a host's own binary may register more ([`forwarder`]) and call [`cli::main`].
//!
//! For operators: [`commands`]. What they and the continuous reconciliation share of a timeline is in `projection`.

/// What short commands are called at the servers.
pub(crate) const APPLICATION: &str = "audit-consumer-command";

pub mod cli;
pub mod commands;
pub mod direct;
pub mod engine;
pub mod forwarder;
pub mod forwarders;
#[cfg(feature = "threadline")]
pub(crate) mod projection;
pub mod service;
pub mod stream;
