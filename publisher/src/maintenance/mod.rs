//! What the leader does beside relaying: prune the log, thin the rounds, trim the stream, store how far everything is
//! settled, and notice when somebody else has removed messages from the stream.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{
        Context as JetStream,
        stream::{Info, Stream},
    },
};
use common::{
    broker::{
        self, AckFloor,
        doctor::{NEARLY_FULL, PURGES},
        microseconds,
    },
    database::Database,
    failpoint, failures,
    outbox::{
        maintenance::{
            self,
            retention::{self, AtRiskGauge},
        },
        reader::rounds::{self, STREAM_READER, StreamPosition},
    },
    service::telemetry::names,
    session::Session,
    settings::{BrokerSettings, RelaySettings, SourceSettings},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use metrics::{counter, gauge};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// The leader's housekeeping.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// The source.
    pub database: Database,
    /// The connection to the broker.
    pub client: Client,
    /// The broker.
    pub context: JetStream,
    /// The stream of references, by its name: another creation of it may take its place.
    pub stream: Stream,
    /// Intervals and retentions.
    pub relay: RelaySettings,
    /// How much of the stream stays behind the slowest consumer.
    pub replay_window: Duration,
    /// Where the sink looks up how far the stream has been trimmed.
    pub trimmed_below: Arc<AtomicU64>,
    /// The application's own retention.
    pub source: SourceSettings,
    /// How large the stream should be.
    pub broker: BrokerSettings,
}

/// What one leadership has seen of the stream when it looked last.
#[derive(Debug, Default)]
struct StreamBaseline {
    created: Option<OffsetDateTime>,
    /// What of it is smaller than the settings, as it was told last.
    smaller: Option<String>,
}

/// An event that has waited for its next attempt this much too long has lost its message: it was settled by somebody else, or
/// the stream was lost.
const OVERDUE: Duration = Duration::from_secs(3_600);

/// How many messages a round deletes one by one, and how many requests are under way.
const DELETE_MAX: usize = 100_000;
const DELETE_WINDOW: usize = 256;

