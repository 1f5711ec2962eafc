//! The relay: one leader that reads the log round by round and hands every page to a sink.

pub mod rewind;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use super::system_identifier;
use crate::{
    backoff::Probe,
    database::Database,
    failpoint,
    outbox::{
        reader::{
            entries::Entry,
            lease::Lease,
            pages::Pages,
            rounds::{self, Append, Position, PublishedPosition, Round, StreamPosition},
        },
        relay::rewind::rewind,
    },
    service::{
        health::{Progress, Resumed},
        shutdown,
        telemetry::names,
    },
    session::Session,
};

/// After this long without rows the position is closed, so that a restart repeats nothing.
const CLOSE_AFTER: Duration = Duration::from_millis(100);

/// How often transactions that began since the last round are taken into a new one although nothing is unread.
const REFRESH_AFTER: Duration = Duration::from_secs(2);

/// How much of a long round a sink may be handed again after a crash where that costs it little.
pub const PROGRESS_ROWS: usize = 50_000;

/// Where pages go.
pub trait Sink: Send {
    /// Called when this process begins to lead, with the reader's last row: its mark is where everything handed over so
    /// far was acknowledged, and when it is not closed the first page may have been handed over before. Answers
    /// whether what was acknowledged is still there; waits while the sink is away.
    fn begin(
        &mut self,
        connection: &mut Session,
        head: &Round,
    ) -> impl Future<Output = Result<StreamContinuity, SinkError>> + Send;

    /// Hands a page over. Returns once every entry is safe there, with the highest stream position that
    /// acknowledged one; an outage of the sink is waited out inside.
    ///
    /// Dropping the future is allowed: the page then comes again.
    fn deliver(
        &mut self,
        page: &[Entry],
        generation: i32,
    ) -> impl Future<Output = Result<Option<PublishedPosition>, SinkError>> + Send;
}

/// What a sink finds when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamContinuity {
    /// Everything that was acknowledged is there.
    Intact,
    /// Acknowledged data is gone: what the log still holds is handed over again, under a new generation. What the
    /// stream holds before `kept` is missed no longer once that is certain to happen.
    DataLost {
        /// The first sequence that the stream still has.
        kept: StreamPosition,
    },
}

/// What waiting inside a sink cannot mend.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Acknowledged data is gone; the relay begins again.
    #[error("the broker has lost data that it had acknowledged")]
    Lost,
    /// Only a person can mend it; the relay stops.
    #[error("{0}")]
    Refused(String),
    /// Given up because the process is to stop; the page comes again.
    #[error("stopped in the middle of a page")]
    Stopped,
    /// The database was away while the sink looked at it.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// Why a relay stopped.
