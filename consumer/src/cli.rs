//! The command line, for this crate's binary and for a host's own with more kinds of forwarders.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use common::{
    boot, console,
    settings::{ConfigCommand, Provenance, Settings, SettingsArgs},
};

use crate::{
    failures::{self, FailuresCommand},
    forwarder::Registry,
    run, status,
};

/// Carries audit events from JetStream to the configured forwarders, each exactly once in effect.
///
/// Start as many processes as you like: those with the same settings share the work.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forwards until it is told to stop (SIGINT, SIGTERM).
    Run,
    /// Shows how far each forwarder has come, and its failures.
    Status {
        /// Prints a JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Lists, shows, re-drives or discards what could not be delivered.
    #[command(subcommand)]
    Failures(FailuresCommand),
    /// Checks or prints the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// The whole binary, with the forwarder kinds of `registry`: what a host's own `main` calls.
#[must_use]
pub fn main(registry: &Registry) -> ExitCode {
    let cli = Cli::parse();
    boot::run(&cli.settings, |settings, provenance| async {
        dispatch(registry, cli.command, settings, provenance).await.map_err(Into::into)
    })
}

async fn dispatch(
    registry: &Registry,
    command: Command,
    settings: Settings,
    provenance: Provenance,
) -> anyhow::Result<()> {
    match command {
        Command::Run => Box::pin(run::run(settings, registry)).await,
        Command::Status { json } => status::show(&settings, json).await,
        Command::Failures(command) => failures::run(&settings, command).await,
        Command::Config(command) => {
            // The options of each forwarder are checked too, by its kind.
            registry.configure(&settings)?;
            console::answer(&command.answer(&settings, &provenance));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
