//! A pipeline for one test: fresh databases, a stream of its own, and the real binaries with the rights of `deploy/`.

pub mod exhaustion;
pub mod faults;
mod messages;
mod observe;
pub mod pooler;
mod roles;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use common::settings::{Layers, Settings};
use sandbox::{
    Sandbox,
    audit::{self, AuditRow},
    fixture::{self, TestDatabase, audit_events},
    load::{Load, LoadCounter, Written},
    nats::Nats,
    pgbouncer::PgBouncer,
    postgres::Postgres,
    process::{self, Process},
    rights, wait,
    work_dir::WorkDir,
};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use roles::Role;

/// How long anything may take on a machine that does ten other things.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A server with its folder, in the order in which they must go.
#[derive(Debug)]
pub struct OwnedServer<T> {
    /// The server.
    pub server: T,
    /// Its folder.
    pub work_dir: WorkDir,
}

/// How long transactions of a load are held open: late commits, but not for longer than a test may take.
const HOLD_MAX: Duration = Duration::from_millis(300);

/// One pipeline.
#[derive(Debug)]
pub struct Pipeline {
    /// The application's database.
    pub source: TestDatabase,
    /// The timeline's database.
    pub timeline: TestDatabase,
    /// The broker to connect to: the server, or a proxy before it.
    pub nats_url: String,
    /// A broker of its own, to break.
    pub own_nats: Option<OwnedServer<Nats>>,
    /// A database server of its own for both databases, to break.
    pub own_postgres: Option<OwnedServer<Postgres>>,
    /// Stream and subject of this test.
    pub name: String,
    /// Who the services are to the source, where a test is about another role than those of `deploy/`.
    pub source_role: Option<String>,
    /// Where a test is about one, a pooler on the services' way to the source.
    pub pooler: Option<PgBouncer>,
    config: PathBuf,
}

