//! A private PostgreSQL cluster, a standby of it, or a given server.

mod clock;
mod restore;
mod standby;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use url::Url;

pub use clock::Clock;

use crate::{
    process::{children_of, reap, runs},
    wait,
    work_dir::{WorkDir, free_port},
};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// How a server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// As an administrator would: sessions are ended, data is written.
    Fast,
    /// `pg_ctl stop -m immediate`: a crash as far as the data is concerned.
    Immediate,
    /// `kill -9` of the server and all its processes.
    Kill,
}

/// A server. Private ones can be stopped and started again on the same port and data.
#[derive(Debug)]
pub struct Postgres {
    url: Url,
    private: Option<Private>,
}

#[derive(Debug)]
struct Private {
    bin: PathBuf,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    server: Option<Child>,
    /// Prepared once: log file and user.
    command: Command,
    /// Killed, and not started since.
    killed: bool,
    /// What tidies up after that.
    tidier: Command,
}

impl Postgres {
    /// A server that somebody else runs; it cannot be stopped from here.
    ///
    /// # Errors
    /// When the URL cannot be parsed.
    pub fn given(url: &str) -> anyhow::Result<Self> {
        Ok(Self { url: Url::parse(url).context("not a connection URL")?, private: None })
    }

    /// Makes a cluster in the sandbox's folder and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start(work_dir: &WorkDir, durable: bool) -> anyhow::Result<Self> {
        Self::start_with(work_dir, durable, "")
    }

    /// The same with lines of its own in `postgresql.conf`, for example `max_connections = 20`. They win.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start, because of such a line for example.
    pub fn start_with(work_dir: &WorkDir, durable: bool, extra: &str) -> anyhow::Result<Self> {
        Self::launch(Self::cluster(work_dir, durable, extra)?)
    }

    /// A fresh cluster that has not been started.
    fn cluster(work_dir: &WorkDir, durable: bool, extra: &str) -> anyhow::Result<Private> {
        let private = Private::prepare(work_dir, "postgres", find_binaries()?)?;
        let log = log_of("postgres");
        let status = work_dir
            .command(&private.bin.join("initdb"), &log)?
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(&private.data)
            .status()?;
        ensure!(status.success(), "initdb failed:\n{}", work_dir.tail(&log));
        private.configure(&configuration(private.port, durable))?;
        private.configure(extra)?;
        Ok(private)
    }

    fn launch(private: Private) -> anyhow::Result<Self> {
        let url = Url::parse(&format!("postgres://postgres@127.0.0.1:{}/postgres", private.port))?;
        let mut postgres = Self { url, private: Some(private) };
        postgres.restart()?;
        Ok(postgres)
    }

    /// Whether this sandbox runs the server.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Stops the server.
    ///
    /// # Errors
    /// When it is not ours, or does not stop.
    pub fn stop(&mut self, how: Stop) -> anyhow::Result<()> {
        let private =
            self.private.as_mut().context("cannot stop a server that this sandbox did not start")?;
        private.stop(how)
    }

    /// Starts the server again, on the same port and data.
    ///
    /// # Errors
    /// When it is not ours, or does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let private =
            self.private.as_mut().context("cannot start a server that this sandbox did not start")?;
        ensure!(private.server.is_none(), "PostgreSQL runs already");
        let mut server = private.command.spawn().context("cannot start postgres")?;
        let mut ended = false;
        let waited = wait::until("PostgreSQL to accept connections", START_DEADLINE, || {
            ended = server.try_wait().is_ok_and(|status| status.is_some());
            ended || private.accepts_connections()
        });
        if !ended {
            private.server = Some(server);
            private.killed = false;
        }
        let started = if ended { Err(anyhow!("PostgreSQL does not start")) } else { waited };
        started.with_context(|| format!("its log says:\n{}", private.log()))
    }

    /// The folder of its programs, psql among them; `None` when the server is not ours.
    #[must_use]
    pub fn binaries(&self) -> Option<&Path> {
        self.private.as_ref().map(|private| private.bin.as_path())
    }

    /// The URL of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// Creates a database; `template` must not be in use. Returns its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> anyhow::Result<String> {
        let mut connection = PgConnection::connect(self.url.as_str()).await?;
        let name = common::identifier::quote(name);
        let template = common::identifier::quote(template.unwrap_or("template1"));
        let statement = sqlx::AssertSqlSafe(format!("create database {name} template {template}"));
        connection.execute(statement).await.context("create database")?;
        connection.close().await?;
        Ok(self.url(name.trim_matches('"')))
    }

    /// Removes a database and everybody's sessions in it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop_database(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.url.as_str()).await?;
        let name = common::identifier::quote(name);
        let statement = sqlx::AssertSqlSafe(format!("drop database if exists {name} with (force)"));
        connection.execute(statement).await?;
        Ok(())
    }
}

