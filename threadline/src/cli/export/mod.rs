//! The commands that hand a part of the timeline over, and that verify what was handed over.

mod jobs;
mod run;
mod summary;
mod verify;
mod what;
mod words;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use serde::{Deserialize, Deserializer, de::Error as _};
use threadline::{
    export::jobs::{KEEP, KEEP_MAX},
    storage::{Location, StorageSettings},
};

use super::{
    answer::{Answer, Failure},
    read::keys,
    settings::Target,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// Exports what a filter finds, from one snapshot, with a manifest beside it; the export itself is recorded in the timeline.
    #[command(after_help = keys())]
    Run {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Box<run::Arguments>,
    },
    /// Verifies that an exported file is what its manifest says. It needs no server.
    ///
    /// Exit status 1 when it is not.
    Verify(verify::Arguments),
    /// Exports in the background: a job says what to export and where to bring it, and a worker makes it.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Exports that are made again and again.
    #[command(subcommand)]
    Schedules(jobs::schedules::SchedulesCommand),
}

/// An export that were kept for less could not be fetched.
const KEEP_MIN: Duration = Duration::from_secs(60);

/// The section [export] of the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExportSection {
    /// A PKCS#8 file with the Ed25519 key that signs manifests.
    pub(crate) key: Option<PathBuf>,
    /// How long what a job has stored is kept, such as 168h.
    #[serde(deserialize_with = "time")]
    keep: Option<Duration>,
    /// Where jobs store exports.
    storage: StorageSection,
}

/// The section [export.storage] of the settings file. Credentials are in another file or in the environment.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StorageSection {
    location: Option<Location>,
    region: Option<String>,
    endpoint: Option<String>,
    allow_http: bool,
    credentials_file: Option<PathBuf>,
}

impl ExportSection {
    fn keep(&self) -> Duration {
        self.keep.unwrap_or(KEEP)
    }
}

impl StorageSection {
    fn settings(&self) -> StorageSettings {
        let Self { region, endpoint, allow_http, credentials_file, .. } = self;
        StorageSettings {
            region: region.clone(),
            endpoint: endpoint.clone(),
            allow_http: *allow_http,
            credentials_file: credentials_file.clone(),
        }
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("export.keep: {error}")))?;
    if !(KEEP_MIN..=KEEP_MAX).contains(&time) {
        return Err(D::Error::custom("export.keep is from 1 minute to 36525 days"));
    }
    Ok(Some(time))
}

impl ExportCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        match self {
            Self::Run { target, .. } => target.config.as_deref(),
            Self::Verify(_) => None,
            Self::Jobs(command) => command.config(),
            Self::Schedules(command) => command.config(),
        }
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Run { target, arguments } => run::run(target, &arguments),
            Self::Verify(arguments) => verify::run(&arguments),
            Self::Jobs(command) => command.run(),
            Self::Schedules(command) => command.run(),
        }
    }
}
