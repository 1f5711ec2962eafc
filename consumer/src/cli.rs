//! The command line, for this crate's binary and for a host's own with more kinds of forwarders.

use std::process::ExitCode;

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};
use common::{
    boot, console,
    identifier::ForwarderId,
    settings::{ConfigCommand, Provenance, Settings, SettingsArgs},
};

use crate::{
    doctor, durables,
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
    /// Checks settings, source, broker and targets for what could keep the pipeline from working as promised, and says what
    /// mends it. Changes nothing, and sends nothing to any target. Exit status 1 when something is of severity error.
    Doctor {
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Lets go of the place in the stream of a forwarder that is out of use, which otherwise holds back trimming, pruning and
    /// `outbox.safe_before()` for ever. Recorded in `outbox.acts`.
    DropDurable {
        /// The forwarder's id.
        #[arg(value_name = "FORWARDER")]
        forwarder: ForwarderId,
        /// Why it is out of use. It is kept.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
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
        Command::Doctor { json } => Box::pin(doctor::run(&settings, registry, json)).await,
        Command::DropDurable { forwarder, reason } => {
            Box::pin(durables::drop(&settings, &forwarder, &reason)).await
        }
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
