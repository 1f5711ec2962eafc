//! File, environment and flags, laid over each other with the source of every key remembered.

use std::{collections::BTreeMap, fmt, path::Path};

use toml::{Table, Value};

use super::Settings;

/// Environment variables that programs around us already use.
const WELL_KNOWN: [(&str, &str); 3] = [
    ("SOURCE_DATABASE_URL", "source.url"),
    ("THREADLINE_DATABASE_URL", "threadline.url"),
    ("NATS_URL", "broker.url"),
];

/// `AUDIT__PUBLISHER__PAGE_ROWS` is `publisher.page_rows`.
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
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => write!(f, "{path}"),
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// Which source each key was taken from; keys that are absent have their default.
#[derive(Debug, Clone, Default)]
pub struct Provenance(BTreeMap<String, Source>);

impl Provenance {
    /// The source of a key, given as its dotted path.
    #[must_use]
    pub fn of(&self, key: &str) -> Source {
        // Recorded keys are leaves of the file: `forwarder` stands for `forwarder[0].kind`.
        let above = std::iter::successors(Some(key), |path| Some(&path[..path.rfind(['.', '['])?]));
        if let Some(source) = above.into_iter().find_map(|path| self.0.get(path)) {
            return source.clone();
        }
        // An unknown section was set through one of its keys.
        let below = format!("{key}.");
        let set = self.0.range(below.clone()..).next().filter(|(path, _)| path.starts_with(&below));
        set.map_or(Source::Default, |(_, source)| source.clone())
    }
}

/// Settings that cannot be used, in words an operator can act on. Never holds a value that may be secret.
#[derive(Debug, thiserror::Error)]
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
        /// The parser's own words.
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
    #[error("--set {0}: expected KEY=VALUE, such as publisher.page_rows=500")]
    Flag(String),
    /// A secret on a command line.
    #[error("--set {0}: would show a secret in process lists; use the settings file or the environment")]
    Secret(String),
}

/// Collects layers, later ones over earlier ones.
#[derive(Debug, Default)]
pub struct Layers {
    values: Table,
    provenance: Provenance,
    /// Keys that lead through something that is neither a table nor a list.
    unplaced: Vec<String>,
}

impl Layers {
    /// Lays a settings file on top.
    ///
    /// # Errors
    /// When it cannot be read or parsed.
    pub fn file(self, path: &Path) -> Result<Self, SettingsError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError::Read { path: shown.clone(), error })?;
        self.text(&text, &shown)
    }

    /// Lays the text of a settings file on top.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn text(mut self, text: &str, path: &str) -> Result<Self, SettingsError> {
        let table: Table = toml::from_str(text).map_err(|error| SettingsError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
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

    /// Lays the environment on top: `AUDIT__SECTION__KEY`, and the well-known URLs.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables: Vec<_> = variables.into_iter().collect();
        variables.sort();
        for (name, value) in variables {
            let well_known =
                WELL_KNOWN.iter().find(|(known, _)| *known == name).map(|(_, key)| (*key).to_owned());
            // A URL that is there and empty is how compose files and shells say that there is none.
            if well_known.is_some() && value.is_empty() {
                continue;
            }
            let key =
                well_known.or_else(|| Some(name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".")));
            if let Some(key) = key {
                let value = typed(&key, value);
                self.put(&key, value, Source::Environment(name));
            }
        }
        self
    }

    /// Lays one `--set KEY=VALUE` on top.
    ///
    /// # Errors
    /// When it has no `=`, or the key holds a secret.
    pub fn flag(mut self, assignment: &str) -> Result<Self, SettingsError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(SettingsError::Flag(assignment.to_owned()));
        };
        let key = key.trim();
        if key.ends_with("url") || key.ends_with("secret") || key.contains(".headers") {
            return Err(SettingsError::Secret(key.to_owned()));
        }
        self.put(key, typed(key, value.to_owned()), Source::Flag);
        Ok(self)
    }

    fn put(&mut self, key: &str, value: Value, source: Source) {
        let path: Vec<&str> = key.split('.').collect();
        if !place(&mut self.values, &path, value) {
            self.unplaced.push(key.to_owned());
        }
        self.provenance.0.insert(key.to_owned(), source);
    }

    /// Reads the layers as settings and checks their ranges.
    ///
    /// # Errors
    /// Names the first key that is unknown, of the wrong type or outside its range, and where it was set.
    pub fn build(self) -> Result<(Settings, Provenance), SettingsError> {
        let Self { values, provenance, unplaced } = self;
        if let Some(key) = unplaced.into_iter().next() {
            return Err(SettingsError::Key {
                from: provenance.of(&key),
                key,
                message: "no such key".to_owned(),
            });
        }
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(values)).map_err(|error| {
            let key = error.path().to_string();
            SettingsError::Key {
                from: provenance.of(&key),
                message: error.into_inner().message().to_owned(),
                key,
            }
        })?;
        super::validate::validate(&settings).map_err(|(key, message)| SettingsError::Key {
            from: provenance.of(&key),
            key,
            message,
        })?;
        Ok((settings, provenance))
    }
}

/// Sets the value at `path`, making tables on the way; an index leads into a list that a lower layer has set.
fn place(table: &mut Table, path: &[&str], value: Value) -> bool {
    match path {
        [] => false,
        [last] => {
            table.insert((*last).to_owned(), value);
            true
        }
        [head, rest @ ..] => {
            match table.entry((*head).to_owned()).or_insert_with(|| Value::Table(Table::new())) {
                Value::Table(next) => place(next, rest, value),
                Value::Array(items) => match rest {
                    [index, rest @ ..] => {
                        match index.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                            Some(Value::Table(item)) => place(item, rest, value),
                            _ => false,
                        }
                    }
                    [] => false,
                },
                _ => false,
            }
        }
    }
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
mod tests {
    use super::*;

