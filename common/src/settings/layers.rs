//! File, environment and flags, laid over each other with the source of every key remembered.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::Path};

use toml::{Table, Value};

use super::{LogFormat, Settings, renamed, secrets};

/// Environment variables that programs around us already use.
const WELL_KNOWN: [(&str, &str); 3] = [
    ("SOURCE_DATABASE_URL", "source.url"),
    ("THREADLINE_DATABASE_URL", "threadline.url"),
    ("NATS_URL", "broker.url"),
];

/// `AUDIT__RELAY__PAGE_ROWS` is `relay.page_rows`.
const PREFIX: &str = "AUDIT__";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The settings file.
    File(String),
    /// This environment variable.
    Environment(String),
    /// `--set`.
    Flag,
    /// The program that embeds a service.
    Program,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{path}"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag => f.write_str("--set"),
            Self::Program => f.write_str("the program"),
        }
    }
}

/// Which source each key was taken from; keys that are absent have their default.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    sources: BTreeMap<String, Source>,
    /// New keys that were set by their old names, with the source.
    renamed: BTreeMap<&'static str, Source>,
    /// Keys that were set to an old value, with that, the new one and the source.
    old_values: BTreeMap<String, (&'static str, &'static str, Source)>,
}

impl Provenance {
    /// The source of a key, given as its dotted path.
    #[must_use]
    pub fn of(&self, key: &str) -> Source {
        // Recorded keys are leaves of the file: `forwarder` stands for `forwarder[0].kind`.
        let above = std::iter::successors(Some(key), |path| Some(&path[..path.rfind(['.', '['])?]));
        if let Some(source) = above.into_iter().find_map(|path| self.sources.get(path)) {
            return source.clone();
        }
        // An unknown section was set through one of its keys.
        let below = format!("{key}.");
        let set = self.sources.range(below.clone()..).next().filter(|(path, _)| path.starts_with(&below));
        set.map_or(Source::Default, |(_, source)| source.clone())
    }

    /// A line for each key that was set by an old name, and for each old value.
    pub fn deprecations(&self) -> impl Iterator<Item = String> {
        let values = self.old_values.iter().map(|(key, (old, new, source))| {
            format!(
                "{key} = {old:?} from {source} is called {new:?} now: rename it, support for the old name will end"
            )
        });
        let keys = self.renamed.iter().filter_map(|(new, source)| {
            let old = renamed::old_name(new)?;
            Some(format!(
                "{old} from {source} is called {new} now: rename it, support for the old name will end"
            ))
        });
        keys.chain(values)
    }

    /// A key by the name under which it was set.
    fn as_set(&self, key: String) -> String {
        if !self.renamed.contains_key(key.as_str()) {
            return key;
        }
        renamed::old_name(&key).map_or(key, str::to_owned)
    }
}

/// Settings that cannot be used, described so that an operator can act. Never holds a value that may be secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {error}")]
    Read {
        /// As given.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML, line {line}: {message}")]
    Syntax {
        /// As given.
        path: String,
        /// Counted from 1.
        line: usize,
        /// The parser's own message.
        message: String,
    },
    /// A key that does not exist, or a value of the wrong type or outside its range.
    #[error("{key} from {from}: {message}")]
    Key {
        /// Dotted path.
        key: String,
        /// Where the value was set.
        from: Source,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// A flag that cannot be understood.
    #[error("--set {0}: expected KEY=VALUE, such as relay.page_rows=500")]
    Flag(String),
    /// A secret on a command line.
    #[error("--set {0}: would show a secret in process lists; use the settings file or the environment")]
    Secret(String),
    /// A variable of ours whose value is no text.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(String),
}

/// The text of a settings file.
pub(super) fn read(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path)
        .map_err(|error| SettingsError::Read { path: path.display().to_string(), error })
}

/// Collects layers, later ones over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    values: Table,
    provenance: Provenance,
    /// Keys that have an old name and were set by the new one.
    by_new_name: BTreeMap<String, Source>,
    /// Keys that lead nowhere, each with why.
    unplaced: Vec<(String, String)>,
}

