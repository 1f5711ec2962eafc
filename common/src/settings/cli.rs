//! The flags and the subcommand that every binary shares.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Layers, LogFormat, Provenance, Settings, SettingsError, render};

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// The settings file; without it the one that `AUDIT_CONFIG` names, or ./audit.toml when it exists.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Overrides one key, such as `--set relay.page_rows=500`. Not for secrets. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Settings that cannot be used.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub error: SettingsError,
    /// How log lines were to look, as far as could be read.
    pub format: Option<LogFormat>,
}

impl SettingsArgs {
    /// File, environment and flags, laid over the defaults and checked.
    ///
    /// # Errors
    /// Names the key, its source and what is expected.
    pub fn load(&self) -> Result<(Settings, Provenance), Refusal> {
        let layers = self.layers().map_err(|error| Refusal { error, format: None })?;
        let format = layers.log_format();
        layers.build().map_err(|error| Refusal { error, format })
    }

    fn layers(&self) -> Result<Layers, SettingsError> {
        const DEFAULT_FILE: &str = "audit.toml";
        let named = std::env::var_os("AUDIT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut layers = Layers::default();
        if let Some(path) = self.config.as_ref().or(named.as_ref()) {
            layers = layers.file(path)?;
        } else if Path::new(DEFAULT_FILE).exists() {
            layers = layers.file(Path::new(DEFAULT_FILE))?;
        }
        layers = layers.environment(std::env::vars_os())?;
        for assignment in &self.set {
            layers = layers.flag(assignment)?;
        }
        Ok(layers)
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
