//! `consumer status`: how far each forwarder has come, and its failures.

use std::fmt::Write as _;

use anyhow::Context as _;
use async_nats::jetstream;
use common::{broker, console, database::Database, outbox, settings::Settings};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Status {
    stream: String,
    last_sequence: u64,
    forwarders: Vec<Forwarder>,
    failures: Vec<Failures>,
}

#[derive(Debug, Serialize)]
struct Forwarder {
    durable: String,
    settled_up_to: u64,
    pending: u64,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Failures {
    forwarder: String,
    state: String,
    reason: Option<String>,
    count: i64,
}

/// Prints the status.
///
/// # Errors
/// When a server is away.
pub async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let client = broker::connect(&settings.broker, "audit-consumer-command").await?;
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
    let status = Status {
        stream: settings.broker.stream.clone(),
        last_sequence: stream.cached_info().state.last_sequence,
        forwarders,
        failures: failures(settings).await?,
    };
    console::answer(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    Ok(())
}

async fn failures(settings: &Settings) -> anyhow::Result<Vec<Failures>> {
    let database = Database::source(&settings.source, "audit-consumer-command")?;
    let mut connection =
        database.connect().await.context("cannot connect to the source database (source.url)")?;
    outbox::require(&mut connection, &settings.source.table).await?;
    let rows = sqlx::query_as(
        "select forwarder, state, reason, count(*) as count from outbox.failures
         group by forwarder, state, reason order by forwarder, state, reason",
    )
    .fetch_all(&mut connection)
    .await?;
    Ok(rows)
}

fn table(status: &Status) -> String {
    let mut text = format!("stream    {}, last sequence {}\n", status.stream, status.last_sequence);
    for Forwarder { durable, settled_up_to, pending } in &status.forwarders {
        let _ = writeln!(text, "consumer  {durable}: settled up to {settled_up_to}, {pending} pending");
    }
    for Failures { forwarder, state, reason, count } in &status.failures {
        let reason = reason.as_deref().unwrap_or("no reason yet");
        let _ = writeln!(text, "failures  {forwarder}: {count} {state} ({reason})");
    }
    text
}
