//! `threadline erase`: values of a row, an actor or a person go, and what was erased.

mod run;
mod runs;
mod subject;

use std::path::Path;

use clap::Subcommand;

use super::{
    answer::{Answer, Failure},
    settings::Target,
};

#[derive(Debug, Subcommand)]
pub(crate) enum EraseCommand {
    /// Erases values of a row, under all keys that it has had.
    ///
    /// It says which it is: --dry-run counts, --execute erases. Exit status 1 when the run failed, or another process erases.
    Row {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: subject::OfRow,
    },
    /// Erases who it was: what somebody did stays, and stays one actor's.
    ///
    /// It says which it is: --dry-run counts, --execute erases. Exit status 1 when the run failed, or another process erases.
    Actor {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: subject::OfActor,
    },
    /// Erases a person, in the tables and columns that the section [erasure] of the settings names.
    ///
    /// A row that has named the person once goes with all its changes, those of later owners too, since they may hold the same values. Erase
    /// the person in your own tables first: what is committed later is erased by the same command, given again. Exports, archives and backups
    /// that were made before are out of reach.
    ///
    /// It says which it is: --dry-run counts, --execute erases. Exit status 1 when the run failed, or another process erases.
    Person {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: subject::OfPerson,
    },
    /// Lists the erasures that there were, the newest first.
    Runs {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: runs::Arguments,
    },
}

impl EraseCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        let (Self::Row { target, .. }
        | Self::Actor { target, .. }
        | Self::Person { target, .. }
        | Self::Runs { target, .. }) = self;
        target.config.as_deref()
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Row { target, arguments } => subject::row(target, arguments),
            Self::Actor { target, arguments } => subject::actor_of(target, arguments),
            Self::Person { target, arguments } => subject::person(target, arguments),
            Self::Runs { target, arguments } => runs::run(target, &arguments),
        }
    }
}
