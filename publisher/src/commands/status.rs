//! `publisher status`: where everything stands, for people and programs.

use std::fmt::Write as _;

use common::{
    broker::{self, Overview, StreamOverview},
    outbox::{
        self,
        admin::backlog::ReaderBacklog,
        capture::{self, Capture},
        reader::readers,
    },
    process::console,
    service::status::{self, DatabaseOverview, TimelineOverview},
    session::Session,
    settings::Settings,
};
use serde::Serialize;

use crate::commands::APPLICATION;

/// Counting stops here: a long log must not make a status command slow.
const COUNT_MAX: i64 = 10_000;

#[derive(Debug, Serialize)]
struct Status {
    source: DatabaseOverview,
    /// `None` when the source database could not be reached.
    capture: Option<String>,
    log: Option<Log>,
    readers: Vec<ReaderBacklog>,
    broker: Broker,
    timelines: Vec<TimelineOverview>,
}

/// What the source database knows.
struct OfSource {
    capture: String,
    retained: Retained,
    readers: Vec<ReaderBacklog>,
}

#[derive(Debug, Serialize)]
struct Log {
    /// Entries that some reader has not handed over; at most [`COUNT_MAX`] are counted.
    unread: i64,
    /// Of the reader of the stream, or of the only other one.
    round: Option<i64>,
    generation: Option<i32>,
    /// Age of the last stored position.
    round_age_seconds: Option<f64>,
    leader: Option<String>,
    #[serde(flatten)]
    held: Retained,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Retained {
    bytes: i64,
    failures: i64,
}

#[derive(Debug, Serialize)]
struct Broker {
    #[serde(flatten)]
    overview: Overview,
    #[serde(flatten)]
    stream: Option<StreamOverview>,
}

/// Prints the status.
///
/// # Errors
/// After everything that is known has been printed, when a server that is needed cannot be reached.
pub(crate) async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (of_source, (overview, stream), timelines) = tokio::join!(
        Box::pin(of_source(settings)),
        Box::pin(broker::overview(settings, APPLICATION)),
        Box::pin(status::timelines(settings, APPLICATION)),
    );
    let source = DatabaseOverview::of(of_source.as_ref());
    let (known, misuse) = match of_source {
        Ok(known) => (Some(known), None),
        Err(error) => (None, Some(error).filter(|error| status::is_misuse(error.as_ref()))),
    };
    let (capture, log, readers) = match known {
        Some(OfSource { capture, retained, readers }) => {
            (Some(capture), Some(Log::of(&readers, retained)), readers)
        }
        None => (None, None, Vec::new()),
    };
    let status = Status { source, capture, log, readers, broker: Broker { overview, stream }, timelines };
    console::print(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    let Status { source, broker, timelines, .. } = &status;
    match misuse {
        Some(error) => Err(error),
        None => Ok(status::conclude(source, broker.overview.missing(), timelines)?),
    }
}

async fn of_source(settings: &Settings) -> anyhow::Result<OfSource> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let capture = match capture::state(&mut connection).await? {
        Capture::Attached => "attached".to_owned(),
        Capture::Never => "never attached".to_owned(),
        Capture::Broken { table, causes } => {
            let causes: Vec<_> = causes.iter().map(|cause| cause.what(&table)).collect();
            format!("broken: {}", causes.join("; "))
        }
    };
    let readers = readers::backlogs(&mut connection, settings, COUNT_MAX).await?;
    let retained = retained(&mut connection).await?;
    Ok(OfSource { capture, retained, readers })
}

impl Log {
    fn of(readers: &[ReaderBacklog], held: Retained) -> Self {
        let first = readers.first();
        Self {
            unread: readers.iter().map(|reader| reader.unread).max().unwrap_or_default(),
            round: first.and_then(|reader| reader.round),
            generation: first.and_then(|reader| reader.generation),
            round_age_seconds: first.and_then(|reader| reader.round_age_seconds),
            leader: first.and_then(|reader| reader.leader.clone()),
            held,
        }
    }
}

async fn retained(connection: &mut Session) -> Result<Retained, sqlx::Error> {
    sqlx::query_as(
        "select pg_total_relation_size('outbox.entries') as bytes,
                (select count(*) from outbox.failures where state in ('retrying', 'dead')) as failures",
    )
    .fetch_one(connection)
    .await
}

fn table(status: &Status) -> String {
    let Status { source, capture, log, readers, broker, timelines } = status;
    let mut text = String::new();
    if let Some(capture) = capture {
        let _ = writeln!(text, "capture   {capture}");
    }
    if let Some(log) = log {
        let more = if log.unread == COUNT_MAX { "+" } else { "" };
        let _ = writeln!(
            text,
            "log       {}{more} unread, {} KiB, {} failure(s)",
            log.unread,
            log.held.bytes / 1_024,
            log.held.failures,
        );
    }
    for reader in readers {
        let ReaderBacklog { reader, unread, round, round_age_seconds, leader, .. } = reader;
        let of = if readers.len() > 1 { format!("{reader}: {unread} unread, ") } else { String::new() };
        let _ = writeln!(text, "leader    {of}{}", leader.as_deref().unwrap_or("none"));
        if let (Some(round), Some(age)) = (round, round_age_seconds) {
            let _ = writeln!(text, "position  round {round}, stored {age:.1} s ago");
        }
    }
    text += &broker.overview.text(broker.stream.as_ref());
    text.extend(timelines.iter().map(TimelineOverview::text));
    if let Some(error) = &source.error {
        let _ = writeln!(text, "source    {error}");
    }
    text
}
