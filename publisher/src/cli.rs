//! The command line.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, builder::NonEmptyStringValueParser};
use common::{
    process::{console, shutdown},
    service::{
        about::{AboutCommand, long_version},
        boot,
        help::Group,
    },
    settings::{ConfigCommand, Provenance, Settings, SettingsArgs},
};

use crate::{
    commands::{
        attach,
        backfill::{self, Backfill},
        detach, drop_reader, prune, rebase, status,
    },
    service::{Service, doctor},
};

/// Carries committed audit rows from the outbox log to a JetStream subject, as thin references.
///
/// `publisher attach` once, then `publisher run`. Several may run; one leads, the others stand by.
#[derive(Debug, Parser)]
#[command(
    version,
    long_version = long_version(env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"), env!("BUILD_FEATURES")),
    after_help = "`publisher help COMMAND` says more about a command.\n\
                  Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

/// How help lists the subcommands.
const GROUPS: &[Group] = &[
    ("Every day", &["run", "status", "doctor"]),
    ("Capture", &["attach", "detach", "backfill"]),
    ("Repair", &["rebase", "drop-reader", "prune"]),
    ("Settings and shell", &["config", "completions", "man"]),
];

#[derive(Debug, Subcommand)]
enum Command {
    /// Relays until it is stopped (SIGINT, SIGTERM).
    Run,
    /// Creates the schema `outbox` where it is missing and starts capture on the audit table.
    ///
    /// The table is `source.table`. Nothing else of the pipeline touches it.
    Attach,
    /// Stops capture. What has been captured is still relayed.
    Detach,
    /// Enters rows from before `attach`, or any others, into the log.
    ///
    /// They are relayed like all others. If it was interrupted, it continues where it stopped. May be repeated, and run during live
    /// traffic, which has priority.
    Backfill(Backfill),
    /// Removes entries that every forwarder is past, and older than `relay.retention`.
    Prune {
        /// Prints a JSON object instead of a sentence.
        #[arg(long)]
        json: bool,
    },
    /// Makes the stored positions this cluster's own, after a restore into another one.
    ///
    /// Everything that the log holds is published again; what had arrived has no second effect. Stop all processes of the pipeline
    /// first.
    Rebase {
        /// After `pg_upgrade`, which keeps transaction ids: nothing is published again.
        #[arg(long)]
        upgraded: bool,
        /// Prints a JSON object instead of sentences.
        #[arg(long)]
        json: bool,
    },
    /// Shows the state of capture, log, leader, stream and forwarders.
    ///
    /// Exit status 1 when a server that is needed could not be asked; the rest is shown.
    Status {
        /// Prints a JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Checks settings, source and broker, and says how to fix what it finds.
    ///
    /// Looks for what could keep the pipeline from working as promised. Changes nothing. Exit status 1 when something is of severity
    /// error.
    Doctor {
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Removes the position in the log of a forwarder or publisher that is no longer used.
    ///
    /// Otherwise the position holds back pruning and `outbox.safe_before()` permanently. Recorded in `outbox.acts`.
    DropReader {
        /// Its name, as `doctor` gives it.
        #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        reader: String,
        /// Why it is no longer used. It is stored.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Checks or prints the settings, or writes a file to begin with.
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    About(AboutCommand),
}

/// The whole binary.
#[must_use]
pub fn main() -> ExitCode {
    let cli: Cli = match boot::parse(GROUPS) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    if let Some(status) = cli.command.described(&cli.settings) {
        return status;
    }
    boot::run(&cli.settings, |settings, provenance| async {
        let left = cli.command.left();
        let work = Box::pin(dispatch(cli.command, settings, provenance));
        let ended = match left {
            Some(left) => shutdown::unless_interrupted(left, work).await,
            None => work.await,
        };
        // Otherwise its type is lost, and with it the exit status.
        ended.map_err(anyhow::Error::reallocate_into_boxed_dyn_error_without_backtrace)
    })
}

impl Command {
    /// Runs commands that need no settings; returns the exit status.
    fn described(&self, arguments: &SettingsArgs) -> Option<ExitCode> {
        match self {
            Self::Config(command) => boot::init(command, arguments),
            Self::About(command) => Some(command.run(Cli::command(), arguments)),
            _ => None,
        }
    }

    /// What is left when it is interrupted, and whether it may run again. `None` for what ends in an orderly way itself.
    fn left(&self) -> Option<&'static str> {
        match self {
            Self::Run | Self::Config(_) | Self::About(_) => None,
            Self::Attach => Some(
                "capture is on or off as a whole, and steps of the schema outbox that were finished stay; `publisher status` \
                 shows whether it is on, and the same command completes what is missing",
            ),
            Self::Detach => Some(
                "capture is on or off as a whole; `publisher status` shows which, and the same command may run again",
            ),
            Self::Backfill(_) => {
                Some("what has been entered stays entered; the same command continues behind it")
            }
            Self::Prune { .. } => Some(
                "entries that were removed stay removed, and none that is needed is among them; the same command continues \
                 with the rest",
            ),
            Self::Rebase { .. } => Some(
                "the positions are moved all together or not at all, and the stream is taken over after them; the same \
                 command does what is missing: run it before the services start",
            ),
            Self::DropReader { .. } => Some(
                "the reader is dropped as a whole or not at all; the same command may run again, and says when there is none",
            ),
            Self::Status { .. } | Self::Doctor { .. } => Some("it only reads: nothing has changed"),
        }
    }
}

async fn dispatch(command: Command, settings: Settings, provenance: Provenance) -> anyhow::Result<()> {
    match command {
        Command::Run => {
            let service = |metrics, shutdown| Service::new(settings).metrics(metrics).run(shutdown);
            Ok(Box::pin(boot::serve(service)).await?)
        }
        Command::Attach => attach::run(&settings).await,
        Command::Detach => detach::run(&settings).await,
        Command::Backfill(asked) => Box::pin(backfill::run(&settings, &asked)).await,
        Command::Prune { json } => prune::run(&settings, json).await,
        Command::Rebase { upgraded, json } => rebase::run(&settings, upgraded, json).await,
        Command::Status { json } => status::show(&settings, json).await,
        Command::Doctor { json } => Box::pin(doctor::run(&settings, json)).await,
        Command::DropReader { reader, reason } => drop_reader::run(&settings, &reader, &reason).await,
        Command::Config(command) => {
            if matches!(command, ConfigCommand::Check { .. }) {
                Service::new(settings.clone()).check().await?;
            }
            console::print(&command.answer(&settings, &provenance));
            Ok(())
        }
        Command::About(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use common::service::help::assert_grouped;

    #[test]
    fn the_command_line_is_sound_and_help_lists_every_command() {
        super::Cli::command().debug_assert();
        assert_grouped(&super::Cli::command(), super::GROUPS);
    }
}
