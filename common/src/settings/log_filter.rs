//! Which log lines are written.

use tracing_subscriber::{EnvFilter, filter::ParseError};

use super::LogSettings;

/// async-nats logs every message at debug, sqlx every statement, and the collector's absence is reported once: quiet unless a
/// filter names them.
const QUIET: &str = "async_nats=warn,sqlx=warn,hyper=warn,rustls=warn,opentelemetry-otlp=off";

impl LogSettings {
    /// Which log lines are written.
    ///
    /// # Errors
    /// When the filter cannot be parsed.
    pub(crate) fn filter(&self) -> Result<EnvFilter, ParseError> {
        EnvFilter::try_new(format!("{QUIET},{}", self.filter))
    }
}