impl Maintenance {
    /// Works at its interval until the leadership ends. A round that fails is logged and comes again.
    pub async fn run(self, leading: CancellationToken) {
        // Should this task end by a panic, the leadership ends with it, and both begin again.
        let _ends_with_it = leading.clone().drop_guard();
        let mut baseline = StreamBaseline::default();
        let watch = AtRiskGauge::new(&self.source);
        let mut interval = tokio::time::interval(self.relay.maintenance_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                _ = interval.tick() => {}
            }
            let round = async {
                let mut connection = self.database.connect().await?;
                // Before anything needs the broker: while that is away the backlog grows.
                watch.update(&mut connection).await;
                self.run_once(&mut connection, &mut baseline).await
            };
            let round = async {
                tokio::time::timeout(maintenance::RUN_TIMEOUT, round).await.context("it took too long")?
            };
            tokio::select! {
                () = leading.cancelled() => return,
                result = round => match result {
                    Ok(StreamCheck::Same) => {}
                    Ok(StreamCheck::Other) => {
                        tracing::error!("the stream is not what it was: beginning again");
                        leading.cancel();
                    }
                    Err(error) => {
                        tracing::warn!(error = errors::line(error.as_ref()), "maintenance did not finish; it comes again");
                    }
                }
            }
        }
    }

    async fn run_once(
        &self,
        connection: &mut Session,
        baseline: &mut StreamBaseline,
    ) -> anyhow::Result<StreamCheck> {
        // Asked first: what is acknowledged meanwhile must not look like a loss.
        let acknowledged = match baseline.created {
            Some(created) => {
                rounds::acknowledged_before(connection, STREAM_READER, microseconds(created), Duration::ZERO)
                    .await?
            }
            None => None,
        };
        let created = match baseline.created {
            Some(created) => created,
            None => match self.look().await? {
                Some(info) => *baseline.created.insert(info.created),
                None => return Ok(StreamCheck::Other),
            },
        };
        let generation = retention::generation(connection, STREAM_READER).await?;
        // A purge moves them beyond what nobody was given. So they are asked for first, and count only if the stream is then found
        // as it was.
        let floors = broker::ack_floors(&self.stream).await;
        failpoint::pause("maintenance.floors_read").await;
        let info = match self.look().await? {
            Some(info) if info.created == created => info,
            Some(_) | None => return Ok(StreamCheck::Other),
        };
        if acknowledged > Some(info.state.last_sequence) {
            tracing::error!(
                last_sequence = info.state.last_sequence,
                ?acknowledged,
                "the stream lost its end"
            );
            return Ok(StreamCheck::Other);
        }
        if info.state.first_sequence > rounds::trimmed_below(connection, microseconds(info.created)).await? {
            tracing::error!(first_sequence = info.state.first_sequence, "somebody purged the stream");
            return Ok(StreamCheck::Other);
        }
        if let Err(error) = broker::check_stream(&self.context, &self.broker, None).await {
            if error.is_incompatible() {
                tracing::error!("{error}");
                return Ok(StreamCheck::Other);
            }
            return Err(error.into());
        }
        self.measure(&info, baseline);
        let floor = lowest_ack_floor(&floors?, info.created);
        if let Some(floor) = floor {
            retention::settle(connection, STREAM_READER, generation, floor).await?;
        }
        let overdue = failures::enter_overdue(connection, OVERDUE).await?;
        if overdue > 0 {
            tracing::warn!(
                events = overdue,
                "waited for a retry whose message is gone: entered the log again"
            );
        }
        maintenance::prune(connection, floor, self.relay.retention).await?;
        maintenance::thin(connection, STREAM_READER, self.relay.retention.max(self.replay_window)).await?;
        self.trim(connection, floor).await?;
        Ok(StreamCheck::Same)
    }

    /// The stream as it is; `None` when there is none.
    async fn look(&self) -> anyhow::Result<Option<Info>> {
        match self.context.get_stream(&self.stream.cached_info().config.name).await {
            Ok(stream) => Ok(Some(stream.cached_info().clone())),
            Err(error) if broker::is_not_found(&error.kind()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody may have made it smaller under us. Publishing goes on: less room is back-pressure, and no loss.
    fn measure(&self, info: &Info, baseline: &mut StreamBaseline) {
        let smaller = broker::smaller(&self.broker, &info.config);
        if smaller == baseline.smaller {
            return;
        }
        if let Some(differences) = &smaller {
            tracing::warn!(
                differences,
                "the stream is smaller than the settings; publishing goes on. Change the stream with `nats stream edit`, \
                 or the [broker] settings to match it"
            );
        } else {
            tracing::info!("the stream is as large as the settings again");
        }
        baseline.smaller = smaller;
    }

    async fn trim(&self, connection: &mut Session, floor: Option<StreamPosition>) -> anyhow::Result<()> {
        let info = self.stream.get_info().await?;
        #[expect(clippy::cast_precision_loss, reason = "a share, for people and a threshold")]
        let full = info.state.bytes as f64 / info.config.max_bytes.max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!(names::STREAM_BYTES).set(info.state.bytes as f64);
        gauge!(names::STREAM_FULL_RATIO).set(full);
        let Some(floor) = floor.filter(|floor| floor.created == microseconds(info.created)) else {
            return Ok(());
        };
        let trim_below = if full > NEARLY_FULL {
            floor.sequence + 1
        } else {
            let mark =
                rounds::acknowledged_before(connection, STREAM_READER, floor.created, self.replay_window)
                    .await?;
            mark.map_or(0, |sequence| sequence.min(floor.sequence)) + 1
        };
        if trim_below > info.state.first_sequence && info.state.messages > 0 {
            rounds::record_trim(connection, StreamPosition { sequence: trim_below, ..floor }).await?;
            self.trimmed_below.store(trim_below, Ordering::SeqCst);
            let trimmed = if self.client.is_server_compatible(PURGES.0, PURGES.1, PURGES.2) {
                self.stream.purge().sequence(trim_below).await.context("purge the stream")?.purged
            } else {
                self.delete(info.state.first_sequence..trim_below).await?
            };
            counter!(names::STREAM_TRIMMED).increment(trimmed);
            tracing::info!(messages = trimmed, "trimmed the stream behind every forwarder");
        }
        Ok(())
    }
}

impl Maintenance {
    /// Removes messages one by one, because a purge would make an old server forget what its consumers have in hand.
    async fn delete(&self, sequences: std::ops::Range<u64>) -> anyhow::Result<u64> {
        let mut deleted = stream::iter(sequences.take(DELETE_MAX))
            .map(|sequence| self.stream.delete_message(sequence))
            .buffered(DELETE_WINDOW);
        let mut count = 0;
        while deleted.try_next().await.context("delete messages of the stream")?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// What became of the stream since this process began to lead.
enum StreamCheck {
    Same,
    /// Gone, recreated, purged, or cut short: what it held must be published again. Or somebody has set it differently: whoever
    /// begins again waits until that is mended.
    Other,
}

/// The lowest floor of all forwarders: everything at or below it is settled. `None` while there is no forwarder.
#[must_use]
pub fn lowest_ack_floor(floors: &[AckFloor], stream_created: OffsetDateTime) -> Option<StreamPosition> {
    let sequence = floors.iter().map(|floor| floor.sequence).min()?;
    Some(StreamPosition { created: microseconds(stream_created), sequence })
}
