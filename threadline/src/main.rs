//! `threadline`: the audit timeline's own commands.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use connection_url::ConnectionUrl;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use threadline::{StorageSchema, install};

/// The audit timeline: who did what, when, and how it ended.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit status: 0 done, 1 failed, 2 arguments that cannot be used.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates Threadline's tables, or completes those of the Elixir library. Harmless when repeated.
    Install {
        /// The settings file, of which the section [threadline] counts; without it ./audit.toml when it exists.
        #[arg(long, short, env = "AUDIT_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        /// The storage schema; without it `threadline.schema` of the settings file, or public.
        #[arg(long, env = "AUDIT__THREADLINE__SCHEMA")]
        schema: Option<StorageSchema>,
    },
}

/// The part of the settings file that is ours; the rest belongs to the pipeline, which checks it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    threadline: Section,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    url: Option<ConnectionUrl>,
    schema: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(answer) => {
            let _ = std::io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<String> {
    let Command::Install { config, schema } = cli.command;
    let file = read(config.as_deref())?.threadline;
    let url = ["AUDIT__THREADLINE__URL", "THREADLINE_DATABASE_URL"].iter().find_map(|name| std::env::var(name).ok()).map(ConnectionUrl::new).or(file.url).context(
        "no timeline database: set THREADLINE_DATABASE_URL, or url in the section [threadline] of audit.toml",
    )?;
    let options = url.postgres().context("the URL of the timeline database (threadline.url)")?;
    let schema = match (schema, file.schema) {
        (Some(schema), _) => schema,
        (None, Some(name)) => name.parse().context("threadline.schema")?,
        (None, None) => StorageSchema::default(),
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect_with(&options)
            .await
            .context("cannot connect to the timeline database (threadline.url)")?;
        install(&mut connection, &schema)
            .await
            .with_context(|| format!("cannot install into schema {schema}"))?;
        connection.close().await?;
        Ok(format!("Threadline's tables are in schema {schema}\n"))
    })
}

fn read(path: Option<&Path>) -> anyhow::Result<File> {
    let default = Path::new("audit.toml");
    let path = match path {
        Some(path) => path,
        None if default.exists() => default,
        None => return Ok(File::default()),
    };
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Not the parser's whole message: it quotes the line, which may hold a password.
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
