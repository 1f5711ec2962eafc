//! A private nats-server with JetStream, or a given server.

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    home::{Home, free_port},
    wait,
};

const START_DEADLINE: Duration = Duration::from_secs(30);
const LOG: &str = "nats.log";

/// A server. Private ones can be stopped and started again on the same port and data.
#[derive(Debug)]
pub struct Nats {
    url: String,
    private: Option<Private>,
}

#[derive(Debug)]
struct Private {
    port: u16,
    log: PathBuf,
    store: PathBuf,
    server: Option<Child>,
    command: Command,
}

impl Nats {
    /// A server that somebody else runs; it cannot be stopped from here.
    #[must_use]
    pub fn given(url: &str) -> Self {
        Self { url: url.to_owned(), private: None }
    }

    /// Starts a server in the sandbox's folder.
    ///
    /// # Errors
    /// When nats-server is not installed, or does not start.
    pub fn start(home: &Home) -> anyhow::Result<Self> {
        let program = home.reachable(&find_binary()?)?;
        let port = free_port()?;
        let store = home.path().join("jetstream");
        let mut command = home.command(&program, LOG)?;
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(&store);
        command.arg("-P").arg(home.path().join("nats.pid"));
        let private = Private { port, log: home.path().join(LOG), store, server: None, command };
        let mut nats = Self { url: format!("nats://127.0.0.1:{port}"), private: Some(private) };
        nats.restart()?;
        Ok(nats)
    }

    /// Where to connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether this sandbox runs the server.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Stops the server as an administrator would.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.private
            .as_mut()
            .context("cannot stop a server that this sandbox did not start")?
            .end(Signal::SIGTERM)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.private
            .as_mut()
            .context("cannot kill a server that this sandbox did not start")?
            .end(Signal::SIGKILL)
    }

    /// Starts the server again, on the same port and data.
    ///
    /// # Errors
    /// When it is not ours, or does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let private =
            self.private.as_mut().context("cannot start a server that this sandbox did not start")?;
        ensure!(private.server.is_none(), "nats-server runs already");
        private.server = Some(private.command.spawn().context("cannot start nats-server")?);
        let greets = || {
            let mut greeting = [0; 5];
            TcpStream::connect(("127.0.0.1", private.port)).is_ok_and(|mut socket| {
                let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
                socket.read_exact(&mut greeting).is_ok() && &greeting == b"INFO "
            })
        };
        wait::until("nats-server to greet", START_DEADLINE, greets).with_context(|| {
            format!("its log says:\n{}", fs::read_to_string(&private.log).unwrap_or_default())
        })
    }

    /// Removes everything the stopped server had stored, as a lost disk would.
    ///
    /// # Errors
    /// When it is not ours, runs, or the files cannot be removed.
    pub fn lose_disk(&mut self) -> anyhow::Result<()> {
        let private = self.private.as_mut().context("not a server of this sandbox")?;
        ensure!(private.server.is_none(), "stop the server first");
        Ok(fs::remove_dir_all(&private.store)?)
    }
}

impl Private {
    fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(mut server) = self.server.take() {
            kill(Pid::from_raw(server.id().cast_signed()), signal)?;
            server.wait()?;
        }
        Ok(())
    }
}

impl Drop for Private {
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
