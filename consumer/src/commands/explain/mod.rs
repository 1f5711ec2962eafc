//! `consumer explain`: the status of one event at every step, joined from both databases and the broker.

mod render;
mod stream;
#[cfg(feature = "threadline")]
mod timeline;

use clap::Args;
use common::{
    database,
    failures::{
        admin::{self, FailureRecord, Filter},
        diagnosis::{InTimeline, diagnose},
    },
    outbox::{
        self,
        admin::event_status::{self, EventStatus},
    },
    process::console,
    settings::Settings,
};
use serde::Serialize;
use uuid::Uuid;

use self::stream::InStream;

/// Which event.
#[derive(Debug, Clone, Args)]
pub(crate) struct Explain {
    /// The audit row's id.
    #[arg(value_name = "EVENT ID")]
    id: Uuid,
    /// Prints a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Everything that is known.
#[derive(Debug, Serialize)]
struct Explanation {
    id: Uuid,
    #[serde(flatten)]
    status: EventStatus,
    stream: InStream,
    failures: Vec<FailureRecord>,
    timelines: Vec<InTimeline>,
    /// What keeps it from the timeline, if anything does.
    diagnosis: String,
}

/// Explains.
///
/// # Errors
/// When the source database is away; what another server does not say is part of the answer.
pub(crate) async fn run(settings: &Settings, asked: Explain) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, "audit-consumer-explain").await?;
    let table = &settings.source.table;
    let status = {
        let mut scan = database::read_only_scan(&mut connection).await?;
        let status = event_status::of(&mut scan, table, asked.id).await?;
        scan.rollback().await?;
        status
    };
    let filter = Filter { reference: Some(asked.id.to_string()), ..Filter::default() };
    let failures = admin::list(&mut connection, table, &filter, 100).await?;
    let stream = match stream::of(settings, &status, asked.id).await {
        Ok(stream) => stream,
        Err(error) => InStream { unknown: Some(errors::line(error.as_ref())), ..InStream::default() },
    };
    #[cfg(feature = "threadline")]
    let timelines = timeline::all(settings, asked.id).await;
    #[cfg(not(feature = "threadline"))]
    let timelines = Vec::new();
    let diagnosis = diagnose(&status, &failures, &timelines);
    let explanation = Explanation { id: asked.id, status, stream, failures, timelines, diagnosis };
    console::print(&if asked.json {
        serde_json::to_string_pretty(&explanation)? + "\n"
    } else {
        explanation.text()
    });
    Ok(())
}
