//! The relay: one leader that reads the log round by round and hands every page to a sink.
//!
//! | part | file |
//! |---|---|
//! | what pages are handed to | `sink.rs` |
//! | leading and standing by | this file |
//! | the leader's loop over rounds and pages | `leader.rs` |
//! | how far it has come, and being fenced | `cursor.rs` |
//! | when it polls, closes its position and stops | `pace.rs` |
//! | sending again what a sink lost; taking positions over | `rewind.rs` |

mod cursor;
mod leader;
mod pace;
pub mod rewind;
mod sink;

use std::time::{Duration, Instant};

use metrics::gauge;
use tokio_util::sync::CancellationToken;

pub use self::sink::{Sink, SinkError, StreamContinuity};
use crate::{
    backoff::Probe,
    database::Database,
    outbox::reader::lease::Lease,
    process::{
        health::{Progress, Resumed},
        telemetry::names,
    },
    session::Session,
    settings::RelaySettings,
};

/// How much of a long round a sink may be handed again after a crash where that costs it little.
const PROGRESS_ROWS: usize = 50_000;

/// Why a relay stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The database is not the one the stored position belongs to.
    #[error(
        "the position of reader {reader} belongs to the cluster with system identifier {stored}, but this database \
         is in cluster {actual}: transaction ids mean nothing here. Nothing was read; the entries are safe in \
         outbox.entries. If this database was restored and is to take over, stop all processes of the pipeline and run \
         `publisher rebase`; after pg_upgrade, `publisher rebase --upgraded`"
    )]
    ForeignCluster {
        /// Whose position.
        reader: String,
        /// What it was stored under.
        stored: i64,
        /// Where we are.
        actual: i64,
    },
    /// The sink refused for good.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The database was away; the caller connects again.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// How a relay reads.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayOptions {
    /// Whose position; also the name of the lease.
    pub reader: String,
    /// Entries a page.
    pub page_rows: usize,
    /// The shortest pause between probes.
    pub poll_min: Duration,
    /// The longest pause between probes.
    pub poll_max: Duration,
    /// Length of the lease.
    pub lease: Duration,
    /// How many entries of a long round may be repeated after a crash.
    pub progress_rows: usize,
}

impl RelayOptions {
    /// As the settings say, for a sink that a repeated entry costs little.
    #[must_use]
    pub fn new(reader: impl Into<String>, settings: &RelaySettings) -> Self {
        Self {
            reader: reader.into(),
            page_rows: settings.page_rows,
            poll_min: settings.poll_min,
            poll_max: settings.poll_max,
            lease: settings.lease,
            progress_rows: PROGRESS_ROWS,
        }
    }
}

/// Reads for one reader until shut down, leading or standing by.
#[derive(Debug)]
pub struct Relay<S> {
    database: Database,
    options: RelayOptions,
    sink: S,
    progress: Progress,
}

impl<S: Sink> Relay<S> {
    /// A relay that reports to `progress`.
    pub fn new(database: Database, options: RelayOptions, sink: S, progress: Progress) -> Self {
        Self { database, options, sink, progress }
    }

    /// Runs until `shutdown`. `leading` is called when this process becomes the leader, with a token that ends with
    /// the leadership.
    ///
    /// # Errors
    /// Only what waiting cannot fix; a database that is away is waited for.
    pub async fn run(
        mut self,
        shutdown: CancellationToken,
        mut leading: impl FnMut(CancellationToken) + Send,
    ) -> Result<(), RelayError> {
        // One connection at a time: a network that forgets it is noticed.
        self.database = self.database.with_dead_peer_detection();
        let lease = Lease::new(&self.options.reader, self.options.lease);
        let mut probe = Probe::default();
        while !shutdown.is_cancelled() {
            let connected_at = Instant::now();
            match self.run_connected(&lease, &shutdown, &mut leading).await {
                Ok(()) | Err(RelayError::Sink(SinkError::Stopped)) => {}
                Err(RelayError::Sink(SinkError::Lost)) => {
                    tracing::error!("the broker has lost data that it had acknowledged; beginning again");
                }
                Err(RelayError::Database(error) | RelayError::Sink(SinkError::Database(error))) => {
                    if connected_at.elapsed() > self.options.lease {
                        probe.reset();
                    }
                    let delay = probe.next_delay();
                    let error = errors::database(&error);
                    self.progress.waiting(format!("source database: {error}"));
                    tracing::warn!(
                        error,
                        retry_in_ms = crate::process::millis(delay),
                        "the source database is away"
                    );
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(delay) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Works on one connection: waits for the lease, then leads while it holds.
    async fn run_connected(
        &mut self,
        lease: &Lease,
        shutdown: &CancellationToken,
        leading: &mut (impl FnMut(CancellationToken) + Send),
    ) -> Result<(), RelayError> {
        // Nothing has been read yet.
        let mut connection = tokio::select! {
            connection = self.database.connect() => connection?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let Some(until) = self.wait_for_lease(&mut connection, lease, shutdown).await? else {
            return Ok(());
        };

        tracing::info!(reader = %self.options.reader, "leading");
        let reader = self.options.reader.clone();
        gauge!(names::RELAY_LEADER, "reader" => reader.clone()).set(1.0);
        let led = CancellationToken::new();
        let ended = led.clone().drop_guard();
        let database = self.database.with_dead_peer_detection();
        let mut keep = std::pin::pin!(lease.keep(&database, until, &led));
        let result = tokio::select! {
            result = self.lead(&mut connection, shutdown, || leading(led.clone())) => Some(result),
            // Lost, or given up: whatever is in flight may be repeated by the next leader, under the same message ids.
            () = &mut keep => None,
        };
        drop(ended);
        gauge!(names::RELAY_LEADER, "reader" => reader).set(0.0);
        let Some(result) = result else {
            return Ok(());
        };
        // While the database is away the lease cannot be given back, and is ours again when it answers.
        if matches!(result, Ok(()) | Err(RelayError::Sink(SinkError::Stopped))) && shutdown.is_cancelled() {
            keep.await;
        }
        result
    }

    /// Stands by until this process holds the lease, and returns until when; `None` when shut down first.
    async fn wait_for_lease(
        &mut self,
        connection: &mut Session,
        lease: &Lease,
        shutdown: &CancellationToken,
    ) -> Result<Option<Instant>, RelayError> {
        let mut standing_by = false;
        loop {
            if let Some(until) = self.database.with_timeout(lease.acquire(connection)).await? {
                return Ok(Some(until));
            }
            if !std::mem::replace(&mut standing_by, true) {
                tracing::info!(reader = %self.options.reader, "standing by: another process leads");
                // What this process had begun is the leader's now.
                self.progress.idle();
                self.report_recovered();
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(self.options.lease / 4) => {}
            }
        }
    }

    /// The servers respond; reports it if one had not, and which: the sink waits under the same name.
    fn report_recovered(&self) {
        if let Some(Resumed { dependency, away }) = self.progress.resumed() {
            let away_ms = crate::process::millis(away);
            tracing::info!(component = self.progress.name(), away_ms, waited_for = dependency, "recovered");
        }
    }
}