#[derive(Debug, thiserror::Error)]
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

    /// Runs until `shutdown`. `leading` is told when this process becomes the leader, with a token that ends with
    /// the leadership.
    ///
    /// # Errors
    /// Only what waiting cannot mend; a database that is away is waited for.
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
                    tracing::warn!(error, retry_in_ms = delay.as_millis(), "the source database is away");
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
        // Nothing is in hand yet.
        let mut connection = tokio::select! {
            connection = self.database.connect() => connection?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let mut standing_by = false;
        let until = loop {
            if let Some(until) = self.database.with_timeout(lease.acquire(&mut connection)).await? {
                break until;
            }
            if !std::mem::replace(&mut standing_by, true) {
                tracing::info!(reader = %self.options.reader, "standing by: another process leads");
                // What this process had begun is the leader's now.
                self.progress.idle();
                self.report_recovered();
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.options.lease / 4) => {}
            }
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

    /// The servers answer; say so if one had not, and which: the sink waits under the same name.
    fn report_recovered(&self) {
        if let Some(Resumed { dependency, away }) = self.progress.resumed() {
            let away_ms = away.as_millis();
            tracing::info!(component = self.progress.name(), away_ms, waited_for = dependency, "it goes on");
        }
    }

    /// Reads round after round until shut down.
    async fn lead(
        &mut self,
        connection: &mut Session,
        shutdown: &CancellationToken,
        leading: impl FnOnce() + Send,
    ) -> Result<(), RelayError> {
        let database = self.database.clone();
        let identifier = database.with_timeout(system_identifier(connection)).await?;
        // From the database, never from memory: ids that were not flushed before a crash are handed out again.
        let mut head =
            database.with_timeout(rounds::head(connection, &self.options.reader, identifier)).await?;
        if head.system_identifier != identifier {
            return Err(RelayError::ForeignCluster {
                reader: head.reader,
                stored: head.system_identifier,
                actual: identifier,
            });
        }
        let continuity = tokio::select! {
            continuity = self.sink.begin(connection, &head) => continuity?,
            () = shutdown.cancelled() => return Ok(()),
        };
        if let StreamContinuity::DataLost { kept } = continuity {
            let Append::Written(beginning) = database.with_timeout(rewind(connection, &head, kept)).await?
            else {
                // Another relay is at it; what it stored is read on the next turn.
                return Err(SinkError::Lost.into());
            };
            head = beginning;
        }
        leading();
        let mut mark = head.mark;
        let mut finished = head.is_closed();
        let mut read_at = Instant::now();
        let mut refreshed_at = Instant::now();
        loop {
            if !finished {
                match self.read(connection, &head, &mut mark, shutdown).await? {
                    ReadEnd::Finished(last) => head = last,
                    ReadEnd::Interrupted => return Ok(()),
                    ReadEnd::Fenced => {
                        head = database.with_timeout(reload(connection, &head.reader, identifier)).await?;
                        (mark, finished) = (head.mark, head.is_closed());
                        continue;
                    }
                }
                finished = true;
                read_at = Instant::now();
            }
            self.progress.idle();
            let stopping = shutdown.is_cancelled();
            let next = if stopping || (read_at.elapsed() >= CLOSE_AFTER && !head.is_closed()) {
                if head.is_closed() {
                    return Ok(());
                }
                let closing = Round {
                    number: head.number + 1,
                    from: head.to.clone(),
                    resume_after: None,
                    mark,
                    ..head.clone()
                };
                database.with_timeout(rounds::append(connection, &head, &closing)).await?
            } else {
                let refresh = refreshed_at.elapsed() >= REFRESH_AFTER;
                if refresh {
                    refreshed_at = Instant::now();
                }
                database.with_timeout(rounds::open(connection, &head, mark, refresh)).await?
            };
            self.report_recovered();
            match next {
                Append::Written(round) => {
                    finished = round.is_closed();
                    head = round;
                    if !finished {
                        counter!(names::RELAY_ROUNDS, "reader" => head.reader.clone()).increment(1);
                    }
                }
                Append::Fenced => {
                    head = database.with_timeout(reload(connection, &head.reader, identifier)).await?;
                    (mark, finished) = (head.mark, head.is_closed());
                }
                Append::NothingUnread => {
                    let pause = pause(read_at.elapsed(), &self.options);
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Reads one round to its end, the next page while the current one is in flight.
    async fn read(
        &mut self,
        connection: &mut Session,
        round: &Round,
        mark: &mut Option<PublishedPosition>,
        shutdown: &CancellationToken,
    ) -> Result<ReadEnd, RelayError> {
        self.progress.busy();
        failpoint::reach("relay.round_stored");
        let database = self.database.clone();
        let mut stored = round.clone();
        let mut pages = Pages::new(round.clone(), self.options.page_rows);
        let mut page = database.with_timeout(pages.next(connection)).await?;
        let mut unsaved = 0;
        while let Some(last) = page.last().map(|entry| entry.position) {
            let delivery = self.sink.deliver(&page, round.generation);
            let both = async { tokio::join!(delivery, database.with_timeout(pages.next(connection))) };
            // Whichever server is away: neither is waited for any longer.
            let Some((delivered, next)) = with_grace(both, shutdown).await else {
                tracing::warn!("the page in flight was given up at shutdown; it will be sent again");
                return Ok(ReadEnd::Interrupted);
            };
            failpoint::reach("relay.page_acknowledged");
            *mark = later(*mark, delivered?);
            counter!(names::RELAY_ENTRIES, "reader" => round.reader.clone()).increment(page.len() as u64);
            unsaved += page.len();
            page = next?;
            self.progress.advanced();
            let interrupted = shutdown.is_cancelled() && !page.is_empty();
            if interrupted || unsaved >= self.options.progress_rows {
                match database.with_timeout(save(connection, &stored, last, *mark)).await? {
                    Append::Written(saved) => stored = saved,
                    _ => return Ok(ReadEnd::Fenced),
                }
                unsaved = 0;
            }
            if interrupted {
                return Ok(ReadEnd::Interrupted);
            }
        }
        Ok(ReadEnd::Finished(stored))
    }
}

/// How long to wait for rows: an eighth of the time there have been none. A row after a quiet time waits by an eighth
/// of it longer, and a quiet source is looked at ever less often.
fn pause(quiet: Duration, options: &RelayOptions) -> Duration {
    (quiet / 8).clamp(options.poll_min, options.poll_max)
}

/// Another relay is ahead: what is in memory means nothing any more.
async fn reload(connection: &mut Session, reader: &str, identifier: i64) -> Result<Round, sqlx::Error> {
    counter!(names::RELAY_FENCED, "reader" => reader.to_owned()).increment(1);
    tracing::info!(reader, "another relay took the round first");
    rounds::head(connection, reader, identifier).await
}

/// Stores how far a long round has come. What was acknowledged since only makes the mark of `s` later, never wrong.
async fn save(
    connection: &mut Session,
    stored: &Round,
    after: Position,
    mark: Option<PublishedPosition>,
) -> Result<Append, sqlx::Error> {
    let next = Round { number: stored.number + 1, resume_after: Some(after), mark, ..stored.clone() };
    rounds::append(connection, stored, &next).await
}

/// How reading a round ended.
enum ReadEnd {
    /// Everything in it has been handed over; the last row that was stored for it.
    Finished(Round),
    /// Shut down in the middle, the position stored as far as it is known.
    Interrupted,
    /// Another relay stored a row first.
    Fenced,
}

/// Finishes the page in flight at shutdown, but not for ever: `None` when somebody did not answer in time.
async fn with_grace<T>(work: impl Future<Output = T>, shutdown: &CancellationToken) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = shutdown::grace(shutdown) => None,
    }
}

/// The higher of two positions of one stream; a position on a newer stream replaces the older.
fn later(known: Option<PublishedPosition>, new: Option<PublishedPosition>) -> Option<PublishedPosition> {
    match (known, new) {
        (Some(known), Some(new)) if known.position.created == new.position.created => {
            Some(if known.position.sequence > new.position.sequence { known } else { new })
        }
        (known, new) => new.or(known),
    }
}
