//! The vocabulary that publisher and consumer share.
//!
//! In reading order: an application commits an [`event`] row; a trigger writes an entry into the [`outbox`] log in
//! the same transaction; the relay turns the entry into a [`mod@reference`] and hands it to a sink, JetStream
//! ([`broker`]) or a forwarder; what cannot be delivered becomes a row of [`failures`]. The rest is house-keeping:
//! [`boot`], [`doctor`], [`settings`], [`database`], [`telemetry`], [`health`], [`backoff`], [`shutdown`], [`console`],
//! [`time_arg`], [`mod@rate_limit`].

pub mod backoff;
pub mod boot;
pub mod broker;
pub mod console;
pub mod database;
mod dead_peer;
pub mod doctor;
pub mod event;
pub mod failpoint;
pub mod failures;
pub mod fault;
pub mod health;
pub mod identifier;
pub mod operator_log;
pub mod outbox;
pub mod rate_limit;
pub mod reference;
pub mod session;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
mod text_enum;
pub mod time_arg;
