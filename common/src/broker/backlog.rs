//! What waits on the roads of some forwarders: what re-drive, backfill and repair give way to.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;

use super::{BrokerError, connect, context, durable_name, floors, is_not_found};
use crate::{
    identifier::ForwarderId,
    outbox::{backlog, handover, rounds::STREAM_READER},
    session::Session,
    settings::BrokerSettings,
};

/// Live events are never behind what is delivered again: above this many waiting, it waits too.
const MOST: i64 = 10_000;

/// How long it waits before it looks again.
const POLL: Duration = Duration::from_millis(200);

/// How often it says that it waits.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Why nobody knows how much waits.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The broker is away.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The source database is away.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// The roads of some forwarders.
#[derive(Debug)]
pub struct Backlog {
    stream: Option<Stream>,
    durables: Vec<String>,
    readers: Vec<String>,
}

impl Backlog {
    /// Those of `forwarders`, through the broker where one is configured.
    ///
    /// # Errors
    /// When a broker is configured and away.
    pub async fn of(
        settings: &BrokerSettings,
        forwarders: &[ForwarderId],
        name: &str,
    ) -> Result<Self, BrokerError> {
        let mut readers: Vec<String> = forwarders.iter().map(handover::reader).collect();
        let mut stream = None;
        if settings.url.is_some() {
            let client = connect(settings, name).await?;
            stream = match context(&client, settings).get_stream(&settings.stream).await {
                Ok(stream) => Some(stream),
                Err(error) if is_not_found(&error.kind()) => None,
                Err(error) => return Err(BrokerError::call("stream info", &error)),
            };
            readers.push(STREAM_READER.to_owned());
        }
        Ok(Self { stream, durables: forwarders.iter().map(durable_name).collect(), readers })
    }

    /// The road of one forwarder, through a stream that is at hand or straight from the log.
    #[must_use]
    pub fn on(stream: Option<Stream>, forwarder: &ForwarderId) -> Self {
        let reader = if stream.is_some() { STREAM_READER.to_owned() } else { handover::reader(forwarder) };
        Self { stream, durables: vec![durable_name(forwarder)], readers: vec![reader] }
    }

    /// Entries not read yet, and references not settled.
    async fn waiting(&self, connection: &mut Session) -> Result<i64, BacklogError> {
        let unread = backlog::unread(connection, &self.readers, MOST + 1).await?;
        let pending = match &self.stream {
            Some(stream) => floors(stream)
                .await?
                .iter()
                .filter(|floor| self.durables.contains(&floor.durable))
                .map(|floor| floor.pending)
                .max(),
            None => None,
        };
        Ok(unread.saturating_add(i64::try_from(pending.unwrap_or_default()).unwrap_or(i64::MAX)))
    }

    /// Waits until live events are not behind what is delivered again.
    ///
    /// # Errors
    /// When a server is away.
    pub async fn give_way(&self, connection: &mut Session) -> Result<(), BacklogError> {
        let mut told: Option<Instant> = None;
        loop {
            let waiting = self.waiting(connection).await?;
            if waiting <= MOST {
                return Ok(());
            }
            if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                told = Some(Instant::now());
                tracing::info!(
                    waiting,
                    most = MOST,
                    "giving way to events that wait to be delivered; publisher and consumer must be running"
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
