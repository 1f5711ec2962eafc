//! Settings: flags, environment and file, in this order.

use std::{
    env::VarError,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use connection_url::ConnectionUrl;
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgConnectOptions;
use threadline::{
    StorageSchema,
    capture::{HostTable, Refusal},
};

use super::{
    answer::Failure,
    expectations::{CaptureSection, CoverageSection},
    export::ExportSection,
    receipts::ReceiptsSection,
};

const TIMELINE: &str = "Where the timeline is";

/// Where the timeline is, as every command takes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The settings file, of which the sections [threadline], [capture], [export] and [receipts] count; without it the one that `AUDIT_CONFIG` names, or
    /// ./audit.toml when it exists.
    #[arg(long, short, value_name = "FILE", help_heading = TIMELINE)]
    pub(crate) config: Option<PathBuf>,
    /// The storage schema; without it `AUDIT__THREADLINE__SCHEMA`, `threadline.schema` of the settings file, or public.
    #[arg(long, help_heading = TIMELINE)]
    pub(crate) schema: Option<StorageSchema>,
}

/// The same for commands whose `--schema` is one of the host's.
#[derive(Debug, clap::Args)]
pub(crate) struct HostTarget {
    /// The settings file, of which the sections [threadline], [capture] and [coverage] count; without it the one that `AUDIT_CONFIG`
    /// names, or ./audit.toml when it exists.
    #[arg(long, short, value_name = "FILE", help_heading = TIMELINE)]
    pub(crate) config: Option<PathBuf>,
    /// The storage schema; without it `AUDIT__THREADLINE__SCHEMA`, `threadline.schema` of the settings file, or public.
    #[arg(long, value_name = "SCHEMA", help_heading = TIMELINE)]
    storage_schema: Option<StorageSchema>,
}

impl From<HostTarget> for Target {
    fn from(HostTarget { config, storage_schema }: HostTarget) -> Self {
        Self { config, schema: storage_schema }
    }
}

/// Everything that was set.
pub(crate) struct Settings {
    /// The timeline database.
    pub(crate) options: PgConnectOptions,
    /// The storage schema.
    pub(crate) schema: StorageSchema,
    /// The section [capture].
    pub(crate) capture: CaptureSection,
    /// The section [coverage].
    pub(crate) coverage: CoverageSection,
    /// The section [retention]; none where there is none.
    pub(crate) retention: Option<Map<String, Value>>,
    /// The section [erasure]; none where there is none.
    pub(crate) erasure: Option<Map<String, Value>>,
    /// The section [export].
    pub(crate) export: ExportSection,
    /// The section [receipts].
    pub(crate) receipts: ReceiptsSection,
}

/// A table as the command line names it, NAME or SCHEMA.NAME; otherwise with the term of why it is none.
pub(crate) fn table(text: &str) -> Result<HostTable, String> {
    text.parse().map_err(|refusal: Refusal| format!("{}: {refusal}", refusal.term))
}

/// The part of the settings file that is ours; the rest belongs to the pipeline, which checks it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    threadline: TimelineSection,
    capture: CaptureSection,
    coverage: CoverageSection,
    retention: Option<Map<String, Value>>,
    erasure: Option<Map<String, Value>>,
    export: ExportSection,
    receipts: ReceiptsSection,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TimelineSection {
    url: Option<ConnectionUrl>,
    schema: Option<String>,
}

impl Settings {
    /// Flags, environment and file, in this order.
    ///
    /// # Errors
    /// What of them cannot be used.
    pub(crate) fn read(target: Target) -> Result<Self, Failure> {
        let File { threadline, capture, coverage, retention, erasure, export, receipts } =
            read_file(target.config).map_err(Failure::Misused)?;
        let (options, schema) = timeline(threadline, target.schema).map_err(Failure::Misused)?;
        Ok(Self { options, schema, capture, coverage, retention, erasure, export, receipts })
    }
}

