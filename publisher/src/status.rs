//! `publisher status`: where everything stands, for people and programs.

use std::fmt::Write as _;

use async_nats::jetstream;
use common::{
    broker, console,
    outbox::{
        self,
        capture::{self, Capture},
        rounds::STREAM_READER,
    },
    session::Session,
    settings::Settings,
};
use serde::Serialize;

use crate::commands::APPLICATION;

/// Counting stops here: a long log must not make a status command slow.
const COUNT_MAX: i64 = 10_000;

#[derive(Debug, Serialize)]
struct Status {
    capture: String,
    log: Log,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<Broker>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Log {
    /// Entries that no finished round covers; at most [`COUNT_MAX`] are counted.
    unread: i64,
    round: Option<i64>,
    generation: Option<i32>,
    /// Age of the last stored position.
    round_age_seconds: Option<f64>,
    leader: Option<String>,
    bytes: i64,
    failures: i64,
}

#[derive(Debug, Serialize)]
struct Broker {
    stream: String,
    messages: u64,
    bytes: u64,
    max_bytes: i64,
    first_sequence: u64,
    last_sequence: u64,
    forwarders: Vec<Forwarder>,
}

#[derive(Debug, Serialize)]
struct Forwarder {
    durable: String,
    settled_up_to: u64,
    pending: u64,
}

/// Prints the status.
///
/// # Errors
/// When a configured server is away.
pub async fn show(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let capture = match capture::state(&mut connection).await? {
        Capture::Attached => "attached".to_owned(),
        Capture::Never => "never attached".to_owned(),
        Capture::Broken { table, uncovered } => format!("broken on {uncovered} table(s) of {table}"),
    };
    let status = Status { capture, log: log(&mut connection).await?, broker: broker(settings).await? };
    console::answer(&if json { serde_json::to_string_pretty(&status)? + "\n" } else { table(&status) });
    Ok(())
}

async fn log(connection: &mut Session) -> Result<Log, sqlx::Error> {
    sqlx::query_as(
        "select (select count(*) from (
                     select from outbox.entries e
                     where h.n is null or not pg_visible_in_snapshot(e.xid, h.s) limit $2) unread) as unread,
                h.n as round, h.generation,
                extract(epoch from clock_timestamp() - h.at)::float8 as round_age_seconds,
                (select holder from outbox.leases where name = $1 and expires_at > clock_timestamp()) as leader,
                pg_total_relation_size('outbox.entries') as bytes,
                (select count(*) from outbox.failures where state in ('retrying', 'dead')) as failures
         from (select 1) one
         left join lateral (select * from outbox.rounds where reader = $1 order by n desc limit 1) h on true",
    )
    .bind(STREAM_READER)
    .bind(COUNT_MAX)
    .fetch_one(connection)
    .await
}

async fn broker(settings: &Settings) -> anyhow::Result<Option<Broker>> {
    if settings.broker.url.is_none() {
        return Ok(None);
    }
    let client = broker::connect(&settings.broker, APPLICATION).await?;
    let Ok(stream) = jetstream::new(client).get_stream(&settings.broker.stream).await else {
        return Ok(None);
    };
    let info = stream.cached_info();
    let forwarders = broker::floors(&stream).await?;
    Ok(Some(Broker {
        stream: info.config.name.clone(),
        messages: info.state.messages,
        bytes: info.state.bytes,
        max_bytes: info.config.max_bytes,
        first_sequence: info.state.first_sequence,
        last_sequence: info.state.last_sequence,
        forwarders: forwarders
            .into_iter()
            .map(|floor| Forwarder {
                durable: floor.durable,
                settled_up_to: floor.sequence,
                pending: floor.pending,
            })
            .collect(),
    }))
}

fn table(status: &Status) -> String {
    let Status { capture, log, broker } = status;
    let more = if log.unread == COUNT_MAX { "+" } else { "" };
    let mut text = format!(
        "capture   {capture}\nlog       {}{more} unread, {} KiB, {} failure(s)\nleader    {}\n",
        log.unread,
        log.bytes / 1_024,
        log.failures,
        log.leader.as_deref().unwrap_or("nobody"),
    );
    if let (Some(round), Some(age)) = (log.round, log.round_age_seconds) {
        let _ = writeln!(text, "position  round {round}, stored {age:.1} s ago");
    }
    let Some(broker) = broker else {
        return text + "broker    no stream, or no broker configured\n";
    };
    let _ = writeln!(
        text,
        "stream    {}: {} messages ({} to {}), {} of {} KiB",
        broker.stream,
        broker.messages,
        broker.first_sequence,
        broker.last_sequence,
        broker.bytes / 1_024,
        broker.max_bytes / 1_024
    );
    for forwarder in &broker.forwarders {
        let Forwarder { durable, settled_up_to, pending } = forwarder;
        let _ = writeln!(text, "consumer  {durable}: settled up to {settled_up_to}, {pending} pending");
    }
    text
}
