//! What the leader does beside relaying: prune the log, thin the rounds, trim the stream. And, leading or not, a look at
//! the trigger.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{Context as JetStream, stream::Stream};
use common::{
    broker::{self, Floor, microseconds},
    database::Database,
    health::Progress,
    outbox::{
        capture::{self, Capture},
        prune,
        rounds::{self, StreamPosition},
    },
    settings::PublisherSettings,
    telemetry::names,
};
use metrics::{counter, gauge};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::READER;

/// Above this share of its size limit the stream is trimmed to the floor, replay window or not.
const NEARLY_FULL: f64 = 0.8;

/// Marks outlive retention and replay window by this, so that one just older than either is always found.
const MARK_MARGIN: Duration = Duration::from_secs(3_600);

/// How many rows of `outbox.rounds` one statement thins.
const THIN_ROWS: i64 = 10_000;

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
}

impl Maintenance {
    /// Works at its interval until the leadership ends. A round that fails is logged and comes again.
    pub async fn run(self, leading: CancellationToken) {
        let mut created = None;
        let mut interval = tokio::time::interval(self.settings.maintenance);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                _ = interval.tick() => {}
            }
            let round = async {
                let mut connection = self.database.connect().await?;
                self.round(&mut connection, &mut created).await
            };
            tokio::select! {
                () = leading.cancelled() => return,
                result = round => match result {
                    Ok(StreamSeen::Same) => {}
                    Ok(StreamSeen::Other) => {
                        tracing::error!("the stream is gone or is another one: beginning again");
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
        let floor = lowest(&broker::floors(&self.stream).await?, info.created);
        let pruned = prune(connection, floor, self.settings.retention).await?;
        if pruned > 0 {
            tracing::info!(entries = pruned, "pruned the log");
        }
        // Longer than anything that looks for a mark of that age.
        let keep = self.settings.retention.max(self.settings.replay_window) + MARK_MARGIN;
        while rounds::thin(connection, READER, keep, THIN_ROWS).await? == THIN_ROWS.cast_unsigned() {}
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

/// Prunes everything below the horizon, batch by batch; answers how many entries went.
///
/// # Errors
/// When the database is away.
pub async fn prune(
    connection: &mut PgConnection,
    floor: Option<StreamPosition>,
    retention: Duration,
) -> Result<u64, sqlx::Error> {
    let Some(horizon) = prune::horizon(connection, floor, retention).await? else {
        return Ok(0);
    };
    let mut pruned = 0;
    let mut after = None;
    loop {
        let batch = prune::batch(connection, &horizon, after).await?;
        let Some(last) = batch.last else {
            counter!(names::OUTBOX_PRUNED).increment(pruned);
            return Ok(pruned);
        };
        after = Some(last);
        pruned += batch.entries;
    }
}

/// Looks at the trigger, leading or not, and reports a fault that only a person can mend. Ends with the process.
pub async fn watch_capture(database: Database, progress: Progress, every: Duration) {
    loop {
        let looked = async { capture::state(&mut database.connect().await?).await };
        match looked.await {
            Ok(state) => report(&state, &progress),
            // The relay says so too, and louder.
            Err(error) => tracing::debug!(%error, "could not look at the capture trigger"),
        }
        tokio::time::sleep(every).await;
    }
}

fn report(state: &Capture, progress: &Progress) {
    let fault = match state {
        Capture::Attached => None,
        Capture::Never => Some("capture is not attached: run `publisher attach`".to_owned()),
        Capture::Broken { table, uncovered } => Some(format!(
            "the capture trigger is missing or disabled on {uncovered} table(s) of {table}: run `publisher attach`"
        )),
    };
    gauge!(names::CAPTURE_ATTACHED).set(if fault.is_some() { 0.0 } else { 1.0 });
    if let Some(fault) = &fault {
        tracing::error!("{fault}");
    }
    progress.fault(fault);
}
