//! A physical standby, to fail over to.
//!
//! Whatever the primary commits while its standby is down or disconnected is lost in a fail-over: stop the standby, commit,
//! kill the primary, start the standby again and promote it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Postgres, Private, START_DEADLINE, log_of};
use crate::{wait, work_dir::WorkDir};

/// A standby that was away asks for a connection to its primary every five seconds.
const REPLAY_DEADLINE: Duration = Duration::from_secs(60);

impl Postgres {
    /// Copies the running server into the folder `name` of the sandbox and starts the copy, on a port of its own, as
    /// a standby that follows it and answers queries. Replication is asynchronous, with no slot.
    ///
    /// # Errors
    /// When this server is not ours or does not run, `pg_basebackup` is not installed, or the copy does not start.
    pub fn standby(&self, work_dir: &WorkDir, name: &str) -> anyhow::Result<Self> {
        self.base_backup(work_dir, name, &["--write-recovery-conf"])
    }

    /// Copies the running server, file by file, into a server of its own that knows nothing of being a copy: what a snapshot
    /// of a disk gives, too.
    ///
    /// # Errors
    /// As of [`standby`](Self::standby).
    pub fn copy(&self, work_dir: &WorkDir, name: &str) -> anyhow::Result<Self> {
        self.base_backup(work_dir, name, &[])
    }

    fn base_backup(&self, work_dir: &WorkDir, name: &str, more: &[&str]) -> anyhow::Result<Self> {
        let primary = self.private.as_ref().context("only a server of this sandbox can be copied")?;
        let private = Private::prepare(work_dir, name, primary.bin.clone())?;
        let log = log_of(name);
        let status = work_dir
            .command(&primary.bin.join("pg_basebackup"), &log)?
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &primary.port.to_string()])
            .args(more)
            .args(["--checkpoint=fast", "--no-sync", "-D"])
            .arg(&private.data)
            .status()
            .context("cannot start pg_basebackup")?;
        ensure!(status.success(), "pg_basebackup failed:\n{}", work_dir.tail(&log));
        // Everything else is as it is at the primary, some of which a standby insists on.
        private.configure(&format!("port = {}", private.port))?;
        Self::launch(private)
    }

    /// Waits until `standby` has received and replayed everything that this server has committed so far.
    ///
    /// # Errors
    /// When one of them is away, or the standby does not get there.
    pub async fn await_replay(&self, standby: &Self) -> anyhow::Result<()> {
        let mut primary = PgConnection::connect(self.url.as_str()).await?;
        // A record of our own, whose end is a position that the standby will reach: the server's current one may lie
        // behind a page header that is not written before the next record.
        let record = "select pg_logical_emit_message(true, 'sandbox', '')::text";
        let position: String = sqlx::query_scalar(record).fetch_one(&mut primary).await?;
        let mut connection = PgConnection::connect(standby.url.as_str()).await?;
        wait::until_some("the standby to replay what was committed", REPLAY_DEADLINE, async || {
            let replayed = "select coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)";
            let replayed: bool =
                sqlx::query_scalar(replayed).bind(&position).fetch_one(&mut connection).await?;
            Ok(replayed.then_some(()))
        })
        .await
    }

    /// Lets a standby receive, and not replay: queries see the past until [`resume_replay`](Self::resume_replay). Nothing
    /// is lost by it; a promotion replays what was received.
    ///
    /// # Errors
    /// When this is no standby, or it is away.
    pub async fn pause_replay(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.url.as_str()).await?;
        connection.execute("select pg_wal_replay_pause()").await?;
        wait::until_some("the replay to pause", START_DEADLINE, async || {
            let paused = "select pg_get_wal_replay_pause_state() = 'paused'";
            let paused: bool = sqlx::query_scalar(paused).fetch_one(&mut connection).await?;
            Ok(paused.then_some(()))
        })
        .await
    }

    /// Lets a paused standby replay again.
    ///
    /// # Errors
    /// When this is no standby, or it is away.
    pub async fn resume_replay(&self) -> anyhow::Result<()> {
        PgConnection::connect(self.url.as_str()).await?.execute("select pg_wal_replay_resume()").await?;
        Ok(())
    }

    /// Makes a standby a server of its own, on a timeline of its own. Returns when it accepts writes. Nobody tells the
    /// old primary: if it still runs, it continues accepting writes too.
    ///
    /// # Errors
    /// When this is no standby, it is away, or the promotion takes longer than a minute.
    pub async fn promote(&mut self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(self.url.as_str()).await?;
        let seconds = i32::try_from(START_DEADLINE.as_secs())?;
        let promoted: bool = sqlx::query_scalar("select pg_promote(true, $1)")
            .bind(seconds)
            .fetch_one(&mut connection)
            .await?;
        ensure!(promoted, "the standby was not promoted within {START_DEADLINE:?}");
        Ok(())
    }
}
