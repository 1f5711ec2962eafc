//! Logs, metrics and traces, set up once in `main`.

pub mod names;
pub mod traces;

use std::io::IsTerminal;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{filter::ParseError, fmt, prelude::*};

use crate::settings::{LogFormat, LogSettings};

/// Installs the log subscriber. Logs go to standard error, so that standard output stays with the command's answer.
///
/// # Errors
/// When the filter cannot be parsed.
pub fn init_logs(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = settings.filter()?;
    let human = is_human(settings.format);
    let registry = tracing_subscriber::registry().with(filter);
    // A second initialisation is a test that runs several services in one process: the first one's logs serve.
    let _ = if human {
        registry.with(fmt::layer().with_writer(std::io::stderr)).try_init()
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
    };
    Ok(())
}

/// Whether log lines are for people.
fn is_human(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    }
}

/// Installs the metrics recorder of the process; the handle renders what `/metrics` answers.
///
/// # Errors
/// When a recorder is installed already.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    metrics_builder()?.install_recorder()
}

/// A recorder with the buckets of our histograms, for the binaries and for hosts that install one of their own.
///
/// # Errors
/// Never; the builder checks that no list of buckets is empty.
pub fn metrics_builder() -> Result<PrometheusBuilder, BuildError> {
    /// Seconds: from one statement on a fast disk to the longest time-out.
    const SECONDS: [f64; 16] =
        [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
    const ROWS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 10_000.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS)
}
