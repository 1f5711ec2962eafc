//! `consumer status`: how far each forwarder has come, and its failures.

use std::fmt::Write as _;

use common::{
    broker::{self, Overview, StreamOverview},
    failures::admin::{self, FailureSummary, Filter},
    outbox::{
        self,
        admin::backlog::ReaderBacklog,
        reader::{readers, rounds::STREAM_READER},
        reconcile_cursor::{self, ReconcileProgress},
    },
    process::console,
    service::status::{self, DatabaseOverview, TimelineOverview},
    settings::Settings,
};
use serde::Serialize;

use crate::APPLICATION;

#[derive(Debug, Serialize)]
struct Status {
    source: DatabaseOverview,
    /// `None` without a broker.
    #[serde(flatten)]
    stream: Option<StreamOverview>,
    broker: Overview,
    timelines: Vec<TimelineOverview>,
    #[serde(flatten)]
    of_source: OfSource,
}

/// What the source database knows; nothing when it could not be reached.
#[derive(Debug, Default, Serialize)]
struct OfSource {
    /// Forwarders that read the log themselves.
    readers: Vec<ReaderBacklog>,
    failures: Vec<FailureSummary>,
    /// What the continuous reconciliations have found.
    compared: Vec<ReconcileProgress>,
}

/// Counting stops here: a long log must not make a status command slow.
const COUNT_MAX: i64 = 10_000;

/// Prints the status.
///
/// # Errors
/// After everything that is known has been printed, when a server that is needed cannot be reached.
pub(crate) async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (known, (broker, stream), timelines) = tokio::join!(
        Box::pin(of_source(settings)),
        Box::pin(broker::overview(settings, APPLICATION)),
        Box::pin(status::timelines(settings, APPLICATION)),
    );
    let source = DatabaseOverview::of(known.as_ref());
    let (of_source, misuse) = match known {
        Ok(known) => (known, None),
        Err(error) => (OfSource::default(), Some(error).filter(|error| status::is_misuse(error.as_ref()))),
    };
    let status = Status { source, stream, broker, timelines, of_source };
    console::print(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    match misuse {
        Some(error) => Err(error),
        None => Ok(status::conclude(&status.source, status.broker.missing(), &status.timelines)?),
    }
}

async fn of_source(settings: &Settings) -> anyhow::Result<OfSource> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let mut readers = readers::backlogs(&mut connection, settings, COUNT_MAX).await?;
    // The publisher's own is the publisher's to show.
    readers.retain(|reader| reader.reader != STREAM_READER);
    let failures = admin::summary(&mut connection, &settings.source.table, &Filter::default(), None).await?;
    let compared = reconcile_cursor::progress(&mut connection).await?;
    Ok(OfSource { readers, failures, compared })
}

fn table(status: &Status) -> String {
    let OfSource { readers, failures, compared } = &status.of_source;
    let mut text = status.broker.text(status.stream.as_ref());
    text.extend(status.timelines.iter().map(TimelineOverview::text));
    for ReaderBacklog { reader, unread, leader, .. } in readers {
        let more = if *unread == COUNT_MAX { "+" } else { "" };
        let leader = leader.as_deref().unwrap_or("none");
        let _ = writeln!(text, "log       {reader}: {unread}{more} unread, read by {leader}");
    }
    for FailureSummary { forwarder, state, reason, count, .. } in failures {
        let reason = reason.as_deref().unwrap_or("no reason yet");
        let _ = writeln!(text, "failures  {forwarder}: {count} {state} ({reason})");
    }
    for ReconcileProgress { forwarder, checked, missing, at } in compared {
        let _ = writeln!(
            text,
            "compared  {forwarder}: {checked} settled entries, {missing} were missing, last at {at}"
        );
    }
    if let Some(error) = &status.source.error {
        let _ = writeln!(text, "source    {error}");
    }
    text
}
