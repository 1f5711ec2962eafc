//! A private PgBouncer in transaction mode before a PostgreSQL of the sandbox.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use url::Url;

use crate::{
    process::reap,
    wait,
    work_dir::{WorkDir, free_port},
};

const START_DEADLINE: Duration = Duration::from_secs(30);

/// It refuses whatever its documentation says it does not know: nothing is ignored.
const CONFIGURATION: &str = "\
[databases]
* = host=127.0.0.1 port=SERVER
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = PORT
unix_socket_dir =
auth_type = trust
auth_file = FILE
; Who is not in that file is looked up in the database, as this role.
auth_user = postgres
pool_mode = transaction
max_client_conn = 500
default_pool_size = 4
; The tests have a database and roles for each: what is idle goes.
server_idle_timeout = 2
server_tls_sslmode = disable
";

/// A pooler. Dropped, it is killed.
#[derive(Debug)]
pub struct PgBouncer {
    server: u16,
    port: u16,
    process: Child,
    /// The watchdog's way to one that is left over.
    pid_file: PathBuf,
}

impl PgBouncer {
    /// Starts one that leads to the server of `url`, with more lines of `pgbouncer.ini`. Everybody may come as anybody, as
    /// on the sandbox's servers; for each pair of role and database it keeps connections of its own.
    ///
    /// # Errors
    /// When PgBouncer is not installed, or does not start.
    pub fn start(work_dir: &WorkDir, url: &str, more: &str) -> anyhow::Result<Self> {
        let program = work_dir.reachable(&find_binary()?)?;
        let server = Url::parse(url)?.port().context("a server of the sandbox has a port")?;
        let port = free_port()?;
        let name = format!("pgbouncer-{port}");
        let file = work_dir.path().join(format!("{name}.ini"));
        let users = work_dir.path().join(format!("{name}.users"));
        fs::write(&users, "\"postgres\" \"\"\n")?;
        let text = CONFIGURATION
            .replace("SERVER", &server.to_string())
            .replace("PORT", &port.to_string())
            .replace("FILE", &users.display().to_string());
        fs::write(&file, text + more)?;
        let log = format!("{name}.log");
        let mut command: Command = work_dir.command(&program, &log)?;
        let process = command.arg(&file).spawn().context("cannot start pgbouncer")?;
        let pid_file = work_dir.path().join(format!("{name}.pid"));
        fs::write(&pid_file, process.id().to_string())?;
        let pooler = Self { server, port, process, pid_file };
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait::until("pgbouncer to listen", START_DEADLINE, listens)
            .with_context(|| format!("its log says:\n{}", work_dir.tail(&log)))?;
        Ok(pooler)
    }

    /// The same database through the pooler; `None` when the URL does not lead to its server.
    #[must_use]
    pub fn lead(&self, url: &str) -> Option<String> {
        let mut url = Url::parse(url).ok().filter(|url| url.port() == Some(self.server))?;
        url.set_port(Some(self.port)).ok()?;
        Some(url.into())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGKILL);
        let _ = reap(&mut self.process);
        let _ = fs::remove_file(&self.pid_file);
    }
}

/// Wherever `pgbouncer` is on the path; Debian keeps it in /usr/sbin.
fn find_binary() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    match folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("pgbouncer was not found. Install it with `apt-get install pgbouncer`"),
    }
}
