//! From JetStream, or from the log itself, to the forwarders.
//!
//! [`cli`] is the binary, [`Service`] the service, in the binary or in the process of a host: for every configured forwarder workers that pull from the stream ([`stream`]), or,
//! without a broker, a relay that reads the log (`direct`). Both hand what is to be done to the [`engine`], which reloads the rows,
//! forwards them and commits what failed; every message is settled by its disposition. [`kinds`] are those that come
//! along; a host's own binary may register more ([`forwarder`]) and call [`cli::main`].
//!
//! For operators: `commands`. What they and the continuous reconciliation share of a timeline is in `projection`.
//!
//! ```no_run
//! use consumer::{CancellationToken, ConnectionUrl, Registry, Service, Settings};
//!
//! # async fn embed(url: String) -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::from_toml("[consumer]\nlisten = \"off\"\n[[forwarder]]\nid = \"nothing\"\nkind = \"noop\"")?;
//! settings.source.url = Some(ConnectionUrl::new(url));
//! let shutdown = CancellationToken::new();
//! let consumer = tokio::spawn(Service::new(settings, Registry::with_built_in()).run(shutdown.clone()));
//! // The application works. At its end:
//! shutdown.cancel();
//! consumer.await??;
//! # Ok(())
//! # }
//! ```

/// What short commands are called at the servers.
pub(crate) const APPLICATION: &str = "audit-consumer-command";

pub mod cli;
mod commands;
mod direct;
pub(crate) mod dispatch_mode;
pub mod engine;
pub mod forwarder;
pub mod kinds;
pub mod prelude;
#[cfg(feature = "threadline")]
pub(crate) mod projection;
mod service;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;

pub use common::{
    process::telemetry::metrics_builder,
    service::{ServiceError, ServiceErrorKind},
    settings::{ConnectionUrl, Settings, SettingsError},
};
pub use forwarder::{MissingKinds, Registry};
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use service::Service;
pub use tokio_util::sync::CancellationToken;