impl Pipeline {
    /// Fresh databases and a stream name on the shared servers.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn new() -> anyhow::Result<Self> {
        Self::with_settings("").await
    }

    /// The same, with more settings than the tests' own.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn with_settings(settings: &str) -> anyhow::Result<Self> {
        let name = format!("AUDIT_{}", Uuid::new_v4().simple());
        let text = format!("{}\n{settings}\n", base(&name));
        let config = sandbox().work_dir.path().join(format!("{name}.toml"));
        fs::write(&config, text)?;
        Ok(Self {
            source: fixture::source_database().await?,
            timeline: fixture::timeline_database().await?,
            nats_url: sandbox().nats.url().to_owned(),
            own_nats: None,
            own_postgres: None,
            name,
            source_role: None,
            pooler: None,
            config,
        })
    }

    /// Another settings file over the same databases and the same stream.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sharing(other: &Self, settings: &str) -> anyhow::Result<Self> {
        let config = sandbox().work_dir.path().join(format!("{}.toml", Uuid::new_v4().simple()));
        fs::write(&config, format!("{}\n{settings}\n", base(&other.name)))?;
        Ok(Self {
            source: other.source.clone(),
            timeline: other.timeline.clone(),
            nats_url: other.nats_url.clone(),
            own_nats: None,
            own_postgres: None,
            name: other.name.clone(),
            source_role: other.source_role.clone(),
            pooler: None,
            config,
        })
    }

    /// On a broker of its own, which the test may kill, restart and rob of its disk.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn with_own_nats() -> anyhow::Result<Self> {
        let work_dir = WorkDir::create()?;
        let server = Nats::start_with(&work_dir, &rights::of_broker())?;
        let mut pipeline = Self::new().await?;
        server.url().clone_into(&mut pipeline.nats_url);
        pipeline.own_nats = Some(OwnedServer { server, work_dir });
        Ok(pipeline)
    }

    /// On a database server of its own, which the test may kill and restart.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn with_own_postgres() -> anyhow::Result<Self> {
        let work_dir = WorkDir::create()?;
        let server = Postgres::start(&work_dir, false)?;
        let mut pipeline = Self::new().await?;
        pipeline.source = fixture::source_database_on(&server, "source").await?;
        pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
        pipeline.own_postgres = Some(OwnedServer { server, work_dir });
        Ok(pipeline)
    }

    /// Starts `publisher run`.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn publisher(&self) -> anyhow::Result<Process> {
        self.start("publisher", &[])
    }

    /// Starts `publisher run` with more arguments.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn publisher_with(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        self.start("publisher", arguments)
    }

    /// Starts `consumer run`.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn consumer(&self) -> anyhow::Result<Process> {
        self.start("consumer", &[])
    }

    /// Starts `consumer run` with more arguments.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn consumer_with(&self, arguments: &[&str]) -> anyhow::Result<Process> {
        self.start("consumer", arguments)
    }

    /// Starts the host's own consumer, which has the kind `faulty`.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn custom_consumer(&self) -> anyhow::Result<Process> {
        self.start("host", &[])
    }

    /// A path in the sandbox's folder that only this pipeline uses.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        sandbox().work_dir.path().join(format!("{}.{name}", self.name))
    }

    /// Adds to the settings; processes that start from now on read them.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, settings: &str) -> anyhow::Result<()> {
        let mut file = fs::File::options().append(true).open(&self.config)?;
        Ok(writeln!(file, "{settings}")?)
    }

    /// The settings file of this pipeline, for what takes one as an argument.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What a service of this pipeline reads, for one that runs in this process.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn settings(&self, binary: &str) -> anyhow::Result<Settings> {
        let environment = self.led(binary, &["run"])?;
        let variables = environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let (settings, _) = Layers::default().file(&self.config)?.environment(variables)?.build()?;
        Ok(settings)
    }

    fn start(&self, binary: &str, more: &[&str]) -> anyhow::Result<Process> {
        self.start_behind(&[], binary, more)
    }

    /// Starts `run` of a binary behind a wrapper, for example one that shifts its clock.
    ///
    /// # Errors
    /// When it has not been built, or the wrapper is not installed.
    pub fn start_behind(&self, wrapper: &[&str], binary: &str, more: &[&str]) -> anyhow::Result<Process> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{binary}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let arguments: Vec<&str> = ["run"].iter().chain(more).copied().collect();
        let environment = self.led(binary, &arguments)?;
        Process::start_with(&sandbox().work_dir, &name, wrapper, binary, &arguments, &borrowed(&environment))
    }

    /// Starts a command of a binary that the test may kill.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn spawn(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<Process> {
        self.spawn_behind(&[], binary, arguments)
    }

    /// The same behind a wrapper, for example one that sets a variable.
    ///
    /// # Errors
    /// When it has not been built, or the wrapper is not installed.
    pub fn spawn_behind(
        &self,
        wrapper: &[&str],
        binary: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Process> {
        let name = format!("{binary}-{}", Uuid::new_v4().simple());
        let environment = self.led(binary, arguments)?;
        Process::start_with(&sandbox().work_dir, &name, wrapper, binary, arguments, &borrowed(&environment))
    }

    /// The answer of a command, as JSON; and whether it succeeded.
    ///
    /// # Errors
    /// When it has not been built, or says something else.
    pub fn ask(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<(bool, Value)> {
        let arguments: Vec<&str> =
            arguments.iter().chain(&["--json", "--set", "log.filter=off"]).copied().collect();
        let (done, said) = self.command(binary, &arguments)?;
        // An error may follow the answer.
        let json = said.split("\nerror: ").next().unwrap_or_default();
        Ok((done, serde_json::from_str(json).with_context(|| format!("{arguments:?}: {said}"))?))
    }

    /// Runs a command of a binary to its end; returns whether it succeeded, and everything it printed.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn command(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let environment = self.led(binary, arguments)?;
        let (status, text) =
            process::run(binary, arguments, &borrowed(&environment), sandbox().work_dir.path())?;
        Ok((status.success(), text))
    }

    /// Of a command line, with its way to the source.
    fn led(&self, binary: &str, arguments: &[&str]) -> anyhow::Result<Vec<(&'static str, String)>> {
        let environment = self.environment(Role::of(binary, arguments));
        pooler::lead(self.pooler.as_ref(), binary, arguments, &environment)
    }

    fn environment(&self, role: Role) -> [(&'static str, String); 4] {
        let source = match &self.source_role {
            Some(name) if matches!(role, Role::Publisher | Role::Consumer) => {
                rights::as_role(&self.source.url, name)
            }
            _ => role.source(&self.source.url),
        };
        [
            ("AUDIT_CONFIG", self.config.display().to_string()),
            ("SOURCE_DATABASE_URL", source),
            ("THREADLINE_DATABASE_URL", role.timeline(&self.timeline.url)),
            ("NATS_URL", role.broker(&self.nats_url)),
        ]
    }

    /// Four writers with the whole workload: roll-backs, savepoints, late commits; so many transactions a second.
    #[must_use]
    pub fn load(&self, rate: Option<u32>, seed: u64) -> Load {
        Load {
            url: self.source.url.clone(),
            table: audit_events(),
            writers: 4,
            rate,
            seed,
            hold_max: HOLD_MAX,
        }
    }

    /// Plays so many transactions of [`Pipeline::load`] beside the test.
    #[must_use]
    pub fn play(&self, transactions: u64, rate: u32, seed: u64) -> JoinHandle<anyhow::Result<Written>> {
        let load = self.load(Some(rate), seed);
        tokio::spawn(async move {
            load.run(transactions, &LoadCounter::default(), &CancellationToken::new()).await
        })
    }

    /// Waits until so many more rows than `before` have arrived, or nothing more is written; returns how many there are.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn progress<T>(&self, before: i64, more: i64, writing: &JoinHandle<T>) -> anyhow::Result<i64> {
        wait::until_some("progress", DEADLINE, async || {
            let now = self.projected().await?;
            Ok((now > before + more || writing.is_finished()).then_some(now))
        })
        .await
    }

    /// Commits rows in one transaction.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn commit(&self, rows: &[AuditRow]) -> anyhow::Result<()> {
        let mut connection = self.source.connect().await?;
        audit::insert(&mut connection, &audit_events(), rows).await
    }

    /// Waits until these events are in the timeline.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn arrive(&self, ids: &[Uuid]) -> anyhow::Result<()> {
        self.arrive_within(ids, DEADLINE).await
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// After `deadline`.
    pub async fn arrive_within(&self, ids: &[Uuid], deadline: Duration) -> anyhow::Result<()> {
        let mut connection = self.timeline.connect().await?;
        wait::until_some(&format!("{} events in the timeline", ids.len()), deadline, async || {
            let arrived: i64 = sqlx::query_scalar("select count(*) from audit_actions where id = any ($1)")
                .bind(ids)
                .fetch_one(&mut connection)
                .await?;
            Ok((arrived == i64::try_from(ids.len())?).then_some(()))
        })
        .await
    }

    /// How many rows the timeline holds.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn projected(&self) -> anyhow::Result<i64> {
        let mut connection = self.timeline.connect().await?;
        Ok(sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut connection).await?)
    }
}

