//! Receipts over the whole timeline, on a real PostgreSQL.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod bundles;
mod commands;
mod garbage;
mod kills;
mod members;
mod moved;
mod newest;
mod plain_verifier;
mod purged;
mod tampering;
mod values;

use std::{io::Cursor, path::PathBuf, process::Command};

use sandbox::{
    fixture::{TestDatabase, timeline_database},
    work_dir::WorkDir,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    capture::{Capture, HostTable, Migration, Policy, plan},
    receipts::{
        KeyChange, Receipt, Sealed, Span, Trust, Verification, bundle, seal, seal_as, verify, verify_bundle,
    },
    signing::SigningKey,
};

/// From RFC 8410, section 10.3, with its public half.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

/// A table of a host's.
const HOST: &str = "create table t (id bigint generated always as identity primary key, v int, note text)";

/// A database with a timeline and a captured table `t`.
struct Host {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
}

impl Host {
    async fn new() -> anyhow::Result<Self> {
        Self::of(timeline_database().await?).await
    }

    async fn of(database: TestDatabase) -> anyhow::Result<Self> {
        let mut connection = database.connect().await?;
        connection.execute(HOST).await?;
        let table: HostTable = "t".parse()?;
        let policy = Policy::read(&table, json!({}).as_object().unwrap())?;
        let captures = plan(&mut connection, &StorageSchema::default(), &[(table, policy)]).await?;
        let migration = Migration::new(&captures, 1, Capture::is_rerun);
        connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
        Self::at(database).await
    }

    /// A database that is there.
    async fn at(database: TestDatabase) -> anyhow::Result<Self> {
        let connection = database.connect().await?;
        let pool = PgPool::connect(&database.url).await?;
        Ok(Self { database, connection, timeline: Timeline::new(pool, StorageSchema::default()) })
    }

    async fn run(&mut self, sql: impl Into<String>) -> anyhow::Result<()> {
        self.connection.execute(AssertSqlSafe(sql.into())).await?;
        Ok(())
    }

    async fn count(&mut self, from: &str) -> anyhow::Result<i64> {
        let statement = format!("select count(*) from {from}");
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?)
    }

    /// Whether the receipt before is signed or not.
    async fn seal(&self) -> anyhow::Result<Receipt> {
        Ok(seal_as(&self.timeline, None, KeyChange::Meant, |_| {}).await?.receipt)
    }

    async fn seal_with(&self, key: &SigningKey) -> anyhow::Result<Sealed> {
        Ok(seal(&self.timeline, Some(key), |_| {}).await?)
    }

    async fn verify(&self, trust: &Trust) -> anyhow::Result<Verification> {
        Ok(verify(&self.timeline, trust, |_| {}).await?)
    }

    async fn bundle(&self) -> anyhow::Result<Vec<u8>> {
        let mut written = Vec::new();
        bundle(&self.timeline, Span::default(), &mut written, |_| {}).await?;
        Ok(written)
    }

    /// What is found online, and what in a bundle.
    async fn both(&self, trust: &Trust) -> anyhow::Result<[Verification; 2]> {
        Ok([self.verify(trust).await?, offline(&self.bundle().await?, trust)?])
    }
}

fn offline(bundle: &[u8], trust: &Trust) -> anyhow::Result<Verification> {
    Ok(verify_bundle(Cursor::new(bundle), trust, |_| {})?)
}

/// The terms of what was found, each as often as it was.
fn terms(found: &Verification) -> Vec<String> {
    let counts = found.faults.counts.iter();
    counts.flat_map(|(kind, count)| (0..*count).map(|_| kind.term().to_owned())).collect()
}

fn key(work_dir: &WorkDir) -> anyhow::Result<(PathBuf, SigningKey)> {
    let path = work_dir.path().join("key.pem");
    std::fs::write(&path, KEY)?;
    let key = SigningKey::read(&path)?;
    Ok((path, key))
}

/// How a command ended, and what it printed.
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

/// The command, in a folder without a settings file.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
    command
        .arg("receipts")
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("THREADLINE_DATABASE_URL", url)
        .env_remove("AUDIT_CONFIG");
    command
}

fn threadline(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Ended> {
    let ran = command(&database.url, arguments).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}
