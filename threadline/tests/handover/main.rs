//! Handing a part of the timeline over, on a real PostgreSQL: exports, their manifests, and what is left of one that was stopped.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod commands;
mod files;
#[path = "../query/library.rs"]
mod library;
mod library_files;
mod memory;
mod ocsf;
mod others_read;
mod parity;
#[cfg(feature = "parquet")]
mod parquet;
mod readers;
mod refusals;
mod resume;
mod telemetry;
#[path = "../query/tenants.rs"]
mod tenants;
mod values;
mod verify;

use std::{
    io::Write,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use sandbox::{
    fixture::{TestDatabase, timeline_database},
    work_dir::WorkDir,
};
use sqlx::{Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    export::{Destination, ExportError, Exported, Format, Options, Profile, Request, export},
    query::{Reader, Scope},
};

/// A database with a timeline, and whoever reads everything of it.
struct Read {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

impl Read {
    /// After this SQL.
    async fn after(sql: &'static str) -> anyhow::Result<Self> {
        let database = timeline_database().await?;
        let mut connection = database.connect().await?;
        connection.execute(sql).await?;
        let pool = PgPool::connect(&database.url).await?;
        Ok(Self { database, connection, timeline: Timeline::new(pool, StorageSchema::default()) })
    }

    fn reader(&self) -> Reader {
        self.timeline.reader(Scope::everything())
    }
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn options(profile: Profile, format: Format) -> Options {
    Options { profile, format, ..Options::default() }
}

/// An export to a stream, and what is in it. It is not recorded: the next one has the same entries.
async fn exported(
    reader: &Reader,
    filter: &str,
    options: Options,
) -> Result<(String, Exported), ExportError> {
    let kept = Kept::default();
    let request = Request { is_recorded: false, ..Request::new(filter.parse()?, options) };
    let destination = Destination::Stream { out: Box::new(kept.clone()), manifest: None };
    let exported = export(reader, request, destination).await?;
    let bytes = std::mem::take(&mut *kept.0.lock().unwrap());
    Ok((String::from_utf8(bytes).unwrap(), exported))
}

/// A folder of a test's own.
fn folder() -> anyhow::Result<(WorkDir, PathBuf)> {
    let folder = WorkDir::create()?;
    let path = folder.path().to_owned();
    Ok((folder, path))
}

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

/// The command, in a folder without a settings file.
fn command(database: &TestDatabase, folder: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG");
    command
}

fn threadline(
    database: &TestDatabase,
    folder: &std::path::Path,
    arguments: &[&str],
) -> anyhow::Result<Ended> {
    let ran = command(database, folder, arguments).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}
