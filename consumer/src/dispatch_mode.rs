//! Dispatch: through the stream or straight from the log, decided once at boot.

use common::settings::{BrokerSettings, ConfigureError, Dispatch, ForwarderSettings};

/// How events reach a forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DispatchMode {
    /// Through JetStream.
    JetStream,
    /// Straight from the log.
    Direct,
}

impl DispatchMode {
    /// Decides.
    ///
    /// # Errors
    /// For `async` without a broker.
    pub(crate) fn of(forwarder: &ForwarderSettings, broker: &BrokerSettings) -> Result<Self, ConfigureError> {
        Self::choose(forwarder, broker).ok_or_else(|| {
            let message = "dispatch \"async\" needs a broker: set broker.url in the settings file, or NATS_URL; or use \
                           dispatch \"auto\" or \"sync\", which read the log without one";
            ConfigureError::new(forwarder, message)
        })
    }

    /// Says what was chosen.
    pub(crate) fn log_choice(self, forwarder: &ForwarderSettings) {
        let chosen = if self == Self::JetStream { "async" } else { "sync" };
        tracing::info!(forwarder = %forwarder.id, configured = ?forwarder.dispatch, chosen, "dispatch");
    }

    /// Decides; `None` for `async` without a broker.
    #[must_use]
    pub(crate) fn choose(forwarder: &ForwarderSettings, broker: &BrokerSettings) -> Option<Self> {
        match (forwarder.dispatch, broker.url.is_some()) {
            (Dispatch::Async | Dispatch::Auto, true) => Some(Self::JetStream),
            (Dispatch::Sync, _) | (Dispatch::Auto, false) => Some(Self::Direct),
            (Dispatch::Async, false) => None,
        }
    }
}
