//! `threadline`: the audit timeline's own commands.

mod gen_triggers;

use std::{
    env::VarError,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use connection_url::ConnectionUrl;
use errors::Place;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use threadline::{Installation, StorageSchema, capture::Refusal, install};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::signal::unix::{SignalKind, signal};

/// The audit timeline: who did what, when, and how it ended.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done, 1 failed, 2 settings or arguments that cannot be used."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates Threadline's tables, or completes those of the Elixir library. Harmless when repeated.
    Install {
        /// The settings file, of which the section [threadline] counts; without it the one that `AUDIT_CONFIG` names, or
        /// ./audit.toml when it exists.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The storage schema; without it `AUDIT__THREADLINE__SCHEMA`, `threadline.schema` of the settings file, or public.
        #[arg(long)]
        schema: Option<StorageSchema>,
    },
    /// Generates the triggers that capture tables: prints them, writes them as a migration, or makes them.
    GenTriggers {
        /// The settings file, of which the sections [threadline] and [capture] count.
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The storage schema.
        #[arg(long)]
        schema: Option<StorageSchema>,
        #[command(flatten)]
        arguments: gen_triggers::Arguments,
    },
}

/// The part of the settings file that is ours; the rest belongs to the pipeline, which checks it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    threadline: Section,
    capture: gen_triggers::Section,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    url: Option<ConnectionUrl>,
    schema: Option<String>,
}

/// Why it ends without having done it.
enum Failure {
    /// Settings that cannot be used: a repetition is in vain.
    Misused(String),
    /// What the server says, or that it says nothing.
    Failed(anyhow::Error),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && wants_json(config_named().as_ref()) => {
            return failed(&errors::usage(&error.render().to_string()), 2, true);
        }
        Err(error) => error.exit(),
    };
    let (Command::Install { config, .. } | Command::GenTriggers { config, .. }) = &cli.command;
    let json = wants_json(config.as_ref());
    match run(cli) {
        Ok(answer) => {
            let mut out = std::io::stdout();
            match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(1),
                Err(error) => {
                    let words =
                        format!("cannot write to standard output: {error}. What the command does is done");
                    failed(&words, 1, json)
                }
            }
        }
        Err(Failure::Misused(what)) => failed(&what, 2, json),
        // A file that the URL names, such as a certificate.
        Err(Failure::Failed(error))
            if matches!(error.downcast_ref(), Some(sqlx::Error::Configuration(_))) =>
        {
            failed(&errors::line(error.as_ref()), 2, json)
        }
        Err(Failure::Failed(error)) => failed(&errors::line(error.as_ref()), 1, json),
    }
}

/// Says why, as text or as a line of JSON; returns the exit status.
fn failed(words: &str, status: u8, json: bool) -> ExitCode {
    let text = if json { logged(words, status) } else { format!("error: {words}\n") };
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(status)
}

/// A line like those of the services' logs.
fn logged(words: &str, status: u8) -> String {
    let line = serde_json::json!({
        "timestamp": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        "level": "ERROR",
        "message": words,
        "exit_status": status,
    });
    format!("{line}\n")
}

/// The settings file that a command line names which is refused.
fn config_named() -> Option<PathBuf> {
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

/// Whether errors are to be lines of JSON, as far as settings can be read; settings that cannot be used are refused elsewhere.
fn wants_json(config: Option<&PathBuf>) -> bool {
    let named = || variable("AUDIT_CONFIG").ok().flatten().map(PathBuf::from);
    let format = match variable("AUDIT__LOG__FORMAT") {
        Ok(Some(format)) => Some(format),
        _ => log_format(config.cloned().or_else(named).as_deref()),
    };
    format.as_deref() == Some("json")
}

/// Of a file, whatever else is wrong with it.
fn log_format(path: Option<&Path>) -> Option<String> {
    let text = fs::read_to_string(path.unwrap_or(Path::new("audit.toml"))).ok()?;
    let file: toml::Table = toml::from_str(&text).ok()?;
    Some(file.get("log")?.get("format")?.as_str()?.to_owned())
}

fn run(cli: Cli) -> Result<String, Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Install { config, schema } => {
            let file = read(config).map_err(Failure::Misused)?;
            let (options, schema) = settings(file.threadline, schema).map_err(Failure::Misused)?;
            on_timeline(&options, async |connection| {
                let done = install(connection, &schema)
                    .await
                    .with_context(|| format!("cannot install into schema {schema}"))?;
                Ok(told(&done, &schema))
            })
        }
        Command::GenTriggers { config, schema, arguments } => {
            let file = read(config).map_err(Failure::Misused)?;
            let (options, schema) = settings(file.threadline, schema).map_err(Failure::Misused)?;
            let tables =
                gen_triggers::wanted(&file.capture, &arguments).map_err(|refusal| refused(&refusal))?;
            on_timeline(&options, async |connection| {
                gen_triggers::run(connection, &schema, &tables, &arguments).await
            })
        }
    }
}

/// With its term, which programs can rely on.
fn refused(refusal: &Refusal) -> Failure {
    Failure::Misused(format!("{}: {refusal}", refusal.term))
}

/// Does something on a connection to the timeline database.
fn on_timeline(
    options: &PgConnectOptions,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<String>,
) -> Result<String, Failure> {
    let connected = async {
        let mut connection = PgConnection::connect_with(options)
            .await
            .map_err(|error| Place::of(options, error))
            .context("cannot connect to the timeline database (threadline.url)")?;
        let answer = work(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    runtime.block_on(unless_interrupted(connected)).map_err(|error| match error.downcast_ref::<Refusal>() {
        Some(refusal) => refused(refusal),
        None => Failure::Failed(error),
    })
}

/// What an installation found and did.
fn told(done: &Installation, schema: &StorageSchema) -> String {
    let Installation { recreated, added, lacking } = done;
    let mut text = String::new();
    if !recreated.is_empty() {
        let _ = writeln!(
            text,
            "recreated, empty, what had been dropped: {}. Grants on it are to be made again; `consumer reconcile --repair` \
             delivers actions again, receipts begin a new chain",
            recreated.join(", ")
        );
    }
    for one in added {
        let _ = writeln!(text, "added {one}");
    }
    for one in lacking {
        let _ = writeln!(text, "warning: {one} is missing, and cannot be made over what is there");
    }
    let _ = writeln!(text, "Threadline's tables are in schema {schema}");
    text
}

/// Ends the work where it stands when SIGINT or SIGTERM comes, and says what is left of it.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => return done,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow::bail!(
        "interrupted: steps that were finished stay, and a step that was not leaves nothing; the same command completes what is \
         missing"
    )
}

/// Flags, environment and file, in this order.
fn settings(
    file: Section,
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

/// One that is there and empty is how compose files and shells say that there is none.
fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(format!("the environment variable {name} is not valid UTF-8")),
    }
}

/// The settings file: the one that is named, by the flag or `AUDIT_CONFIG`, or ./audit.toml when it exists.
fn read(config: Option<PathBuf>) -> Result<File, String> {
    let default = Path::new("audit.toml");
    let named = config.or(variable("AUDIT_CONFIG")?.map(PathBuf::from));
    let path = match named.as_deref() {
        Some(path) => path,
        None if default.exists() => default,
        None => return Ok(File::default()),
    };
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the settings file {}: {error}", path.display()))?;
    // Not the parser's whole message: it quotes the line, which may hold a password.
    toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
