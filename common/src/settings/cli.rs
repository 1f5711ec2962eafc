//! The flags and the subcommand that every binary shares.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    Layers, LogFormat, Provenance, Settings, SettingsError, UsageError, render,
    render::{render_json, template},
};

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

/// `config check`, `config print` and `config init`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Reads all settings and says whether they can be used.
    Check {
        /// Prints a JSON object instead of a sentence.
        #[arg(long)]
        json: bool,
    },
    /// Prints every key with its value and where it came from; secrets are masked.
    Print {
        /// Prints a JSON array of objects with `key`, `value` and `source` instead of TOML.
        #[arg(long)]
        json: bool,
    },
    /// Prints a settings file with every key, its default and what it means, all of it commented out.
    Init {
        /// Writes it to this file instead, which must not exist yet.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

impl ConfigCommand {
    /// What to show for settings that could be read.
    #[must_use]
    pub fn answer(&self, settings: &Settings, provenance: &Provenance) -> String {
        match self {
            Self::Check { json: false } => "the settings are valid\n".to_owned(),
            Self::Check { json: true } => "{\"valid\":true}\n".to_owned(),
            Self::Print { json: false } => render(settings, provenance),
            Self::Print { json: true } => render_json(settings, provenance),
            Self::Init { .. } => template(),
        }
    }

    /// What `config init` says, which needs no settings; `None` for the others.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    #[must_use]
    pub fn init(&self) -> Option<Result<String, UsageError>> {
        let Self::Init { file } = self else { return None };
        let Some(file) = file else { return Some(Ok(template())) };
        let shown = file.display();
        let refuse = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => UsageError(format!(
                "{shown} exists, and is not written over: give another name, or remove it"
            )),
            _ => UsageError(format!("cannot write {shown}: {error}")),
        };
        let written = File::create_new(file).and_then(|mut file| file.write_all(template().as_bytes()));
        Some(written.map(|()| format!("wrote {shown}: take out the # before what you set\n")).map_err(refuse))
    }
}
