//! `threadline retention`: deleting what is no longer kept, and what was deleted.

mod archives;
mod purge;
mod runs;

use clap::Subcommand;

use super::{
    answer::{Answer, Failure},
    settings::Target,
};

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Deletes changes and actions that are older than their windows, in short transactions.
    ///
    /// It says which it is: --dry-run counts, --execute deletes. Exit status 1 when the run failed, or another process purges.
    Purge {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: purge::Arguments,
    },
    /// Lists the runs that there were, the newest first.
    Runs {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: runs::Arguments,
    },
    /// Lists what purges have archived before they deleted it, the oldest first, or verifies it.
    #[command(args_conflicts_with_subcommands = true)]
    Archives {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: archives::Arguments,
        #[command(subcommand)]
        command: Option<archives::Command>,
    },
}

impl RetentionCommand {
    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Purge { target, arguments } => purge::run(target, arguments),
            Self::Runs { target, arguments } => runs::run(target, &arguments),
            Self::Archives { command: Some(command), .. } => command.run(),
            Self::Archives { target, arguments, command: None } => archives::list(target, &arguments),
        }
    }
}
