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
    service::console,
    settings::Settings,
};
use serde::Serialize;

use crate::APPLICATION;

#[derive(Debug, Serialize)]
struct Status {
    /// `None` without a broker.
    #[serde(flatten)]
    stream: Option<StreamOverview>,
    broker: Overview,
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
/// When the source is away; and, after everything else has been printed, when the broker is needed and cannot be asked.
pub async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let mut readers = readers::backlogs(&mut connection, settings, COUNT_MAX).await?;
    // The publisher's own is the publisher's to show.
    readers.retain(|reader| reader.reader != STREAM_READER);
    let failures = admin::summary(&mut connection, &settings.source.table, &Filter::default()).await?;
    let compared = reconcile_cursor::progress(&mut connection).await?;
    let (broker, stream) = broker::overview(settings, APPLICATION).await;
    let status = Status { stream, broker, readers, failures, compared };
    console::print(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    Ok(status.broker.answered()?)
}

fn table(status: &Status) -> String {
    let mut text = status.broker.text(status.stream.as_ref());
    for ReaderBacklog { reader, unread, leader, .. } in &status.readers {
        let more = if *unread == COUNT_MAX { "+" } else { "" };
        let leader = leader.as_deref().unwrap_or("nobody");
        let _ = writeln!(text, "log       {reader}: {unread}{more} unread, read by {leader}");
    }
    for FailureSummary { forwarder, state, reason, count, .. } in &status.failures {
        let reason = reason.as_deref().unwrap_or("no reason yet");
        let _ = writeln!(text, "failures  {forwarder}: {count} {state} ({reason})");
    }
    for ReconcileProgress { forwarder, checked, missing, at } in &status.compared {
        let _ = writeln!(
            text,
            "compared  {forwarder}: {checked} settled entries, {missing} were missing, last at {at}"
        );
    }
    text
}
