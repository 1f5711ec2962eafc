//! The command line, for this crate's binary and for a host's own with more kinds of forwarders.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, builder::NonEmptyStringValueParser};
use common::{
    identifier::ForwarderId,
    process::{console, shutdown},
    service::{
        about::{AboutCommand, long_version},
        boot,
        help::Group,
    },
    settings::{ConfigCommand, GLOBAL_OPTIONS, Provenance, Settings, SettingsArgs},
};

#[cfg(feature = "threadline")]
use crate::commands::{
    rebuild::{self, Rebuild},
    receipts::{self, ReceiptsCommand},
    reconcile::{self, Reconcile},
};
use crate::{
    commands::{
        drop_durable,
        explain::{self, Explain},
        failures::{self, FailuresCommand},
        replay::{self, Replay},
        status,
    },
    forwarder::{MissingKinds, Registry},
    service::{Service, doctor},
};

/// Carries audit events from JetStream to the configured forwarders: to a timeline exactly once in effect, to other targets at least
/// once, under an id that never changes.
///
/// Start as many processes as you like: those with the same settings share the work.
#[derive(Debug, Parser)]
#[command(
    version,
    long_version = long_version(env!("CARGO_PKG_VERSION"), env!("BUILD_COMMIT"), env!("BUILD_FEATURES")),
    after_help = "`consumer help COMMAND` says more about a command.\n\
                  Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Skips forwarders of kinds that this binary does not know, because another one does.
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS)]
    allow_missing_kinds: bool,
    #[command(subcommand)]
    command: Command,
}

/// How help lists the subcommands.
const GROUPS: &[Group] = &[
    ("Every day", &["run", "status", "explain", "doctor"]),
    ("Delivery", &["failures", "replay", "drop-durable"]),
    #[cfg(feature = "threadline")]
    ("Timeline", &["reconcile", "receipts", "rebuild"]),
    ("Settings and shell", &["config", "completions", "man"]),
];

#[derive(Debug, Subcommand)]
enum Command {
    /// Forwards until it is stopped (SIGINT, SIGTERM).
    Run,
    /// Shows how far each forwarder has come, and its failures.
    ///
    /// Exit status 1 when a server that is needed could not be asked; the rest is shown.
    Status {
        /// Prints a JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Delivers a part of the stream again to one forwarder, during live traffic.
    ///
    /// What has arrived already stays as it is, or is overwritten with --overwrite.
    Replay(Replay),
    /// Compares the timeline with its source, row by row; repairs or seals it if asked to.
    ///
    /// Exit status 1 when both are not equal.
    #[cfg(feature = "threadline")]
    Reconcile(Reconcile),
    /// Builds the projection of one forwarder again from its source, during live traffic.
    ///
    /// The new table is swapped in at once. This applies a changed mapping to old rows.
    #[cfg(feature = "threadline")]
    Rebuild(Rebuild),
    /// Lists or verifies receipts of windows that were found equal.
    #[cfg(feature = "threadline")]
    #[command(subcommand)]
    Receipts(ReceiptsCommand),
    /// Shows the status of one event at every step, and what it waits for.
    ///
    /// The steps: row, entry, stream, deliveries, failures, timeline, receipt.
    Explain(Explain),
    /// Checks settings, source, broker and targets, and says how to fix what it finds.
    ///
    /// Looks for what could keep the pipeline from working as promised. Changes nothing, and sends nothing to any target. Exit
    /// status 1 when something is of severity error.
    Doctor {
        /// Prints a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Removes the durable of a forwarder that is no longer used.
    ///
    /// Otherwise the durable holds back trimming, pruning and `outbox.safe_before()` permanently. Recorded in `outbox.acts`.
    DropDurable {
        /// The forwarder's id.
        #[arg(value_name = "FORWARDER")]
        forwarder: ForwarderId,
        /// Although it has references that were not settled: they are lost to this forwarder.
        #[arg(long)]
        lose_work: bool,
        /// Why it is no longer used. It is stored.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
    },
    /// Lists, shows, re-drives or discards what could not be delivered.
    #[command(subcommand)]
    Failures(FailuresCommand),
    /// Checks or prints the settings, or writes a file to begin with.
    #[command(subcommand)]
    Config(ConfigCommand),
    #[command(flatten)]
    About(AboutCommand),
}

/// The whole binary, with the forwarder kinds of `registry`: what a host's own `main` calls.
#[must_use]
pub fn main(registry: Registry) -> ExitCode {
    let cli: Cli = match boot::parse(GROUPS) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    if let Some(status) = cli.command.described(&cli.settings) {
        return status;
    }
    let missing = if cli.allow_missing_kinds { MissingKinds::Skipped } else { MissingKinds::Refused };
    boot::run(&cli.settings, |settings, provenance| async {
        let left = cli.command.left();
        let work = Box::pin(dispatch(registry, missing, cli.command, settings, provenance));
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
            // A rebuild and a replay have something to give back first.
            Self::Run | Self::Replay(_) | Self::Config(_) | Self::About(_) => None,
            #[cfg(feature = "threadline")]
            Self::Rebuild(_) => None,
            #[cfg(feature = "threadline")]
            Self::Reconcile(asked) if asked.seals() => Some(
                "a window has its receipt as a whole or not at all; `consumer receipts list` shows which, and the same command \
                 may run again: no window is sealed twice",
            ),
            #[cfg(feature = "threadline")]
            Self::Reconcile(_) => {
                Some("repairs that were made stay, and no receipt was written; the same command starts over")
            }
            #[cfg(feature = "threadline")]
            Self::Receipts(_) => Some("nothing has changed; the same command starts over"),
            Self::DropDurable { .. } => Some(
                "the durable was removed or not; the same command may run again, and says when there is none",
            ),
            Self::Failures(_) => Some(
                "what has entered the log, or was discarded, stays so; the same command continues with the rest",
            ),
            Self::Status { .. } | Self::Explain(_) | Self::Doctor { .. } => {
                Some("it only reads: nothing has changed")
            }
        }
    }
}

async fn dispatch(
    registry: Registry,
    missing: MissingKinds,
    command: Command,
    settings: Settings,
    provenance: Provenance,
) -> anyhow::Result<()> {
    match command {
        Command::Run => {
            let service = Service::new(settings, registry).missing_kinds(missing);
            let run = |metrics, shutdown| service.metrics(metrics).run(shutdown);
            Ok(Box::pin(boot::serve(run)).await?)
        }
        Command::Status { json } => status::show(&settings, json).await,
        Command::Replay(asked) => Box::pin(replay::run(settings, &registry, missing, asked)).await,
        #[cfg(feature = "threadline")]
        Command::Reconcile(asked) => Box::pin(reconcile::run(&settings, asked)).await,
        #[cfg(feature = "threadline")]
        Command::Rebuild(asked) => Box::pin(rebuild::run(&settings, asked)).await,
        #[cfg(feature = "threadline")]
        Command::Receipts(command) => Box::pin(receipts::run(&settings, command)).await,
        Command::Explain(asked) => Box::pin(explain::run(&settings, asked)).await,
        Command::Doctor { json } => Box::pin(doctor::run(&settings, &registry, missing, json)).await,
        Command::DropDurable { forwarder, lose_work, reason } => {
            Box::pin(drop_durable::drop(&settings, &forwarder, lose_work, &reason)).await
        }
        Command::Failures(command) => Box::pin(failures::run(&settings, command)).await,
        Command::Config(command) => {
            if matches!(command, ConfigCommand::Check { .. }) {
                Service::new(settings.clone(), registry).missing_kinds(missing).check().await?;
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
