//! `consumer`: carries references from JetStream to the configured forwarders.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use common::{
    boot, console,
    settings::{ConfigCommand, Provenance, Settings, SettingsArgs},
};
use consumer::{forwarder::Registry, run, status};

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
    /// Checks or prints the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    boot::run(&cli.settings, |settings, provenance| async {
        dispatch(cli.command, settings, provenance).await.map_err(Into::into)
    })
}

async fn dispatch(command: Command, settings: Settings, provenance: Provenance) -> anyhow::Result<()> {
    let registry = Registry::with_built_in();
    match command {
        Command::Run => Box::pin(run::run(settings, &registry)).await,
        Command::Status { json } => status::show(&settings, json).await,
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
