//! What the leader does beside relaying: watch the trigger, prune the log, thin the rounds, trim the stream.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::stream::Stream;
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
use tokio_util::sync::CancellationToken;

use crate::READER;

/// Above this share of its size limit the stream is trimmed to the floor, replay window or not.
const NEARLY_FULL: f64 = 0.8;

/// How many rows of `outbox.rounds` one statement thins.
const THIN_ROWS: i64 = 10_000;

/// The leader's housekeeping.
#[derive(Debug, Clone)]
pub struct Maintenance {
    /// The source.
    pub database: Database,
    /// The stream of references.
    pub stream: Stream,
    /// Intervals and retentions.
    pub settings: PublisherSettings,
    /// Reports whether capture is on.
    pub capture: Progress,
}

impl Maintenance {
    /// Works at its interval until the leadership ends. A round that fails is logged and comes again.
    pub async fn run(self, leading: CancellationToken) {
        let mut interval = tokio::time::interval(self.settings.maintenance);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                _ = interval.tick() => {}
            }
            let round = async {
                let mut connection = self.database.connect().await?;
                self.round(&mut connection).await
            };
            tokio::select! {
                () = leading.cancelled() => return,
                result = round => if let Err(error) = result {
                    tracing::warn!(error = format!("{error:#}"), "maintenance did not finish; it comes again");
                }
            }
        }
    }

    async fn round(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        watch_capture(connection, &self.capture).await?;
        let floor = self.floor().await?;
        let pruned = prune(connection, floor, self.settings.retention).await?;
        if pruned > 0 {
            tracing::info!(entries = pruned, "pruned the log");
        }
        let keep = self.settings.retention.max(self.settings.replay_window);
        while rounds::thin(connection, READER, keep, THIN_ROWS).await? == THIN_ROWS.cast_unsigned() {}
        self.trim(connection, floor).await
    }

    /// Everything at or below it is settled by every forwarder; `None` while there is none.
    async fn floor(&self) -> anyhow::Result<Option<StreamPosition>> {
        let floors = broker::floors(&self.stream).await?;
        Ok(lowest(&floors, &self.stream))
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

/// The lowest floor of all forwarders.
#[must_use]
pub fn lowest(floors: &[Floor], stream: &Stream) -> Option<StreamPosition> {
    let sequence = floors.iter().map(|floor| floor.sequence).min()?;
    Some(StreamPosition { created: microseconds(stream.cached_info().created), sequence })
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
    loop {
        let batch = prune::batch(connection, &horizon).await?;
        if batch == 0 {
            counter!(names::OUTBOX_PRUNED).increment(pruned);
            return Ok(pruned);
        }
        pruned += batch;
    }
}

/// Looks at the trigger and reports a fault that a person must mend.
///
/// # Errors
/// When the database is away.
pub async fn watch_capture(connection: &mut PgConnection, progress: &Progress) -> Result<(), sqlx::Error> {
    let fault = match capture::state(connection).await? {
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
    Ok(())
}