    fn layers(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<Settings, SettingsError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut layers = Layers::default().text(text, "audit.toml")?.environment(variables);
        for flag in flags {
            layers = layers.flag(flag)?;
        }
        layers.build().map(|(settings, _)| settings)
    }

    fn refusal(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> String {
        layers(text, variables, flags).expect_err("these settings are wrong").to_string()
    }

    #[test]
    fn flags_lie_over_the_environment_and_that_over_the_file() {
        let file = "[publisher]\npage_rows = 100\nwindow = 100\nlease = \"20s\"";
        let environment = [("AUDIT__PUBLISHER__PAGE_ROWS", "200"), ("AUDIT__PUBLISHER__WINDOW", "200")];
        let settings = layers(file, &environment, &["publisher.page_rows=300"]).expect("valid");
        assert_eq!(settings.publisher.page_rows, 300);
        assert_eq!(settings.publisher.window, 200);
        assert_eq!(settings.publisher.lease, std::time::Duration::from_secs(20));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_path_and_its_source() {
        let message = refusal("[publisher]\npage_sise = 1", &[], &[]);
        assert!(message.starts_with("publisher.page_sise from audit.toml: unknown field"), "{message}");
        let message = refusal("", &[("AUDIT__PUBLISHR__WINDOW", "1")], &[]);
        assert!(
            message.starts_with("publishr from the environment variable AUDIT__PUBLISHR__WINDOW"),
            "{message}"
        );
        let message = refusal("", &[], &["consumer.wrokers=1"]);
        assert!(message.starts_with("consumer.wrokers from --set"), "{message}");
    }

    #[test]
    fn a_value_of_the_wrong_type_or_outside_its_range_says_what_is_expected() {
        let message = refusal("[publisher]\npage_rows = \"many\"", &[], &[]);
        assert!(message.starts_with("publisher.page_rows from audit.toml: invalid type"), "{message}");
        let message = refusal("[publisher]\nlease = \"soon\"", &[], &[]);
        assert!(message.contains("\"soon\" is not a duration such as"), "{message}");
        let message = refusal("", &[("AUDIT__CONSUMER__WORKERS", "0")], &[]);
        assert_eq!(
            message,
            "consumer.workers from the environment variable AUDIT__CONSUMER__WORKERS: must be 1 to 64, is 0"
        );
    }

    #[test]
    fn the_applications_retention_is_optional_and_its_margin_lies_within_it() {
        assert_eq!(layers("", &[], &[]).expect("valid").source.retention, None);
        let variables = [("AUDIT__SOURCE__RETENTION", "90days")];
        let source = layers("", &variables, &["source.retention_margin=90days"]).expect("valid").source;
        assert_eq!(source.retention, Some(source.retention_margin));
        let message = refusal("", &variables, &["source.retention_margin=91days"]);
        assert!(
            message.starts_with("source.retention_margin from --set: must be 0s to 2months"),
            "{message}"
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        let message = refusal("[publisher]\npage_rows = ", &[], &[]);
        assert!(message.starts_with("audit.toml is not valid TOML, line 2:"), "{message}");
    }

    #[test]
    fn the_environment_reaches_into_the_list_of_forwarders() {
        let file = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
        let settings = layers(file, &[("AUDIT__FORWARDER__0__KIND", "threadline")], &[]).expect("valid");
        assert_eq!(settings.forwarder[0].kind, "threadline");
        let message = refusal(file, &[("AUDIT__FORWARDER__1__KIND", "noop")], &[]);
        assert!(message.contains("no such key"), "{message}");
    }

    #[test]
    fn without_forwarders_everything_goes_into_the_timeline_and_an_empty_list_means_none() {
        assert_eq!(layers("", &[], &[]).expect("valid").forwarder[0].kind, "threadline");
        assert!(layers("forwarder = []", &[], &[]).expect("valid").forwarder.is_empty());
    }

    #[test]
    fn forwarders_need_a_kind_a_known_dispatch_and_an_id_of_their_own() {
        let message = refusal("[[forwarder]]\nid = \"a\"", &[], &[]);
        assert!(message.contains("forwarder[0]") && message.contains("missing field `kind`"), "{message}");
        let message = refusal("[[forwarder]]\nid = \"a\"\nkind = \"noop\"\ndispatch = \"later\"", &[], &[]);
        assert!(message.contains("unknown variant `later`"), "{message}");
        let twice = "[[forwarder]]\nid = \"a\"\nkind = \"noop\"\n[[forwarder]]\nid = \"a\"\nkind = \"noop\"";
        let message = refusal(twice, &[], &[]);
        assert_eq!(message, "forwarder[1].id from audit.toml: the id \"a\" is taken by an earlier forwarder");
    }

    #[test]
    fn urls_come_from_well_known_variables_and_neither_they_nor_headers_from_flags() {
        let settings = layers("", &[("NATS_URL", "nats://localhost:4222")], &[]).expect("valid");
        assert_eq!(settings.broker.url.expect("set").expose(), "nats://localhost:4222");
        assert!(layers("", &[("NATS_URL", "")], &[]).expect("valid").broker.url.is_none());
        let message = refusal("", &[], &["source.url=postgres://app:hunter2@db/prod"]);
        assert!(message.contains("process lists") && !message.contains("hunter2"), "{message}");
        let message = refusal("", &[], &["forwarder.0.headers.authorization=Bearer hunter2"]);
        assert!(message.contains("process lists") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn an_error_never_repeats_a_secret() {
        let message = refusal("", &[("SOURCE_DATABASE_URL", "app:hunter2 at db")], &[]);
        assert!(message.contains("source.url") && !message.contains("hunter2"), "{message}");
    }
}