impl Private {
    /// `name` is unique in the folder: it names the log and the folder of the data, whose `postmaster.pid` is the
    /// watchdog's way to a server that is left over.
    fn prepare(work_dir: &WorkDir, name: &str, bin: PathBuf) -> anyhow::Result<Self> {
        let data = work_dir.path().join(name);
        let log = log_of(name);
        let mut command = work_dir.command(&bin.join("postgres"), &log)?;
        command.arg("-D").arg(&data);
        let mut tidier = work_dir.command(&bin.join("postgres"), &log)?;
        tidier.arg("--single").arg("-D").arg(&data).arg("postgres");
        let log = work_dir.path().join(log);
        let port = free_port()?;
        Ok(Self { bin, data, log, port, server: None, command, killed: false, tidier })
    }

    /// Adds lines to the settings. Of two lines for one setting the later one wins.
    fn configure(&self, lines: &str) -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(self.data.join("postgresql.conf"))?;
        Ok(writeln!(file, "{lines}")?)
    }

    fn accepts_connections(&self) -> bool {
        Command::new(client(&self.bin, "pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-d", "postgres", "-p", &self.port.to_string()])
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Everything it has printed.
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn stop(&mut self, how: Stop) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let pid = Pid::from_raw(server.id().cast_signed());
        match how {
            Stop::Fast => kill(pid, Signal::SIGINT)?,
            Stop::Immediate => kill(pid, Signal::SIGQUIT)?,
            Stop::Kill => {
                // Stopped first, so that it makes no new ones. Each backend is in a group of its own; without its parent it
                // would linger until its next wait.
                kill(pid, Signal::SIGSTOP)?;
                let children = children_of(server.id());
                for child in &children {
                    let _ = kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL);
                }
                kill(pid, Signal::SIGKILL)?;
                self.killed = true;
                reap(&mut server)?;
                // The next start refuses while one of them still holds the shared memory.
                wait::until("PostgreSQL's processes to be gone", START_DEADLINE, || {
                    !children.iter().any(|child| runs(*child))
                })?;
            }
        }
        reap(&mut server)?;
        // The next start refuses while this file names a process, and ids are reused.
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.stop(Stop::Immediate);
        if self.killed && self.data.exists() {
            // Shared memory outlives `kill -9` and the folder. The next start removes it, here one that only starts.
            let _ = self.tidier.status();
        }
    }
}

fn log_of(name: &str) -> String {
    format!("{name}.log")
}

fn configuration(port: u16, durable: bool) -> String {
    let fsync = if durable { "on" } else { "off" };
    format!(
        "listen_addresses = '127.0.0.1'
         port = {port}
         unix_socket_directories = ''
         max_connections = 300
         max_prepared_transactions = 50
         shared_buffers = '256MB'
         max_wal_size = '4GB'
         fsync = {fsync}
         synchronous_commit = on
         # The demo's verdict reads commit times.
         track_commit_timestamp = on
         # Not UTC: a forgotten time zone must be noticed.
         timezone = 'Asia/Kolkata'
         log_min_messages = warning
         log_min_error_statement = panic\n"
    )
}

/// `PG_BIN_DIR`, the newest version below Debian's `/usr/lib/postgresql`, or wherever `initdb` is on the path.
fn find_binaries() -> anyhow::Result<PathBuf> {
    let is_fit = |bin: &Path| ["initdb", "postgres"].iter().all(|name| bin.join(name).is_file());
    if let Some(bin) = std::env::var_os("PG_BIN_DIR").map(PathBuf::from) {
        // Not another version in its place: a test would say of this one what it saw of that.
        ensure!(
            is_fit(&bin),
            "PG_BIN_DIR names {}, where there is no initdb and postgres: set it to the folder of a PostgreSQL's programs, or \
             unset it",
            bin.display()
        );
        return Ok(bin);
    }
    match installed().into_iter().find(|bin| is_fit(bin)) {
        Some(bin) => Ok(bin),
        None => bail!(
            "PostgreSQL's server binaries (initdb, postgres) were not found. Install them with \
             `apt-get install postgresql`, set PG_BIN_DIR, or set SOURCE_DATABASE_URL to a running server"
        ),
    }
}

/// Debian's folders, the newest version first, and the path.
fn installed() -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
        versions.sort_by_key(|path| {
            let version =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
            std::cmp::Reverse(version)
        });
        candidates.extend(versions.into_iter().map(|path| path.join("bin")));
    }
    candidates.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    candidates
}

/// A client that need not be of the server's version, which may have come without clients.
fn client(bin: &Path, name: &str) -> PathBuf {
    let beside = bin.join(name);
    if beside.is_file() {
        return beside;
    }
    installed().into_iter().map(|bin| bin.join(name)).find(|program| program.is_file()).unwrap_or(beside)
}
