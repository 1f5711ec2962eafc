//! The relay with JetStream as its sink.
//!
//! [`Service`] relays, in the binary or in the process of a host; `sink` publishes a page and checks every acknowledgement;
//! `maintenance` is what the leader does besides relaying; `commands` are the short ones, and `commands::backfill`, which enters what
//! was there before capture; [`cli`] is the binary.
//!
//! ```no_run
//! use publisher::{CancellationToken, ConnectionUrl, Service, Settings};
//!
//! # async fn embed(url: String) -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::from_toml("[publisher]\nlisten = \"off\"\n[broker]\nurl = \"nats://127.0.0.1:4222\"")?;
//! settings.source.url = Some(ConnectionUrl::new(url));
//! let shutdown = CancellationToken::new();
//! let publisher = tokio::spawn(Service::new(settings).run(shutdown.clone()));
//! // The application works. At its end:
//! shutdown.cancel();
//! publisher.await??;
//! # Ok(())
//! # }
//! ```

pub mod cli;
mod commands;
mod maintenance;
mod service;
mod sink;

pub use common::{
    process::telemetry::metrics_builder,
    service::{ServiceError, ServiceErrorKind},
    settings::{ConnectionUrl, Settings, SettingsError},
};
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use service::Service;
pub use tokio_util::sync::CancellationToken;
