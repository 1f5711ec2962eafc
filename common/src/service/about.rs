//! What a binary says of itself: completions for shells, man pages, and what it was built from.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::{Command, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

use super::boot;
use crate::settings::{SettingsArgs, UsageError};

/// What `--version` shows: the version, the commit, and the cargo features, those of this crate included, which may be turned on
/// without any of the binary's. `commit` and `features` as the crate `build-info` names them.
#[must_use]
pub fn long_version(version: &str, commit: &str, features: &str) -> String {
    let ours = [(cfg!(feature = "failpoints"), "failpoints"), (cfg!(feature = "traces"), "traces")];
    let mut all: BTreeSet<&str> = features.split(", ").filter(|name| !name.is_empty()).collect();
    all.extend(ours.into_iter().filter_map(|(on, name)| on.then_some(name)));
    let features =
        if all.is_empty() { "none".to_owned() } else { all.into_iter().collect::<Vec<_>>().join(", ") };
    format!("{version}\ncommit: {commit}\nfeatures: {features}")
}

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
