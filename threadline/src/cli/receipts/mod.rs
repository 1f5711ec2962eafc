//! The commands that seal what the timeline holds, and that verify it.

mod bundle;
mod list;
mod seal;
mod session;
mod verify;
mod words;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Deserialize;

use super::{
    answer::{Answer, Failure},
    settings::Target,
};

#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptsCommand {
    /// Writes a receipt of what was committed to the timeline since the last one; the first one takes everything that is there.
    ///
    /// Exit status 1 when another process seals at the same time, or the server is a standby.
    Seal {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: seal::Arguments,
    },
    /// Shows receipts, the newest first.
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: list::Arguments,
    },
    /// Compares the timeline with its receipts, row by row.
    ///
    /// Exit status 1 when something does not verify.
    Verify {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: verify::Arguments,
    },
    /// Writes receipts with their rows into a file, which somebody without a server can verify.
    Bundle {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: bundle::Arguments,
    },
    /// Verifies a bundle. It needs no server.
    ///
    /// Exit status 1 when something does not verify.
    VerifyBundle(verify::OfBundle),
}

/// The section [receipts] of the settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReceiptsSection {
    /// A PKCS#8 file with the Ed25519 key that signs receipts.
    key: Option<PathBuf>,
}

impl ReceiptsCommand {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&Path> {
        match self {
            Self::Seal { target, .. }
            | Self::List { target, .. }
            | Self::Verify { target, .. }
            | Self::Bundle { target, .. } => target.config.as_deref(),
            Self::VerifyBundle(_) => None,
        }
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Seal { target, arguments } => seal::run(target, &arguments),
            Self::List { target, arguments } => list::run(target, &arguments),
            Self::Verify { target, arguments } => verify::run(target, &arguments),
            Self::Bundle { target, arguments } => bundle::run(target, &arguments),
            Self::VerifyBundle(arguments) => verify::run_of_bundle(&arguments),
        }
    }
}
