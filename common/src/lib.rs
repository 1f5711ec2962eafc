//! The vocabulary that publisher and consumer share.
//!
//! In reading order: an application commits an [`event`] row; a trigger writes an entry into the [`outbox`] log in
//! the same transaction; the relay turns the entry into a [`mod@reference`] and hands it to a sink, JetStream
//! ([`broker`]) or a forwarder; what cannot be delivered becomes a row of [`failures`]. [`settings`] say how, [`doctor`] what keeps
//! it from working, [`service`] is what a process of either kind needs, [`process`] what every part of it uses. The rest is small: [`database`], [`session`],
//! [`fault`], [`starting`], [`backoff`], [`time_arg`], [`mod@rate_limit`].
//!
//! A reference is all that the broker sees of an event:
//!
//! ```
//! use common::{reference::{Reference, Target}, settings::Settings};
//!
//! let settings = Settings::from_toml("[relay]\npage_rows = 500")?;
//! assert_eq!(settings.relay.page_rows, 500);
//!
//! let body = r#"{"forwarder":"*","audit_event_id":"d0e158f8-97ac-4a0c-af51-c1c235e11a66","occurred_at":null}"#;
//! let reference: Reference = serde_json::from_str(body)?;
//! assert_eq!(reference.forwarder, Target::Every);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod backoff;
pub mod broker;
pub mod database;
mod dead_peer;
pub mod doctor;
pub mod event;
pub mod failpoint;
pub mod failures;
pub mod fault;
pub mod identifier;
pub mod outbox;
pub mod pooler;
pub mod process;
pub mod rate_limit;
pub mod reference;
pub mod service;
pub mod session;
pub mod settings;
pub mod starting;
mod text_enum;
pub mod time_arg;
