//! The commands that hand a part of the timeline over, and that verify what was handed over.

mod run;
mod summary;
mod verify;
mod words;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;

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
}

/// The section [export] of the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExportSection {
    /// A PKCS#8 file with the Ed25519 key that signs manifests.
    key: Option<PathBuf>,
}

impl ExportCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        match self {
            Self::Run { target, .. } => target.config.as_deref(),
            Self::Verify(_) => None,
        }
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Run { target, arguments } => run::run(target, &arguments),
            Self::Verify(arguments) => verify::run(&arguments),
        }
    }
}
