//! The command line: what is given, which command runs, and how it ends.

mod about;
mod answer;
mod backfill_keys;
mod capture;
mod continuity;
mod database;
mod doctor;
mod erase;
mod evidence;
mod export;
mod gen_triggers;
mod groups;
mod health;
mod host_schema;
mod install;
mod metrics;
mod policy;
mod read;
mod receipts;
mod retention;
mod serve;
mod settings;
mod times;
mod verify_coverage;

use std::{path::Path, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use threadline::coverage::settings as expectations;

use about::AboutCommand;
use answer::{Answer, Failure};
use capture::{CaptureCommand, actor};
use erase::EraseCommand;
use evidence::EvidenceCommand;
use export::ExportCommand;
use health::Health;
use policy::PolicyCommand;
use read::ReadCommand;
use receipts::ReceiptsCommand;
use retention::RetentionCommand;
use settings::{HostTarget, Target};

/// The audit timeline: who did what, when, and how it ended.
///
/// It reads the sections [threadline], [capture], [coverage], [retention], [erasure], [export] and [receipts] of audit.toml. `publisher config` begins, prints and checks the rest of that file.
#[derive(Debug, Parser)]
#[command(
    version,
    long_version = concat!(env!("CARGO_PKG_VERSION"), "\ncommit: ", env!("BUILD_COMMIT"), "\nfeatures: ", env!("BUILD_FEATURES")),
    after_help = "`threadline help COMMAND` says more about a command.\n\
                  Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Read(ReadCommand),
    /// Creates Threadline's tables, or completes those of the Elixir library.
    ///
    /// Harmless when repeated.
    Install {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: install::Arguments,
    },
    /// Generates the triggers that capture tables.
    ///
    /// Prints them, writes them as a migration, or makes them.
    GenTriggers {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: gen_triggers::Arguments,
    },
    /// Prints the steps to a table of which every change is recorded, or asserts that one is there.
    Continuity {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: continuity::Arguments,
    },
    /// Switches capture of tables off for maintenance, and on again; who and why is recorded in the timeline.
    #[command(subcommand)]
    Capture(CaptureCommand),
    /// Gives changes that were recorded without a key theirs, where the image of the row holds it.
    BackfillKeys {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: backfill_keys::Arguments,
    },
    /// Looks at everything that a timeline in production rests on, and says what to do.
    ///
    /// Exit status 1 when something failed.
    Doctor {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: doctor::Arguments,
    },
    /// Prints the state of the timeline as metrics for Prometheus.
    ///
    /// They are how each check of `threadline doctor` stands, how many tables are captured, how old and how large the timeline is, when it was
    /// purged and sealed last. They are for the textfile collector of `node_exporter`: a timer runs `threadline metrics --output
    /// /var/lib/prometheus/node-exporter/threadline.prom`. The role `audit_reader` of deploy/postgres/timeline.sql suffices; what a role may not
    /// see is left out, and its check is unknown. Exit status 0 whatever the checks find.
    Metrics {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: metrics::Arguments,
    },
    /// Serves the timeline to people with a browser: becomes `threadline-serve`, which has to be installed.
    #[command(disable_help_flag = true)]
    Serve(serve::Arguments),
    /// Says whether the tables that are expected to be captured are.
    ///
    /// Exit status 1 when one is missing, is not captured, or has a finding of severity error.
    VerifyCoverage {
        #[command(flatten)]
        target: HostTarget,
        #[command(flatten)]
        arguments: verify_coverage::Arguments,
    },
    /// Says how capture stands.
    #[command(subcommand)]
    Health(Health),
    /// Policies of captured tables.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Deletes what the section [retention] of the settings no longer keeps, and says what was deleted when.
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Erases values of a row, an actor or a person, and keeps what receipts are made of.
    #[command(subcommand)]
    Erase(EraseCommand),
    /// Shows and records what is claimed of the audit itself.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Hands a part of the timeline over, and verifies what was handed over.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Seals what the timeline holds, so that whoever changes it later is found, and verifies it.
    #[command(subcommand)]
    Receipts(ReceiptsCommand),
    #[command(flatten)]
    About(AboutCommand),
}

impl Command {
    /// The settings file that is named.
    fn config(&self) -> Option<&Path> {
        let config = match self {
            Self::Install { target, .. }
            | Self::GenTriggers { target, .. }
            | Self::Continuity { target, .. }
            | Self::Capture(CaptureCommand::Off { target, .. } | CaptureCommand::On { target, .. })
            | Self::BackfillKeys { target, .. }
            | Self::Retention(
                RetentionCommand::Purge { target, .. }
                | RetentionCommand::Runs { target, .. }
                | RetentionCommand::Archives { target, command: None, .. },
            )
            | Self::Doctor { target, .. }
            | Self::Metrics { target, .. } => &target.config,
            Self::VerifyCoverage { target, .. }
            | Self::Health(Health::Coverage { target, .. })
            | Self::Policy(PolicyCommand::Show { target, .. }) => &target.config,
            Self::Retention(RetentionCommand::Archives { command: Some(command), .. }) => {
                return command.config();
            }
            Self::Erase(command) => return command.config(),
            Self::Evidence(command) => return command.config(),
            Self::Read(command) => return command.config(),
            Self::Export(command) => return command.config(),
            Self::Receipts(command) => return command.config(),
            // What is given is read by the binary that it becomes.
            Self::Serve(_) | Self::About(_) => &None,
        };
        config.as_deref()
    }

    fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Read(command) => command.run(),
            Self::Install { target, arguments } => install::run(target, &arguments),
            Self::GenTriggers { target, arguments } => gen_triggers::run(target, &arguments),
            Self::Continuity { target, arguments } => continuity::run(target, &arguments),
            Self::Capture(command) => command.run(),
            Self::BackfillKeys { target, arguments } => backfill_keys::run(target, &arguments),
            Self::Doctor { target, arguments } => doctor::run(target, &arguments),
            Self::Metrics { target, arguments } => metrics::run(target, &arguments),
            Self::Serve(arguments) => serve::run(&arguments),
            Self::VerifyCoverage { target, arguments } => verify_coverage::run(target, &arguments),
            Self::Health(health) => health::run(health),
            Self::Policy(command) => policy::run(command),
            Self::Retention(command) => command.run(),
            Self::Erase(command) => command.run(),
            Self::Evidence(command) => command.run(),
            Self::Export(command) => command.run(),
            Self::Receipts(command) => command.run(),
            Self::About(command) => command.run(groups::grouped(Cli::command())),
        }
    }
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let parsed = groups::grouped(Cli::command()).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && settings::wants_json(settings::file_named().as_deref()) => {
            return answer::failed(&errors::usage(&error.render().to_string()), 2, true);
        }
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        // Help and version.
        Err(error) => return answer::written(error.print(), 0, false),
    };
    let json = settings::wants_json(cli.command.config());
    let _ = rustls::crypto::ring::default_provider().install_default();
    answer::finish(cli.command.run(), json)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
