//! What the binary says of itself: completions for shells, and man pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use super::answer::{Answer, Failure};

/// The subcommands, as the services have them.
#[derive(Debug, Subcommand)]
pub(crate) enum AboutCommand {
    /// Prints completions of this command line for a shell, such as `completions bash`.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Prints the man page, in roff: `man | man -l -`.
    Man {
        /// Writes the pages of this command and of all its subcommands into this folder instead, which must exist.
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
}

impl AboutCommand {
    pub(crate) fn run(self, mut command: Command) -> Result<Answer, Failure> {
        let mut text = Vec::new();
        match self {
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut text);
            }
            Self::Man { folder: Some(folder) } => {
                clap_mangen::generate_to(command, &folder).map_err(|error| {
                    Failure::Misused(format!("cannot write man pages into {}: {error}", folder.display()))
                })?;
            }
            Self::Man { folder: None } => {
                Man::new(command).render(&mut text).context("cannot render the man page")?;
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned().into())
    }
}
