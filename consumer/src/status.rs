//! `consumer status`: how far each forwarder has come, and its failures.

use std::fmt::Write as _;

use anyhow::Context as _;
use async_nats::jetstream;
use common::{
    broker, console,
    failures::letters::{self, Filter, Group},
    outbox::{
        self, backlog, handover,
        reconciled::{self, Compared},
    },
    settings::Settings,
};
use serde::Serialize;

use crate::APPLICATION;

#[derive(Debug, Serialize)]
struct Status {
    /// `None` without a broker.
    #[serde(flatten)]
    stream: Option<StreamStatus>,
    /// Why the broker says nothing, if one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<String>,
    /// Forwarders that read the log themselves.
    readers: Vec<Reader>,
    failures: Vec<Group>,
    /// What the standing comparisons have found.
    compared: Vec<Compared>,
}

#[derive(Debug, Serialize)]
struct StreamStatus {
    stream: String,
    last_sequence: u64,
    forwarders: Vec<Forwarder>,
}

#[derive(Debug, Serialize)]
struct Reader {
    reader: String,
    /// Entries that it has not handed over; at most [`COUNT_MAX`] are counted.
    unread: i64,
}

#[derive(Debug, Serialize)]
struct Forwarder {
    durable: String,
    settled_up_to: u64,
    pending: u64,
}

/// Counting stops here: a long log must not make a status command slow.
const COUNT_MAX: i64 = 10_000;

/// Prints the status.
///
/// # Errors
/// When a server is away.
pub async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let (stream, broker) = match (&settings.broker.url, stream(settings).await) {
        (None, _) => (None, None),
        (Some(_), Ok(stream)) => (Some(stream), None),
        // What the database knows is worth showing all the same.
        (Some(_), Err(error)) => (None, Some(format!("{error:#}"))),
    };
    let mut readers = Vec::new();
    for forwarder in &settings.forwarder {
        let reader = handover::reader(&forwarder.id);
        if handover::exists(&mut connection, &reader).await? {
            let unread = backlog::unread(&mut connection, std::slice::from_ref(&reader), COUNT_MAX).await?;
            readers.push(Reader { reader, unread });
        }
    }
    let failures = letters::summary(&mut connection, &settings.source.table, &Filter::default()).await?;
    let compared = reconciled::progress(&mut connection).await?;
    let status = Status { stream, broker, readers, failures, compared };
    console::answer(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    Ok(())
}

async fn stream(settings: &Settings) -> anyhow::Result<StreamStatus> {
    let client = broker::connect(&settings.broker, APPLICATION).await?;
    let stream = jetstream::new(client)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot look at the stream {}", settings.broker.stream))?;
    let forwarders = broker::floors(&stream)
        .await?
        .into_iter()
        .map(|floor| Forwarder {
            durable: floor.durable,
            settled_up_to: floor.sequence,
            pending: floor.pending,
        })
        .collect();
    Ok(StreamStatus {
        stream: settings.broker.stream.clone(),
        last_sequence: stream.cached_info().state.last_sequence,
        forwarders,
    })
}

fn table(status: &Status) -> String {
    let mut text = match (&status.stream, &status.broker) {
        (Some(StreamStatus { stream, last_sequence, .. }), _) => {
            format!("stream    {stream}, last sequence {last_sequence}\n")
        }
        (None, Some(error)) => format!("broker    {error}\n"),
        (None, None) => "broker    none is configured\n".to_owned(),
    };
    for Forwarder { durable, settled_up_to, pending } in
        status.stream.iter().flat_map(|stream| &stream.forwarders)
    {
        let _ = writeln!(text, "consumer  {durable}: settled up to {settled_up_to}, {pending} pending");
    }
    for Reader { reader, unread } in &status.readers {
        let more = if *unread == COUNT_MAX { "+" } else { "" };
        let _ = writeln!(text, "log       {reader}: {unread}{more} unread");
    }
    for Group { forwarder, state, reason, count, .. } in &status.failures {
        let reason = reason.as_deref().unwrap_or("no reason yet");
        let _ = writeln!(text, "failures  {forwarder}: {count} {state} ({reason})");
    }
    for Compared { forwarder, checked, missing, at } in &status.compared {
        let _ = writeln!(
            text,
            "compared  {forwarder}: {checked} settled entries, {missing} were missing, last at {at}"
        );
    }
    text
}