fn timeline(
    file: TimelineSection,
    schema: Option<StorageSchema>,
) -> Result<(PgConnectOptions, StorageSchema), String> {
    let url = match variable("AUDIT__THREADLINE__URL")? {
        Some(url) => Some(url),
        None => variable("THREADLINE_DATABASE_URL")?,
    };
    let url = url.map(ConnectionUrl::new).or(file.url).ok_or(
        "no timeline database: set THREADLINE_DATABASE_URL, or url in the section [threadline] of audit.toml",
    )?;
    // Nothing is looked for in schemas of others, whatever the role's path is.
    let options = url
        .postgres_with_files()
        .map_err(|error| format!("threadline.url: {error}"))?
        .application_name("threadline")
        .options([("search_path", "pg_catalog,pg_temp")]);
    let named = variable("AUDIT__THREADLINE__SCHEMA")?.or(file.schema);
    let schema = match (schema, named) {
        (Some(schema), _) => schema,
        (None, Some(name)) => name.parse().map_err(|error| format!("threadline.schema: {error}"))?,
        (None, None) => StorageSchema::default(),
    };
    Ok((options, schema))
}

/// The settings file: the one that is named, by the flag or `AUDIT_CONFIG`, or ./audit.toml when it exists.
fn read_file(config: Option<PathBuf>) -> Result<File, String> {
    let default = Path::new("audit.toml");
    let named = config.or(variable("AUDIT_CONFIG")?.map(PathBuf::from));
    let path = match named.as_deref() {
        Some(path) => path,
        None if default.exists() => default,
        None => return Ok(File::default()),
    };
    let text = text_of(path)
        .map_err(|error| format!("cannot read the settings file {}: {error}", path.display()))?;
    // Not the parser's whole message: it quotes the line, which may hold a password.
    toml::from_str(text)
        .map_err(|error| format!("{}{}: {}", path.display(), place(text, &error), error.message()))
}

/// Where in the file the parser stopped.
fn place(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map_or_else(String::new, |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(", line {line}, column {column}")
    })
}

/// The text of the settings file. It is read once: a pipe is empty the second time, and settings that are gone look like settings
/// that nobody has made.
fn text_of(path: &Path) -> io::Result<&'static str> {
    static READ: OnceLock<(PathBuf, String)> = OnceLock::new();
    if let Some((_, text)) = READ.get().filter(|(read, _)| read == path) {
        return Ok(text);
    }
    let text = fs::read_to_string(path)?;
    // A process has one settings file.
    Ok(&READ.get_or_init(|| (path.to_owned(), text)).1)
}

/// Whether errors are to be lines of JSON, as far as settings can be read; settings that cannot be used are refused elsewhere.
pub(crate) fn wants_json(config: Option<&Path>) -> bool {
    let named = || variable("AUDIT_CONFIG").ok().flatten().map(PathBuf::from);
    let format = match variable("AUDIT__LOG__FORMAT") {
        Ok(Some(format)) => Some(format),
        _ => log_format(config.map(Path::to_owned).or_else(named).as_deref()),
    };
    format.as_deref() == Some("json")
}

/// Of a file, whatever else is wrong with it.
fn log_format(path: Option<&Path>) -> Option<String> {
    let text = text_of(path.unwrap_or(Path::new("audit.toml"))).ok()?;
    let file: toml::Table = toml::from_str(text).ok()?;
    Some(file.get("log")?.get("format")?.as_str()?.to_owned())
}

/// The settings file that a command line names which is refused.
pub(crate) fn file_named() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok());
    while let Some(argument) = arguments.next() {
        match argument.split_once('=').unwrap_or((&argument, "")) {
            ("--config" | "-c", "") => return arguments.next().map(PathBuf::from),
            ("--config" | "-c", file) => return Some(PathBuf::from(file)),
            _ => {}
        }
    }
    None
}

/// One that is there and empty is how compose files and shells say that there is none.
fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("the environment variable {name} is not valid UTF-8")),
    }
}
