//! Which log lines are written.

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

use super::LogSettings;

/// The collector's absence is reported once, by us: silent unless a filter names it.
const SILENT: &str = "opentelemetry-otlp=off";

/// async-nats logs every message at debug, sqlx every statement: quiet unless a filter names them.
const QUIET: &str = "async_nats=warn,sqlx=warn,hyper=warn,rustls=warn";

impl LogSettings {
    /// Which log lines are written.
    ///
    /// # Errors
    /// When the filter cannot be parsed.
    pub(crate) fn filter(&self) -> Result<EnvFilter, ParseError> {
        EnvFilter::try_new(directives(&self.filter))
    }
}

/// What is quieter than the rest only where the rest is louder: nobody who asks for errors or for nothing is given warnings.
fn directives(filter: &str) -> String {
    let mut levels = filter.split(',').filter_map(|directive| directive.trim().parse::<LevelFilter>().ok());
    let is_loud = levels.any(|level| level > LevelFilter::WARN);
    if is_loud { format!("{SILENT},{QUIET},{filter}") } else { format!("{SILENT},{filter}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quieter_than_the_rest_and_never_louder() {
        for loud in ["info", "debug,common::outbox=trace", "sqlx=debug,info"] {
            assert_eq!(directives(loud), format!("{SILENT},{QUIET},{loud}"));
        }
        for quiet in ["off", "error", "warn", "common::outbox=debug", "error,common=info"] {
            assert_eq!(directives(quiet), format!("{SILENT},{quiet}"));
        }
    }
}
