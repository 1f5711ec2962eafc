//! A private nats-server with JetStream, a cluster of them, or a given server.

mod cluster;
mod messages;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use nix::sys::signal::Signal;

pub use cluster::NatsCluster;
pub use messages::SavedMessages;

use crate::work_dir::{WorkDir, free_port};
use server::Server;

/// Lines of a configuration file, and what their variables stand for.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The file; none when it is empty.
    pub text: String,
    /// Environment variables of the server.
    pub variables: Vec<(&'static str, String)>,
}

/// A server. Private ones can be stopped and started again on the same port and data.
#[derive(Debug)]
pub struct Nats {
    url: String,
    private: Option<Server>,
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
    pub fn start(work_dir: &WorkDir) -> anyhow::Result<Self> {
        Self::start_with(work_dir, &Configuration::default())
    }

    /// The same with a configuration of its own, for example [`rights::of_broker`](crate::rights::of_broker).
    ///
    /// # Errors
    /// When nats-server is not installed, or does not start, because of such a configuration for example.
    pub fn start_with(work_dir: &WorkDir, configuration: &Configuration) -> anyhow::Result<Self> {
        let mut server = Server::prepare(work_dir, "nats", free_port()?, &[], configuration)?;
        server.start()?;
        Ok(Self { url: server.url(), private: Some(server) })
    }

    /// Starts a server that does not have JetStream.
    ///
    /// # Errors
    /// When nats-server is not installed, or does not start.
    pub fn start_without_jetstream(work_dir: &WorkDir) -> anyhow::Result<Self> {
        let mut server = Server::prepare_without_jetstream(work_dir, "nats", free_port()?)?;
        server.start()?;
        Ok(Self { url: server.url(), private: Some(server) })
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
        self.private.as_mut().context("cannot start a server that this sandbox did not start")?.start()
    }

    /// Removes everything the stopped server had stored, as a lost disk would.
    ///
    /// # Errors
    /// When it is not ours, runs, or the files cannot be removed.
    pub fn lose_disk(&mut self) -> anyhow::Result<()> {
        Ok(std::fs::remove_dir_all(self.stopped()?.store())?)
    }

    /// Copies the messages of a stream as they are on the disk of the stopped server.
    ///
    /// # Errors
    /// When it is not ours, runs, has no such stream, or the files cannot be read.
    pub fn save_messages(&self, stream: &str) -> anyhow::Result<SavedMessages> {
        SavedMessages::read(self.stopped()?.store(), stream)
    }

    /// Puts the messages of a stream back to what they were when they were saved, and leaves the state of its
    /// consumers alone: a broker that acknowledged the newer ones before they were on the disk, and lost its power.
    ///
    /// Started again, nats-server 2.9 does not notice. The stream ends with the last saved message, and the next ones
    /// get the numbers of the lost ones. A durable still counts these numbers as delivered and acknowledged, has
    /// nothing pending, and passes over whatever gets them again.
    ///
    /// # Errors
    /// When the server is not ours, runs, has no such stream, or the files cannot be replaced.
    pub fn lose_messages_since(&self, saved: &SavedMessages) -> anyhow::Result<()> {
        saved.put_back(self.stopped()?.store())
    }

    /// Copies everything that the stopped server has stored: a backup of its files. Returns where it is.
    ///
    /// # Errors
    /// When it is not ours, runs, or the files cannot be copied.
    pub fn save_store(&self) -> anyhow::Result<PathBuf> {
        let store = self.stopped()?.store();
        let backup = store.with_extension("backup");
        copy(store, &backup)?;
        Ok(backup)
    }

    /// Puts a backup in place of everything that the stopped server has stored.
    ///
    /// # Errors
    /// When it is not ours, runs, or the files cannot be copied.
    pub fn restore_store(&self, backup: &Path) -> anyhow::Result<()> {
        let store = self.stopped()?.store();
        std::fs::remove_dir_all(store)?;
        copy(backup, store)
    }

    fn stopped(&self) -> anyhow::Result<&Server> {
        let server = self.private.as_ref().context("not a server of this sandbox")?;
        ensure!(!server.is_started(), "stop the server first");
        Ok(server)
    }
}

/// A folder with its owners and times.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = std::process::Command::new("cp").args(["-a", "--"]).args([from, to]).status()?;
    ensure!(status.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

/// Deletes a stream. nats-server 2.9 may fail to tidy up its disk behind one that it has removed, above all when somebody makes
/// it again at that moment: what counts is whether this one is gone.
///
/// # Errors
/// When it is still there, or the server is away.
pub async fn delete_stream(context: &jetstream::Context, name: &str) -> anyhow::Result<()> {
    let before = context.get_stream(name).await?.cached_info().created;
    let Err(error) = context.delete_stream(name).await else {
        return Ok(());
    };
    match context.get_stream(name).await {
        Ok(stream) if stream.cached_info().created != before => Ok(()),
        Err(gone) if common::broker::is_not_found(&gone.kind()) => Ok(()),
        _ => Err(error.into()),
    }
}