/// Short times, so that take-overs and redeliveries happen within a test.
fn base(name: &str) -> String {
    format!(
        "[broker]\nstream = \"{name}\"\nsubject = \"{name}.events\"\nmax_bytes = 67108864\n\
         [relay]\nlease = \"2s\"\n[publisher]\nlisten = \"off\"\n\
         [consumer]\nack_wait = \"2s\"\nlisten = \"off\""
    )
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The servers of this test binary.
#[must_use]
pub fn sandbox() -> &'static Sandbox {
    fixture::shared()
}

/// Plain rows, with their ids.
#[must_use]
pub fn samples(count: usize) -> (Vec<AuditRow>, Vec<Uuid>) {
    let rows: Vec<_> = (0..count).map(|_| AuditRow::sample("test.row")).collect();
    let ids = rows.iter().map(|row| row.id).collect();
    (rows, ids)
}

/// Host and port in a URL; of several, the first one's.
///
/// # Errors
/// When there is no address in it.
pub fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let authority = url.split("://").nth(1).context("a URL")?.split(['/', ',']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.parse().with_context(|| format!("{host} is no address"))
}

/// A row of `audit_actions`, as JSON.
///
/// # Errors
/// When there is none.
pub async fn action(connection: &mut PgConnection, id: Uuid) -> anyhow::Result<Value> {
    let row = sqlx::query_scalar("select to_jsonb(a) - 'txid' from audit_actions a where id = $1").bind(id);
    Ok(row.fetch_one(connection).await?)
}