impl Layers {
    /// Lays a settings file on top.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn file(self, path: &Path) -> Result<Self, SettingsError> {
        self.text(&read(path)?, &path.display().to_string())
    }

    /// Lays the text of a settings file on top.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn text(mut self, text: &str, path: &str) -> Result<Self, SettingsError> {
        let mut table: Table = toml::from_str(text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        // Which tables Threadline's triggers capture, which are expected to be, how long that is kept, what signs exports and receipts: the
        // command `threadline` reads and checks them, and the operator surface what it shows of them.
        for of_threadline in ["capture", "coverage", "retention", "erasure", "export", "receipts"] {
            table.remove(of_threadline);
        }
        self.merge("", table, &Source::File(path.to_owned()));
        Ok(self)
    }

    fn merge(&mut self, prefix: &str, table: Table, source: &Source) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(table) => self.merge(&key, table, source),
                value => self.put(&key, value, source.clone()),
            }
        }
    }

    /// Lays the environment on top: the well-known URLs, and over them `AUDIT__SECTION__KEY`. A variable that is there and
    /// empty is how compose files and shells say that there is none.
    ///
    /// # Errors
    /// When one of ours is not UTF-8.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut ours: Vec<(bool, String, String, OsString)> =
            variables.into_iter().filter_map(|(name, value)| ours(name, value)).collect();
        ours.sort();
        for (_, name, key, value) in ours {
            let Ok(value) = value.into_string() else {
                return Err(SettingsError::NotText(name));
            };
            if !value.trim().is_empty() {
                self.put_text(&key, value, Source::Environment(name));
            }
        }
        Ok(self)
    }

    /// Lays one `--set KEY=VALUE` on top.
    ///
    /// # Errors
    /// When it has no `=`, or the key holds a secret.
    pub fn flag(mut self, assignment: &str) -> Result<Self, SettingsError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(SettingsError::Flag(secrets::masked(assignment)));
        };
        let key = key.trim();
        let named = key.ends_with("url") || key.ends_with("secret") || key.contains(".headers");
        if named || secrets::is_secret(value) {
            return Err(SettingsError::Secret(secrets::masked(key)));
        }
        self.put_text(key, value.to_owned(), Source::Flag);
        Ok(self)
    }

    fn put_text(&mut self, key: &str, text: String, source: Source) {
        let value = typed(renamed::new_name(key).unwrap_or(key), text);
        self.put(key, value, source);
    }

    fn put(&mut self, key: &str, value: Value, source: Source) {
        let new = renamed::new_name(key);
        if let Some(new) = new {
            self.provenance.renamed.insert(new, source.clone());
        } else if renamed::old_name(key).is_some() {
            self.by_new_name.insert(key.to_owned(), source.clone());
        }
        let key = new.unwrap_or(key);
        let old_value = renamed::new_value(key, &value);
        let value = old_value.map_or(value, |(_, new)| Value::String(new.to_owned()));
        match old_value {
            Some((old, new)) => {
                self.provenance.old_values.insert(key.to_owned(), (old, new, source.clone()));
            }
            None => drop(self.provenance.old_values.remove(key)),
        }
        let path: Vec<&str> = key.split('.').collect();
        if let Err(message) = place(&mut self.values, &path, value) {
            self.unplaced.push((key.to_owned(), message));
        }
        // As paths of errors are written; a part that could not be placed keeps the spelling in which it was set.
        self.provenance.sources.insert(key.to_owned(), source.clone());
        self.provenance.sources.insert(indexed(&path), source);
    }

    /// How log lines look by these layers, valid or not.
    pub(super) fn log_format(&self) -> Option<LogFormat> {
        self.values.get("log")?.get("format")?.clone().try_into().ok()
    }

    /// Reads the layers as settings and checks their ranges.
    ///
    /// # Errors
    /// Names the first key that is unknown, of the wrong type or outside its range, and where it was set.
    pub fn build(self) -> Result<(Settings, Provenance), SettingsError> {
        self.built().map_err(|error| match error {
            // A URL may stand where a key or an id belongs.
            SettingsError::Key { key, from, message } => {
                SettingsError::Key { key: secrets::masked(&key), from, message: secrets::masked(&message) }
            }
            error => error,
        })
    }

    fn built(self) -> Result<(Settings, Provenance), SettingsError> {
        let Self { values, provenance, by_new_name, unplaced } = self;
        if let Some((new, from)) =
            by_new_name.into_iter().find(|(new, _)| provenance.renamed.contains_key(new.as_str()))
        {
            let old = provenance.as_set(new.clone());
            let message = format!(
                "is also set by its old name, {old}, from {}: remove that one",
                provenance.renamed[new.as_str()]
            );
            return Err(SettingsError::Key { key: new, from, message });
        }
        if let Some((key, message)) = unplaced.into_iter().next() {
            return Err(SettingsError::Key { from: provenance.of(&key), key, message });
        }
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(values)).map_err(|error| {
            let key = error.path().to_string();
            SettingsError::Key {
                from: provenance.of(&key),
                message: error.into_inner().message().to_owned(),
                key: provenance.as_set(key),
            }
        })?;
        super::validate::validate(&settings).map_err(|(key, message)| SettingsError::Key {
            from: provenance.of(&key),
            key: provenance.as_set(key),
            message,
        })?;
        Ok((settings, provenance))
    }
}

