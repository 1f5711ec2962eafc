//! Exports in the background, on a real PostgreSQL, in folders and in an object store that speaks S3.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod commands;
mod foreign;
mod held;
mod killed;
mod limits;
#[cfg(feature = "s3")]
mod object_store;
#[cfg(feature = "s3")]
mod s3;
mod schedules;
mod scoped;
mod stored;
#[path = "../query/tenants.rs"]
#[allow(dead_code, reason = "others read with filters")]
mod tenants;
mod within;

use std::{
    fs, future,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use sandbox::{
    fixture::{TestDatabase, timeline_database},
    wait,
    work_dir::WorkDir,
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, PgPool};
use threadline::{
    StorageSchema, Timeline,
    export::{
        Format, Options, Profile,
        jobs::{self, Ended, Job, JobRequest, Outcome, Worker},
    },
    query::Scope,
    storage::Location,
};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(60);

/// The private key of RFC 8032, test 1, and its public half.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
const PUBLIC_HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// A database with a timeline, and a folder in which exports are made, `made`, and one in which they are stored, `stored`.
struct Jobs {
    database: TestDatabase,
    connection: PgConnection,
    timeline: Timeline,
    folder: WorkDir,
}

impl Jobs {
    /// After this SQL.
    async fn after(sql: &'static str) -> anyhow::Result<Self> {
        let database = timeline_database().await?;
        let mut connection = database.connect().await?;
        connection.execute(sql).await?;
        let pool = PgPool::connect(&database.url).await?;
        let timeline = Timeline::new(pool, StorageSchema::default());
        let folder = WorkDir::create()?;
        fs::create_dir(folder.path().join("stored"))?;
        Ok(Self { database, connection, timeline, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn place(&self) -> Location {
        format!("file://{}", self.path("stored").display()).parse().unwrap()
    }

    /// One of its own folder; several names are several machines.
    fn worker(&self, folder: &str) -> Worker {
        Worker::new(self.timeline.clone(), self.path(folder)).allow(self.place())
    }

    fn request(&self, filter: &str) -> JobRequest {
        let options = Options { profile: Profile::Full, format: Format::Ndjson, ..Options::default() };
        JobRequest::new(filter.parse().unwrap(), options, self.place())
    }

    async fn add(&self, filter: &str) -> anyhow::Result<Uuid> {
        Ok(jobs::add(&self.timeline, &Scope::everything(), &self.request(filter)).await?.id)
    }

    async fn job(&self, id: Uuid) -> anyhow::Result<Job> {
        Ok(jobs::get(&self.timeline, id).await?.unwrap())
    }

    async fn execute(&mut self, sql: &str) -> anyhow::Result<()> {
        self.connection.execute(AssertSqlSafe(sql.to_owned())).await?;
        Ok(())
    }

    async fn count(&mut self, of: &str) -> anyhow::Result<i64> {
        let statement = format!("select count(*) from {of}");
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut self.connection).await?)
    }

    /// As if the time had passed that leases last and jobs pause.
    async fn time_passes(&mut self) -> anyhow::Result<()> {
        self.execute(
            "update threadline_export_jobs set lease_until = clock_timestamp() - interval '1 second' where lease_until is not null;
             update threadline_export_jobs set due_at = clock_timestamp() - interval '1 second' where status = 'pending'",
        )
        .await
    }

    /// Whoever reads changes waits until this is dropped or has ended its transaction.
    async fn readers_wait(&self) -> anyhow::Result<PgConnection> {
        let mut holder = self.database.connect().await?;
        holder.execute("begin; lock table audit_changes in access exclusive mode").await?;
        Ok(holder)
    }

    async fn until_status(&self, id: Uuid, status: &str) -> anyhow::Result<Job> {
        wait::until_some(&format!("job {id} to be {status}"), DEADLINE, async || {
            let job = self.job(id).await?;
            Ok((job.status == status).then_some(job))
        })
        .await
    }

    /// Everything that is stored, by names.
    fn stored(&self) -> anyhow::Result<Vec<String>> {
        files(&self.path("stored"))
    }

    /// The command, in a folder without a settings file.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("THREADLINE_DATABASE_URL", &self.database.url)
            .env_remove("AUDIT_CONFIG");
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command
    }

    fn threadline(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        let ran = sandbox::process::complete(&mut self.command(arguments))?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
    }
}

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    out: String,
    error: String,
}

/// The files below a folder, by names, sorted; none of a folder that there is not.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    fn below(folder: &Path, root: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                below(&path, root, found)?;
            } else {
                found.push(path.strip_prefix(root)?.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if folder.exists() {
        below(folder, folder, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// What one attempt of a job stores that is not signed.
fn names(id: Uuid, generation: i32) -> Vec<String> {
    let export = format!("{id}/{generation}/{id}.ndjson");
    vec![export.clone(), format!("{export}.manifest.json")]
}

/// Makes what is due.
async fn work(worker: &Worker) -> anyhow::Result<Vec<Ended>> {
    let mut ended = Vec::new();
    worker.run_until_idle(future::pending(), |one| ended.push(one.clone())).await?;
    Ok(ended)
}

/// One attempt in a task of its own.
fn attempt(worker: &Arc<Worker>) -> tokio::task::JoinHandle<Outcome> {
    let worker = Arc::clone(worker);
    tokio::spawn(async move { worker.work_one(None, future::pending()).await.unwrap().unwrap().outcome })
}
