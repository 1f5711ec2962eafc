//! How every binary starts: settings and logs first, so that a mistake there fails before anything runs.

use std::{error::Error, process::ExitCode};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{BrokerError, preflight::PreflightError},
    doctor::Refused,
    process::{console, shutdown, telemetry},
    service::{
        ServiceError, ServiceErrorKind,
        help::{self, Group},
    },
    settings::{
        ConfigCommand, ConfigureError, LogFormat, Provenance, Settings, SettingsArgs, SettingsError,
        UsageError,
    },
};

/// Exit status of a command that failed.
pub const FAILED: u8 = 1;
/// Exit status for settings or arguments that cannot be used, so that a restart is in vain; clap's own is the same.
pub const MISUSED: u8 = 2;

/// What becomes of a binary's work.
pub type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// Loads the settings, sets up TLS and logs, and runs `main` on a runtime of its own. What it ends with is text for whoever
/// started it, with the remedy on a line of its own, unless `log.format` is `json`.
pub fn run<F>(arguments: &SettingsArgs, main: impl FnOnce(Settings, Provenance) -> F) -> ExitCode
where
    F: Future<Output = Ended>,
{
    let (settings, provenance) = match arguments.load() {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error, for_people(arguments)),
    };
    let human = settings.log.format != LogFormat::Json;
    if let Err(error) = telemetry::init_logs(&settings.log) {
        return failed(&UsageError(format!("log.filter: {error}")), human);
    }
    for deprecation in provenance.deprecations() {
        tracing::warn!("{deprecation}");
    }
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::armed();
    // One provider for the whole process; a second one in the tree would panic at the first handshake.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error, human),
    };
    let ended = runtime.block_on(main(settings, provenance));
    // A name that does not resolve is looked up on a thread that would be waited for.
    runtime.shutdown_background();
    self::ended(ended, human)
}

/// The exit status of a binary whose work is done; what it ends with is printed: for people, or as a line of JSON. It fails, too, if
/// an answer could not be written.
#[must_use]
pub fn ended(ended: Ended, human: bool) -> ExitCode {
    match ended {
        Ok(()) => written(human),
        Err(error) => failed(&*error, human),
    }
}

/// The `run` command of a binary, around a service: what a host that embeds it does in a way of its own. The service runs until
/// SIGINT or SIGTERM, with a metrics recorder for the whole process.
///
/// # Errors
/// The service's own; when handlers of signals or the recorder cannot be installed.
pub async fn serve<F>(
    service: impl FnOnce(PrometheusHandle, CancellationToken) -> F,
) -> Result<(), ServiceError>
where
    F: Future<Output = Result<(), ServiceError>>,
{
    let shutdown = shutdown::on_signal().map_err(ServiceError::new)?;
    let metrics = telemetry::init_metrics().map_err(ServiceError::new)?;
    service(metrics, shutdown).await
}

/// Whether errors are text for people, and no lines of JSON, as far as the settings can be read.
pub(crate) fn for_people(arguments: &SettingsArgs) -> bool {
    arguments.log_format() != Some(LogFormat::Json)
}

/// Reads the command line. Help, with subcommands in these groups, and version are printed here, and so is what is wrong with the
/// arguments.
///
/// # Errors
/// With the exit status, when the process has nothing more to do.
pub fn parse<C: clap::Parser>(groups: &[Group]) -> Result<C, ExitCode> {
    let mut command = help::grouped(C::command(), groups);
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    let parsed =
        parsed.and_then(|matches| C::from_arg_matches(&matches).map_err(|error| error.format(&mut command)));
    parsed.map_err(|error| {
        if !error.use_stderr() {
            console::printed(error.print());
            return written(true);
        }
        if for_people(&SettingsArgs::of(std::env::args_os())) {
            let _ = error.print();
            return ExitCode::from(MISUSED);
        }
        failed(&UsageError(errors::usage(&error.render().to_string())), false)
    })
}

/// Runs `config init`; `None` for other commands.
#[must_use]
pub fn init(command: &ConfigCommand, arguments: &SettingsArgs) -> Option<ExitCode> {
    let human = for_people(arguments);
    Some(match command.init()? {
        Ok(text) => answered(&text, human),
        Err(error) => failed(&error, human),
    })
}

/// Prints the answer of a command that needs no settings; returns the exit status.
pub(crate) fn answered(text: &str, human: bool) -> ExitCode {
    console::print(text);
    written(human)
}

/// What becomes of a process whose work is done: it fails if it could not say so.
fn written(human: bool) -> ExitCode {
    match console::unwritten() {
        None => ExitCode::SUCCESS,
        // A reader that has gone away (`| head`) has seen enough of it.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        Some(error) => failed(&Unwritten(error), human),
    }
}

/// Output that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}. What the command does is done")]
struct Unwritten(&'static std::io::Error);

pub(crate) fn failed(error: &(dyn Error + 'static), human: bool) -> ExitCode {
    let status = status(error);
    console::print_error(error, human, status);
    ExitCode::from(status)
}

/// The exit status of a binary that ends with this error.
#[must_use]
pub fn status(error: &(dyn Error + 'static)) -> u8 {
    let mut causes = std::iter::successors(Some(error), |cause| (*cause).source());
    if causes.any(is_misuse) { MISUSED } else { FAILED }
}

/// Whether neither waiting nor a restart fixes it.
fn is_misuse(error: &(dyn Error + 'static)) -> bool {
    error.is::<SettingsError>()
        || error.is::<UsageError>()
        || error.is::<ConfigureError>()
        || error.downcast_ref::<ServiceError>().is_some_and(|error| error.kind() == ServiceErrorKind::Misconfigured)
        || error.downcast_ref::<BrokerError>().is_some_and(BrokerError::is_misuse)
        || error.downcast_ref::<Refused>().is_some_and(Refused::is_misuse)
        || error.downcast_ref::<PreflightError>().is_some_and(PreflightError::is_misuse)
        // No URL, one that cannot be parsed, or files that it names.
        || matches!(error.downcast_ref::<sqlx::Error>(), Some(sqlx::Error::Configuration(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] sqlx::Error);

    #[test]
    fn what_a_restart_cannot_fix_has_a_status_of_its_own() {
        let table: [(Box<dyn Error>, u8); 6] = [
            (Box::new(UsageError("no forwarder x is configured".to_owned())), MISUSED),
            (Box::new(Outer(sqlx::Error::Configuration("no URL".into()))), MISUSED),
            (Box::new(Outer(sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into()))), FAILED),
            (Box::new(BrokerError::NotConfigured), MISUSED),
            (Box::new(BrokerError::no_jetstream(None, &"not enabled")), FAILED),
            (Box::new(std::io::Error::other("disk")), FAILED),
        ];
        for (error, expected) in table {
            assert_eq!(status(&*error), expected, "{error:?}");
        }
    }
}
