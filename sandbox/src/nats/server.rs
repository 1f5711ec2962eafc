//! One nats-server process.

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::Configuration;
use crate::{process::reap, wait, work_dir::WorkDir};

const START_DEADLINE: Duration = Duration::from_secs(30);

/// Can be started, ended, and started again on the same port and data. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    log: PathBuf,
    /// The watchdog's way to a server that is left over.
    pid_file: PathBuf,
    store: PathBuf,
    process: Option<Child>,
    command: Command,
}

impl Server {
    /// `name` is unique in the folder: it names the log, the pid file, the configuration and the folder of the data.
    pub(super) fn prepare(
        work_dir: &WorkDir,
        name: &str,
        port: u16,
        arguments: &[String],
        configuration: &Configuration,
    ) -> anyhow::Result<Self> {
        let mut server = Self::prepare_without_jetstream(work_dir, name, port)?;
        server.command.args(["-js", "-sd"]).arg(&server.store).args(arguments);
        if !configuration.text.is_empty() {
            let file = work_dir.path().join(format!("{name}.conf"));
            fs::write(&file, &configuration.text)?;
            server.command.arg("-c").arg(file);
        }
        server.command.envs(configuration.variables.iter().map(|(name, value)| (name, value)));
        Ok(server)
    }

    /// The same, but it keeps nothing.
    pub(super) fn prepare_without_jetstream(
        work_dir: &WorkDir,
        name: &str,
        port: u16,
    ) -> anyhow::Result<Self> {
        let program = work_dir.reachable(&find_binary()?)?;
        let log = format!("{name}.log");
        let pid_file = work_dir.path().join(format!("{name}.pid"));
        let store = work_dir.path().join(format!("{name}-store"));
        let mut command = work_dir.command(&program, &log)?;
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-P"]).arg(&pid_file);
        Ok(Self { port, log: work_dir.path().join(log), pid_file, store, process: None, command })
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Whether it was started and not ended since.
    pub(super) fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Returns when it greets its clients.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.await_greeting()
    }

    /// Returns at once.
    pub(super) fn launch(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "nats-server runs already");
        self.process = Some(self.command.spawn().context("cannot start nats-server")?);
        Ok(())
    }

    pub(super) fn await_greeting(&self) -> anyhow::Result<()> {
        let greets = || {
            let mut greeting = [0; 5];
            TcpStream::connect(("127.0.0.1", self.port)).is_ok_and(|mut socket| {
                let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
                socket.read_exact(&mut greeting).is_ok() && &greeting == b"INFO "
            })
        };
        wait::until("nats-server to greet", START_DEADLINE, greets)
            .with_context(|| format!("its log says:\n{}", self.log()))
    }

    /// Everything it has printed.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Does nothing to one that has ended already.
    pub(super) fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut server) = self.process.take() {
            kill(Pid::from_raw(server.id().cast_signed()), signal)?;
            reap(&mut server)?;
            // Its id may be somebody else's from now on: the watchdog must not find it.
            let _ = fs::remove_file(&self.pid_file);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end(Signal::SIGKILL);
    }
}

/// `NATS_SERVER_BIN`, or wherever `nats-server` is on the path; Debian keeps it in /usr/sbin.
fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("NATS_SERVER_BIN") {
        let program = PathBuf::from(program);
        ensure!(
            program.is_file(),
            "NATS_SERVER_BIN names {}, which is no file: set it to a nats-server, or install one with `apt-get install \
             nats-server` and unset it",
            program.display()
        );
        return Ok(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    match folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!(
            "nats-server was not found. Install it with `apt-get install nats-server`, set NATS_SERVER_BIN, or set \
             NATS_URL to a running server with JetStream"
        ),
    }
}
