//! What the leader does beside relaying: prune the log, thin the rounds, trim the stream, store how far everything is
//! settled, and notice when somebody else has removed messages from the stream.

use anyhow::Context as _;
use async_nats::jetstream::{Context as JetStream, stream::Stream};
use common::{
    broker::{self, Floor, microseconds},
    database::Database,
    outbox::{
        retention::{self, Watch},
        rounds::{self, StreamPosition},
        upkeep,
    },
    settings::{PublisherSettings, SourceSettings},
    telemetry::names,
};
use metrics::{counter, gauge};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::READER;

/// Above this share of its size limit the stream is trimmed to the floor, replay window or not.
const NEARLY_FULL: f64 = 0.8;

/// The leader's housekeeping.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// The source.
    pub database: Database,
    /// The broker.
    pub context: JetStream,
    /// The stream of references, by its name: another creation of it may take its place.
    pub stream: Stream,
    /// Intervals and retentions.
    pub settings: PublisherSettings,
    /// The application's own retention.
    pub source: SourceSettings,
}

impl Maintenance {
    /// Works at its interval until the leadership ends. A round that fails is logged and comes again.
    pub async fn run(self, leading: CancellationToken) {
        let mut created = None;
        let watch = Watch::new(&self.source);
        let mut interval = tokio::time::interval(self.settings.maintenance);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                _ = interval.tick() => {}
            }
            let round = async {
                let mut connection = self.database.connect().await?;
                // Before anything needs the broker: while that is away the backlog grows.
                watch.look(&mut connection).await;
                self.round(&mut connection, &mut created).await
            };
            tokio::select! {
                () = leading.cancelled() => return,
                result = round => match result {
                    Ok(StreamSeen::Same) => {}
                    Ok(StreamSeen::Other) => {
                        tracing::error!("the stream is not what it was: beginning again");
                        leading.cancel();
                    }
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "maintenance did not finish; it comes again");
                    }
                }
            }
        }
    }

    async fn round(
        &self,
        connection: &mut PgConnection,
        created: &mut Option<OffsetDateTime>,
    ) -> anyhow::Result<StreamSeen> {
        let info = match self.context.get_stream(&self.stream.cached_info().config.name).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if broker::is_not_found(&error.kind()) => return Ok(StreamSeen::Other),
            Err(error) => return Err(error.into()),
        };
        if *created.get_or_insert(info.created) != info.created {
            return Ok(StreamSeen::Other);
        }
        if info.state.first_sequence > rounds::kept_from(connection, microseconds(info.created)).await? {
            tracing::error!(first_sequence = info.state.first_sequence, "somebody purged the stream");
            return Ok(StreamSeen::Other);
        }
        let generation = retention::generation(connection, READER).await?;
        let floor = lowest(&broker::floors(&self.stream).await?, info.created);
        if let Some(floor) = floor {
            retention::settle(connection, READER, generation, floor).await?;
        }
        upkeep::prune(connection, floor, self.settings.retention).await?;
        upkeep::thin(connection, READER, self.settings.retention.max(self.settings.replay_window)).await?;
        self.trim(connection, floor).await?;
        Ok(StreamSeen::Same)
    }

    async fn trim(&self, connection: &mut PgConnection, floor: Option<StreamPosition>) -> anyhow::Result<()> {
        let info = self.stream.get_info().await?;
        #[expect(clippy::cast_precision_loss, reason = "a share, for people and a threshold")]
        let full = info.state.bytes as f64 / info.config.max_bytes.max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!(names::STREAM_BYTES).set(info.state.bytes as f64);
        gauge!(names::STREAM_FULL_RATIO).set(full);
        let Some(floor) = floor.filter(|floor| floor.created == microseconds(info.created)) else {
            return Ok(());
        };
        let keep_from = if full > NEARLY_FULL {
            floor.sequence + 1
        } else {
            let mark =
                rounds::acknowledged_before(connection, READER, floor.created, self.settings.replay_window)
                    .await?;
            mark.map_or(0, |sequence| sequence.min(floor.sequence)) + 1
        };
        if keep_from > info.state.first_sequence && info.state.messages > 0 {
            rounds::keep_from(connection, StreamPosition { sequence: keep_from, ..floor }).await?;
            let purged = self.stream.purge().sequence(keep_from).await.context("purge the stream")?.purged;
            counter!(names::STREAM_TRIMMED).increment(purged);
            tracing::info!(messages = purged, "trimmed the stream behind every forwarder");
        }
        Ok(())
    }
}

/// What became of the stream since this process began to lead.
enum StreamSeen {
    Same,
    /// Gone, or created anew: what it held must be published again.
    Other,
}

/// The lowest floor of all forwarders: everything at or below it is settled. `None` while there is no forwarder.
#[must_use]
pub fn lowest(floors: &[Floor], stream_created: OffsetDateTime) -> Option<StreamPosition> {
    let sequence = floors.iter().map(|floor| floor.sequence).min()?;
    Some(StreamPosition { created: microseconds(stream_created), sequence })
}
