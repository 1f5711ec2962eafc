//! One settings file, `audit.toml`, for all binaries; the environment and flags over it.
//!
//! Every key has a default here, a row in `docs/configuration.md` (held to this module by a test) and a range in
//! [`validate`]. Unknown keys are refused. Errors name the key path and the source it came from.

mod cli;
mod duration;
mod layers;
mod render;
mod sections;
mod url;
mod validate;

pub use cli::{ConfigCommand, SettingsArgs};
pub use layers::{Layers, Provenance, SettingsError, Source};
pub use render::render;
pub use sections::{
    BackoffSettings, BrokerSettings, ConsumerSettings, Dispatch, ForwarderSettings, Listen, LogFormat,
    LogSettings, PublisherSettings, SourceSettings, ThreadlineSettings,
};
pub use url::ConnectionUrl;

use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The database that the application writes its audit rows to.
    pub source: SourceSettings,
    /// The database of the timeline.
    pub threadline: ThreadlineSettings,
    /// NATS JetStream.
    pub broker: BrokerSettings,
    /// The relay.
    pub publisher: PublisherSettings,
    /// The durable consumer.
    pub consumer: ConsumerSettings,
    /// Structured logs.
    pub log: LogSettings,
    /// Where events go. Without any `[[forwarder]]` one into the timeline; `forwarder = []` for none.
    pub forwarder: Vec<ForwarderSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: SourceSettings::default(),
            threadline: ThreadlineSettings::default(),
            broker: BrokerSettings::default(),
            publisher: PublisherSettings::default(),
            consumer: ConsumerSettings::default(),
            log: LogSettings::default(),
            forwarder: vec![ForwarderSettings::timeline()],
        }
    }
}
