//! The flags and the subcommand that every binary shares.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Layers, Provenance, Settings, SettingsError, render};

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// The settings file; without it ./audit.toml is read when it exists.
    #[arg(long, short, global = true, env = "AUDIT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one key, such as `--set publisher.page_rows=500`. Not for secrets. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// File, environment and flags, laid over the defaults and checked.
    ///
    /// # Errors
    /// Names the key, its source and what is expected.
    pub fn load(&self) -> Result<(Settings, Provenance), SettingsError> {
        const DEFAULT_FILE: &str = "audit.toml";
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers = layers.file(path)?;
        } else if Path::new(DEFAULT_FILE).exists() {
            layers = layers.file(Path::new(DEFAULT_FILE))?;
        }
        // Variables that are not Unicode cannot be ours.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        layers = layers.environment(variables);
        for assignment in &self.set {
            layers = layers.flag(assignment)?;
        }
        layers.build()
    }
}

/// `config check` and `config print`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Reads all settings and says whether they can be used.
    Check,
    /// Prints every key with its value and where it came from; secrets are masked.
    Print,
}

impl ConfigCommand {
    /// What to show for settings that could be read.
    #[must_use]
    pub fn answer(self, settings: &Settings, provenance: &Provenance) -> String {
        match self {
            Self::Check => "the settings are valid\n".to_owned(),
            Self::Print => render(settings, provenance),
        }
    }
}
