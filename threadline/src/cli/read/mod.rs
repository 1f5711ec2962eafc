//! The commands that read the timeline. None of them writes, and the server sees to that.

mod arguments;
mod explain;
mod gather;
mod hint;
mod list;
mod render;
mod session;
mod words;
mod write;

use std::path::Path;

use clap::Subcommand;
use threadline::query::FilterError;

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
    /// Shows what belongs to a correlation id: its transactions and actions, the newest first.
    Correlation {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: list::Correlated,
    },
}

impl ReadCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        let (Self::Timeline { target, .. } | Self::Actions { target, .. } | Self::Correlation { target, .. }) = self;
        target.config.as_deref()
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Timeline { target, arguments } => list::timeline(target, &arguments),
            Self::Actions { target, arguments } => list::actions(target, &arguments),
            Self::Correlation { target, arguments } => list::correlation(target, arguments),
        }
    }
}

/// A filter that cannot be used, with its term.
fn refused_filter(error: FilterError) -> Failure {
    Failure::Misused(render::safe(&format!("{}: {error}", error.term())))
}
