//! What a binary says of itself: completions for shells, and man pages.

use std::{path::PathBuf, process::ExitCode};

use clap::{Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use super::boot;
use crate::settings::{SettingsArgs, UsageError};

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum AboutCommand {
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
    /// Prints; returns the exit status.
    #[must_use]
    pub fn run(&self, mut command: Command, arguments: &SettingsArgs) -> ExitCode {
        let mut text = Vec::new();
        let made = match self {
            Self::Completions { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut text);
                Ok(())
            }
            Self::Man { folder: Some(folder) } => clap_mangen::generate_to(command, folder)
                .map_err(|error| format!("cannot write man pages into {}: {error}", folder.display())),
            Self::Man { folder: None } => {
                Man::new(command).render(&mut text).map_err(|error| error.to_string())
            }
        };
        let human = boot::for_people(arguments);
        match made {
            Ok(()) => boot::answered(&String::from_utf8_lossy(&text), human),
            Err(error) => boot::failed(&UsageError(error), human),
        }
    }
}
