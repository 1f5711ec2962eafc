//! How every binary starts: settings and logs first, so that a mistake there fails before anything runs.

use std::{error::Error, process::ExitCode};

use crate::{
    console,
    settings::{Provenance, Settings, SettingsArgs},
    telemetry,
};

/// Exit status of a command that failed.
pub const FAILED: u8 = 1;
/// Exit status for settings or arguments that cannot be used; clap's own is the same.
pub const MISUSED: u8 = 2;

/// Loads the settings, sets up TLS and logs, and runs `main` on a runtime of its own.
pub fn run<F>(arguments: &SettingsArgs, main: impl FnOnce(Settings, Provenance) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    let (settings, provenance) = match arguments.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            console::report(&error);
            return ExitCode::from(MISUSED);
        }
    };
    if let Err(error) = telemetry::init_logs(&settings.log) {
        console::report(&error);
        return ExitCode::from(MISUSED);
    }
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::armed();
    // One provider for the whole process; a second one in the tree would panic at the first handshake.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console::report(&error);
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(main(settings, provenance)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::report(&*error);
            ExitCode::from(FAILED)
        }
    }
}