/// A variable of ours, with its key; those of well-known names come first, so that the others lie over them.
fn ours(name: OsString, value: OsString) -> Option<(bool, String, String, OsString)> {
    let name = name.into_string().ok()?;
    if let Some((_, key)) = WELL_KNOWN.iter().find(|(known, _)| *known == name) {
        return Some((false, name, (*key).to_owned(), value));
    }
    let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
    Some((true, name, key, value))
}

/// `forwarder.0.kind` as `forwarder[0].kind`.
fn indexed(path: &[&str]) -> String {
    let is_index = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    path.iter().fold(String::new(), |text, part| match part {
        _ if text.is_empty() => (*part).to_owned(),
        index if is_index(index) => format!("{text}[{index}]"),
        name => format!("{text}.{name}"),
    })
}

/// Sets the value at `path`, making tables on the way; an index leads into a list that a lower layer has set. Otherwise
/// says why it leads nowhere.
fn place(table: &mut Table, path: &[&str], value: Value) -> Result<(), String> {
    match path {
        [] => Err("no such key".to_owned()),
        [last] => {
            table.insert((*last).to_owned(), value);
            Ok(())
        }
        ["forwarder", rest @ ..] if !table.contains_key("forwarder") => Err(absent(rest, 0)),
        [head, rest @ ..] => {
            match table.entry((*head).to_owned()).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(next) => place(next, rest, value),
                Value::Array(items) => {
                    let (known, index) = (items.len(), rest[0].parse::<usize>());
                    match (index.ok().and_then(|index| items.get_mut(index)), &rest[1..]) {
                        (Some(Value::Table(_)), []) => Err("one key of it at a time can be set".to_owned()),
                        (Some(Value::Table(item)), rest) => place(item, rest, value),
                        _ => Err(absent(rest, known)),
                    }
                }
                _ => Err(format!("{head} is a value and holds no keys")),
            }
        }
    }
}

/// Why there is no such entry of a list.
fn absent(rest: &[&str], known: usize) -> String {
    let asked = rest.first().copied().unwrap_or_default();
    let entry = if asked.parse::<usize>().is_ok() {
        format!("there is no [[forwarder]] number {asked}")
    } else {
        format!("{asked:?} is no number of a [[forwarder]]")
    };
    format!(
        "{entry}: counted from 0, the settings file has {known} of them. A variable or a flag changes an entry of the file, and \
         adds none: write the [[forwarder]] with its id and kind into the file"
    )
}

/// Environment and flags carry text; the type of the key's default says how to read it.
fn typed(key: &str, text: String) -> Value {
    let defaults = Table::try_from(Settings::default()).expect("the defaults are TOML");
    let default = key.split('.').try_fold(&Value::Table(defaults), |value, part| value.get(part)).cloned();
    match default {
        Some(Value::Integer(_) | Value::Boolean(_) | Value::Float(_) | Value::Array(_)) => {
            toml::from_str::<Table>(&format!("value = {text}"))
                .ok()
                .and_then(|mut table| table.remove("value"))
                .unwrap_or(Value::String(text))
        }
        _ => Value::String(text),
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
