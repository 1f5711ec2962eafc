//! The work of a leader: round after round, page after page.

use std::time::Instant;

use metrics::counter;
use tokio_util::sync::CancellationToken;

use super::{
    Relay, RelayError, Sink, SinkError, StreamContinuity,
    cursor::Cursor,
    pace::{Pace, Step},
    rewind::rewind,
};
use crate::{
    failpoint,
    outbox::{
        reader::{
            pages::Pages,
            rounds::{self, Append},
        },
        system_identifier,
    },
    process::{shutdown, telemetry::names},
    session::Session,
};

/// How reading a round ended.
enum ReadEnd {
    /// Everything in it has been handed over.
    Finished,
    /// Shut down in the middle, the position stored as far as it is known.
    Interrupted,
    /// Another relay stored a row first.
    Fenced,
}

impl<S: Sink> Relay<S> {
    /// Reads round after round until shut down.
    pub(super) async fn lead(
        &mut self,
        connection: &mut Session,
        shutdown: &CancellationToken,
        leading: impl FnOnce() + Send,
    ) -> Result<(), RelayError> {
        let database = self.database.clone();
        let identifier = database.with_timeout(system_identifier(connection)).await?;
        let Some(mut cursor) = self.begin(connection, identifier, shutdown).await? else {
            return Ok(());
        };
        leading();
        let mut pace = Pace::new(Instant::now());
        loop {
            if !cursor.is_finished() {
                match self.read(connection, &mut cursor, shutdown).await? {
                    ReadEnd::Finished => cursor.finish(),
                    ReadEnd::Interrupted => return Ok(()),
                    ReadEnd::Fenced => {
                        cursor.reload(&database, connection, identifier).await?;
                        continue;
                    }
                }
                pace.read(Instant::now());
            }
            self.progress.idle();
            let next = match pace.step(Instant::now(), cursor.is_closed(), shutdown.is_cancelled()) {
                Step::Stop => return Ok(()),
                Step::Close => {
                    let closing = cursor.closing();
                    database.with_timeout(rounds::append(connection, cursor.head(), &closing)).await?
                }
                Step::Open { refresh } => {
                    let opening = rounds::open(connection, cursor.head(), cursor.mark(), refresh);
                    database.with_timeout(opening).await?
                }
            };
            self.report_recovered();
            match next {
                Append::Written(round) => {
                    cursor.advance(round);
                    if !cursor.is_finished() {
                        let reader = cursor.head().reader.clone();
                        counter!(names::RELAY_ROUNDS, "reader" => reader).increment(1);
                    }
                }
                Append::Fenced => cursor.reload(&database, connection, identifier).await?,
                Append::NothingUnread => {
                    let pause = pace.pause(Instant::now(), &self.options);
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Where this leadership begins, and after a loss a new generation; `None` when shut down first.
    async fn begin(
        &mut self,
        connection: &mut Session,
        identifier: i64,
        shutdown: &CancellationToken,
    ) -> Result<Option<Cursor>, RelayError> {
        let database = self.database.clone();
        // From the database, never from memory: ids that were not flushed before a crash are handed out again.
        let head = database.with_timeout(rounds::head(connection, &self.options.reader, identifier)).await?;
        if head.system_identifier != identifier {
            return Err(RelayError::ForeignCluster {
                reader: head.reader,
                stored: head.system_identifier,
                actual: identifier,
            });
        }
        let continuity = tokio::select! {
            continuity = self.sink.begin(connection, &head) => continuity?,
            () = shutdown.cancelled() => return Ok(None),
        };
        match continuity {
            StreamContinuity::Intact => Ok(Some(Cursor::new(head))),
            StreamContinuity::DataLost { kept } => {
                match database.with_timeout(rewind(connection, &head, kept)).await? {
                    Append::Written(beginning) => Ok(Some(Cursor::new(beginning))),
                    // Another relay rewinds; what it stored is read on the next attempt.
                    Append::NothingUnread | Append::Fenced => Err(SinkError::Lost.into()),
                }
            }
        }
    }

    /// Reads one round to its end, the next page while the current one is in flight.
    async fn read(
        &mut self,
        connection: &mut Session,
        cursor: &mut Cursor,
        shutdown: &CancellationToken,
    ) -> Result<ReadEnd, RelayError> {
        self.progress.busy();
        failpoint::reach("relay.round_stored");
        let database = self.database.clone();
        let (reader, generation) = (cursor.head().reader.clone(), cursor.head().generation);
        let mut pages = Pages::new(cursor.head().clone(), self.options.page_rows);
        let mut page = database.with_timeout(pages.next(connection)).await?;
        let mut unsaved = 0;
        while let Some(last) = page.last().map(|entry| entry.position) {
            let delivery = self.sink.deliver(&page, generation);
            let both = async { tokio::join!(delivery, database.with_timeout(pages.next(connection))) };
            // Whichever server is away: neither is waited for any longer.
            let Some((delivered, next)) = with_grace(both, shutdown).await else {
                tracing::warn!("the page in flight was given up at shutdown; it will be sent again");
                return Ok(ReadEnd::Interrupted);
            };
            failpoint::reach("relay.page_acknowledged");
            cursor.acknowledge(delivered?);
            counter!(names::RELAY_ENTRIES, "reader" => reader.clone()).increment(page.len() as u64);
            unsaved += page.len();
            page = next?;
            self.progress.advanced();
            let interrupted = shutdown.is_cancelled() && !page.is_empty();
            if interrupted || unsaved >= self.options.progress_rows {
                if !cursor.save(&database, connection, last).await? {
                    return Ok(ReadEnd::Fenced);
                }
                unsaved = 0;
            }
            if interrupted {
                return Ok(ReadEnd::Interrupted);
            }
        }
        Ok(ReadEnd::Finished)
    }
}

/// Finishes the page in flight at shutdown, within a limit: `None` when a server did not respond in time.
async fn with_grace<T>(work: impl Future<Output = T>, shutdown: &CancellationToken) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = shutdown::grace(shutdown) => None,
    }
}
