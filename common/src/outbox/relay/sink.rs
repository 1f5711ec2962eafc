//! What a relay hands its pages to.

use crate::{
    outbox::reader::{
        entries::Entry,
        rounds::{PublishedPosition, Round, StreamPosition},
    },
    session::Session,
};

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
    /// Dropping the future is allowed: the page is then delivered again.
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

/// What waiting inside a sink cannot fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Acknowledged data is gone; the relay begins again.
    #[error("the broker has lost data that it had acknowledged")]
    Lost,
    /// Only a person can fix it; the relay stops.
    #[error("{0}")]
    Refused(String),
    /// Given up because the process is to stop; the page is delivered again.
    #[error("stopped in the middle of a page")]
    Stopped,
    /// The database was away while the sink read from it.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}
