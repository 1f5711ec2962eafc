//! Settings that are well-formed and cannot be used all the same.

use super::ForwarderSettings;
use crate::identifier::ForwarderId;

/// Settings, files that they name, or arguments that cannot be used: neither waiting nor a restart fixes it. A binary that
/// ends with it has the exit status [`crate::service::boot::MISUSED`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// An option of a forwarder that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("forwarder {forwarder}: {message}")]
pub struct ConfigureError {
    /// Which forwarder.
    pub forwarder: ForwarderId,
    /// Which option, and what is expected.
    pub message: String,
}

impl ConfigureError {
    /// An error of this forwarder.
    #[must_use]
    pub fn new(forwarder: &ForwarderSettings, message: impl Into<String>) -> Self {
        Self { forwarder: forwarder.id.clone(), message: message.into() }
    }
}
