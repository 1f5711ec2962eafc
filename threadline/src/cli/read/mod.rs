//! The commands that read the timeline. None of them writes, and the server sees to that.

mod actor;
pub(super) mod arguments;
mod as_of;
mod blame;
mod explain;
mod gather;
mod hint;
mod history;
mod list;
pub(super) mod render;
pub(super) mod session;
mod table_as_of;
mod tail;
mod transaction;
mod undo;
mod words;
pub(super) mod write;

use std::path::Path;

use clap::Subcommand;
use threadline::query::FilterError;

pub(super) use arguments::keys;
pub(super) use render::{json as json_line, note, put, safe};
pub(super) use session::check_timeline;
pub(super) use words::{filter as filter_of_words, key as key_of_words, table as table_of_words};

use super::{
    answer::{Answer, Failure},
    settings::Target,
};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum ReadCommand {
    /// Shows who changed what: changes, actions and events, the newest first.
    #[command(after_help = arguments::keys())]
    Timeline {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: list::Arguments,
    },
    /// Shows actions and events, without changes.
    #[command(after_help = arguments::keys())]
    Actions {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: list::Arguments,
    },
    /// Shows the newest entries, the oldest of them first, and with -f what comes after them.
    #[command(after_help = arguments::keys())]
    Tail {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: tail::Arguments,
    },
    /// Shows what happened to one row, also under keys that it had before.
    History {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: history::Arguments,
    },
    /// Shows what a row was at a time, or all rows of a table.
    ///
    /// Exit status 1 when the row had been deleted by then, or nothing of it was known yet.
    AsOf {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: as_of::Arguments,
    },
    /// Shows for each column of a row who set it, when, and in which action.
    Blame {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: blame::Arguments,
    },
    /// Shows what somebody did, transaction by transaction.
    Actor {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: actor::Arguments,
    },
    /// Shows what belongs to a correlation id: its transactions and actions, the newest first.
    Correlation {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: list::Correlated,
    },
    /// Shows one transaction: who, why, and its changes.
    ///
    /// Exit status 1 when there is no such transaction.
    Transaction {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: transaction::Arguments,
    },
    /// Shows one transaction field by field, with the action that it was part of.
    ///
    /// Exit status 1 when there is no such transaction.
    Incident {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: transaction::Arguments,
    },
    /// Prints SQL that would set back what a transaction or a change has done; it is never run.
    ///
    /// The script ends with a rollback. Exit status 1 when there is no such transaction or change.
    UndoPlan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: undo::Arguments,
    },
}

impl ReadCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        let (Self::Timeline { target, .. }
        | Self::Actions { target, .. }
        | Self::Tail { target, .. }
        | Self::History { target, .. }
        | Self::AsOf { target, .. }
        | Self::Blame { target, .. }
        | Self::Actor { target, .. }
        | Self::Correlation { target, .. }
        | Self::Transaction { target, .. }
        | Self::Incident { target, .. }
        | Self::UndoPlan { target, .. }) = self;
        target.config.as_deref()
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Timeline { target, arguments } => list::timeline(target, &arguments),
            Self::Actions { target, arguments } => list::actions(target, &arguments),
            Self::Tail { target, arguments } => tail::run(target, &arguments),
            Self::History { target, arguments } => history::run(target, &arguments),
            Self::AsOf { target, arguments } => as_of::run(target, &arguments),
            Self::Blame { target, arguments } => blame::run(target, &arguments),
            Self::Actor { target, arguments } => actor::run(target, &arguments),
            Self::Correlation { target, arguments } => list::correlation(target, arguments),
            Self::Transaction { target, arguments } => transaction::transaction(target, &arguments),
            Self::Incident { target, arguments } => transaction::incident(target, &arguments),
            Self::UndoPlan { target, arguments } => undo::run(target, &arguments),
        }
    }
}

/// A filter that cannot be used, with its term.
pub(super) fn refused_filter(error: &FilterError) -> Failure {
    Failure::Misused(safe(&format!("{}: {error}", error.term())))
}
