//! Gives live traffic priority over re-drive, backfill and repair: they wait while too much is not yet delivered.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;

use super::{BrokerError, ack_floors, connect, context, durable_name, is_not_found, packs};
use crate::{
    identifier::ForwarderId,
    outbox::{
        admin::backlog,
        reader::{readers, rounds::STREAM_READER},
    },
    session::Session,
    settings::BrokerSettings,
};

/// Redeliveries wait while more than this many live events do.
const MAX_WAITING: i64 = 10_000;

/// How long it waits before it checks again.
const POLL: Duration = Duration::from_millis(200);

/// How often it says that it waits.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Why it is not known how much waits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThrottleError {
    /// The broker is away.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The source database is away.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// What waits for some forwarders, in the log and in their durables.
#[derive(Debug)]
pub struct LiveTrafficThrottle {
    stream: Option<Stream>,
    durables: Vec<String>,
    readers: Vec<String>,
}

impl LiveTrafficThrottle {
    /// Those of `forwarders`, through the broker where one is configured.
    ///
    /// # Errors
    /// When a broker is configured and away.
    pub async fn of(
        settings: &BrokerSettings,
        forwarders: &[ForwarderId],
        name: &str,
    ) -> Result<Self, BrokerError> {
        let mut readers: Vec<String> = forwarders.iter().map(readers::reader_name).collect();
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

    /// That of one forwarder: through `stream` where there is one, otherwise directly from the log.
    #[must_use]
    pub fn on(stream: Option<Stream>, forwarder: &ForwarderId) -> Self {
        let reader =
            if stream.is_some() { STREAM_READER.to_owned() } else { readers::reader_name(forwarder) };
        Self { stream, durables: vec![durable_name(forwarder)], readers: vec![reader] }
    }

    /// Entries not read yet, and references not settled.
    async fn waiting(&self, connection: &mut Session) -> Result<i64, ThrottleError> {
        let unread = backlog::unread(connection, &self.readers, MAX_WAITING + 1).await?;
        let pending = match &self.stream {
            Some(stream) => {
                let floors = ack_floors(stream).await?;
                let ours = floors.iter().filter(|floor| self.durables.contains(&floor.durable));
                let mut most = 0;
                for floor in ours {
                    most = most.max(packs::estimate(stream, floor).await?);
                }
                most
            }
            None => 0,
        };
        Ok(unread.saturating_add(i64::try_from(pending).unwrap_or(i64::MAX)))
    }

    /// Waits until live events have priority: until few enough of them wait.
    ///
    /// # Errors
    /// When a server is away.
    pub async fn wait(&self, connection: &mut Session) -> Result<(), ThrottleError> {
        let mut logged_at: Option<Instant> = None;
        loop {
            let waiting = self.waiting(connection).await?;
            if waiting <= MAX_WAITING {
                return Ok(());
            }
            if logged_at.is_none_or(|logged_at| logged_at.elapsed() > LOG_INTERVAL) {
                logged_at = Some(Instant::now());
                tracing::info!(
                    waiting,
                    most = MAX_WAITING,
                    "waiting until fewer live events wait to be delivered; publisher and consumer must be running"
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
