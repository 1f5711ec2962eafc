//! What the source database says of the pipeline.

use common::{
    failures::admin::{self, FailureSummary, Filter},
    identifier::TableName,
    outbox::{
        admin::{
            backlog::{self, ReaderBacklog},
            event_status::{self, Blocker},
            standing::{self, KnownForwarder, LogStanding, StreamStanding},
        },
        capture,
        reader::rounds::STREAM_READER,
        reconcile_cursor::{self, ReconcileProgress},
    },
    session::Session,
};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{failure::Failure, source};

/// Counting stops here, of each reader and of all failures: a long log must not make a page slow.
pub(super) const COUNT_MAX: i64 = 10_000;

/// Unread entries among which the oldest one is looked for.
const OLDEST_AMONG: i64 = 10_000;

/// Minutes of the chart.
pub(super) const MINUTES: i32 = 60;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct State {
    /// What is wrong with capture.
    pub(super) capture: Vec<Fault>,
    pub(super) readers: Vec<Reader>,
    pub(super) streams: Vec<StreamStanding>,
    pub(super) log: LogStanding,
    /// Transactions that have written and not ended, the oldest first.
    pub(super) open: Vec<Blocker>,
    pub(super) forwarders: Vec<KnownForwarder>,
    pub(super) reconciled: Vec<ReconcileProgress>,
    /// Of at most [`COUNT_MAX`] failures.
    pub(super) failures: Vec<FailureSummary>,
    /// The last sequence of the stream, by minute.
    #[serde(skip)]
    pub(super) published: Vec<(OffsetDateTime, i64)>,
}

/// Something that is wrong with capture.
#[derive(Debug, Serialize)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// A reader of the log.
#[derive(Debug, Serialize)]
pub(super) struct Reader {
    #[serde(flatten)]
    pub(super) standing: ReaderBacklog,
    pub(super) oldest_unread_seconds: Option<f64>,
}

/// Reads it.
pub(super) async fn read(session: &mut Session, table: &TableName) -> Result<State, Failure> {
    statements(session, table).await.map_err(source::failure)
}

async fn statements(session: &mut Session, table: &TableName) -> Result<State, sqlx::Error> {
    let faults = capture::state(session).await?.faults();
    let names = standing::readers(session).await?;
    let mut readers = Vec::with_capacity(names.len());
    for standing in backlog::backlogs(session, &names, COUNT_MAX).await? {
        let oldest_unread_seconds = standing::oldest_unread(session, &standing.reader, OLDEST_AMONG).await?;
        readers.push(Reader { standing, oldest_unread_seconds });
    }
    Ok(State {
        capture: faults.into_iter().map(|(what, remedy)| Fault { what, remedy }).collect(),
        readers,
        streams: standing::streams(session).await?,
        log: standing::log(session).await?,
        open: event_status::blockers(session).await?,
        forwarders: standing::forwarders(session).await?,
        reconciled: reconcile_cursor::progress(session).await?,
        failures: admin::summary(session, table, &Filter::default(), Some(COUNT_MAX)).await?,
        published: standing::published_by_minute(session, STREAM_READER, MINUTES + 1).await?,
    })
}
