//! The flags and the subcommand that every binary shares.

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use clap::{Args, Subcommand};

use super::{
    Layers, LogFormat, Provenance, Settings, SettingsError, UsageError, layers, render,
    render::{render_json, template},
};

/// The heading under which help lists options that every command takes.
pub const GLOBAL_OPTIONS: &str = "Global options";

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// The settings file; without it the one that `AUDIT_CONFIG` names, or ./audit.toml when it exists.
    #[arg(long, short, global = true, value_name = "FILE", help_heading = GLOBAL_OPTIONS)]
    config: Option<PathBuf>,
    /// Overrides one key, such as `--set relay.page_rows=500`. Not for secrets. May be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = GLOBAL_OPTIONS)]
    set: Vec<String>,
    /// What is in the file. It is read once: a pipe is empty the second time.
    #[arg(skip)]
    text: OnceLock<String>,
}

impl SettingsArgs {
    /// What can be read of a command line that is refused.
    #[must_use]
    pub fn of(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut found = Self { config: None, set: Vec::new(), text: OnceLock::new() };
        let mut arguments = arguments.into_iter().skip(1).filter_map(|argument| argument.into_string().ok());
        while let Some(argument) = arguments.next() {
            match argument.split_once('=').unwrap_or((&argument, "")) {
                ("--config" | "-c", "") => found.config = arguments.next().map(PathBuf::from),
                ("--config" | "-c", file) => found.config = Some(PathBuf::from(file)),
                ("--set", "") => found.set.extend(arguments.next()),
                ("--set", assignment) => found.set.push(assignment.to_owned()),
                _ => {}
            }
        }
        found
    }

    /// File, environment and flags, laid over the defaults and checked.
    ///
    /// # Errors
    /// Names the key, its source and what is expected.
    pub fn load(&self) -> Result<(Settings, Provenance), SettingsError> {
        self.layers(Err)?.build()
    }

    /// What is in the settings file, once it was read; none where there is no file.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.get().map(String::as_str)
    }

    /// How log lines are to look, as far as it can be read: whatever cannot be used is left out.
    #[must_use]
    pub fn log_format(&self) -> Option<LogFormat> {
        self.layers(|_| Ok(())).ok()?.log_format()
    }

    /// `refused` is what becomes of a layer that cannot be used.
    fn layers(
        &self,
        refused: impl Fn(SettingsError) -> Result<(), SettingsError>,
    ) -> Result<Layers, SettingsError> {
        const DEFAULT_FILE: &str = "audit.toml";
        let lay =
            |below: Layers, next: &dyn Fn(Layers) -> Result<Layers, SettingsError>| match next(below.clone())
            {
                Ok(layers) => Ok(layers),
                Err(error) => refused(error).map(|()| below),
            };
        let named = std::env::var_os("AUDIT_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut layers = Layers::default();
        if let Some(path) = self.config.as_ref().or(named.as_ref()) {
            layers = lay(layers, &|layers| self.file(layers, path))?;
        } else if Path::new(DEFAULT_FILE).exists() {
            layers = lay(layers, &|layers| self.file(layers, Path::new(DEFAULT_FILE)))?;
        }
        layers = lay(layers, &|layers| layers.environment(std::env::vars_os()))?;
        for assignment in &self.set {
            layers = lay(layers, &|layers| layers.flag(assignment))?;
        }
        Ok(layers)
    }

    fn file(&self, layers: Layers, path: &Path) -> Result<Layers, SettingsError> {
        if let Some(text) = self.text.get() {
            return layers.text(text, &path.display().to_string());
        }
        let text = layers::read(path)?;
        layers.text(self.text.get_or_init(|| text), &path.display().to_string())
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
            std::io::ErrorKind::AlreadyExists => {
                UsageError(format!("{shown} exists, and is not overwritten: give another name, or remove it"))
            }
            _ => UsageError(format!("cannot write {shown}: {error}")),
        };
        let written = File::create_new(file).and_then(|mut file| file.write_all(template().as_bytes()));
        Some(written.map(|()| format!("wrote {shown}: take out the # before what you set\n")).map_err(refuse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settings_file_is_read_once_as_a_pipe_can_be() {
        let path = std::env::temp_dir().join(format!("settings-{}.toml", std::process::id()));
        std::fs::write(&path, "[log]\nformat = \"json\"\nlevel_of_nothing = 1\n").expect("a file");
        let named = path.clone().into_os_string();
        let arguments = SettingsArgs::of(["publisher".into(), "--config".into(), named]);
        arguments.load().expect_err("an unknown key");
        std::fs::remove_file(&path).expect("the file");
        assert_eq!(arguments.log_format(), Some(LogFormat::Json));
    }
}
