//! `threadline export jobs` and `threadline export schedules`: exports in the background.

mod add;
mod fetch;
mod fields;
mod show;
mod timeline;
mod work;

pub(super) mod schedules;

use std::path::Path;

use clap::Subcommand;

use crate::cli::{
    answer::{Answer, Failure},
    read::keys,
    settings::Target,
};

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Asks for an export, which a worker makes and stores.
    ///
    /// Prints the job's id. `--now` makes it in this process, `--wait` waits for a worker; exit status 1 when it failed then.
    #[command(after_help = keys())]
    Add {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Box<add::Arguments>,
    },
    /// Lists jobs, the newest first, with those of the Elixir library.
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: show::ListArguments,
    },
    /// Shows one job.
    Show {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: show::Arguments,
    },
    /// Ends a job that has not ended; a worker that makes it stops within seconds.
    Cancel {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: show::Arguments,
    },
    /// Has a job made after all that failed or was cancelled.
    Retry {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: show::Arguments,
    },
    /// Fetches what a job has stored, verifies it, and only then gives it its name.
    Fetch {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: fetch::Arguments,
    },
    /// Makes exports that are due, until SIGINT or SIGTERM: fires schedules, makes jobs, and deletes what was kept long enough.
    ///
    /// A job that is being made when it is stopped is given back, and the next worker in the same folder goes on with it.
    Work {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: work::Arguments,
    },
    /// Deletes once what jobs have stored and was kept long enough. Workers do so by themselves.
    ///
    /// Exit status 1 when something could not be deleted; its job says why.
    Clean {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: work::CleanArguments,
    },
}

impl JobsCommand {
    /// The settings file that is named.
    pub(super) fn config(&self) -> Option<&Path> {
        let (Self::Add { target, .. }
        | Self::List { target, .. }
        | Self::Show { target, .. }
        | Self::Cancel { target, .. }
        | Self::Retry { target, .. }
        | Self::Fetch { target, .. }
        | Self::Work { target, .. }
        | Self::Clean { target, .. }) = self;
        target.config.as_deref()
    }

    pub(super) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Add { target, arguments } => add::run(target, &arguments),
            Self::List { target, arguments } => show::list(target, &arguments),
            Self::Show { target, arguments } => show::show(target, &arguments),
            Self::Cancel { target, arguments } => show::cancel(target, &arguments),
            Self::Retry { target, arguments } => show::retry(target, &arguments),
            Self::Fetch { target, arguments } => fetch::run(target, &arguments),
            Self::Work { target, arguments } => work::run(target, &arguments),
            Self::Clean { target, arguments } => work::clean(target, &arguments),
        }
    }
}
