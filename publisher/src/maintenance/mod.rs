//! What the leader does alongside relaying, one file a duty; this file is the schedule.
//!
//! | duty | file |
//! |---|---|
//! | notice that the stream lost what it had acknowledged, or was recreated | `stream_check.rs` |
//! | report a stream that is smaller than the settings | `size_comparison.rs` |
//! | find what every forwarder has settled | `ack_floor.rs` |
//! | deliver events again whose retry is overdue | `overdue.rs` |
//! | prune the log, thin the rounds, store what is settled | `common::outbox::maintenance` |
//! | trim the stream, and its gauges | `trim.rs` |

mod ack_floor;
mod overdue;
mod size_comparison;
mod stream_check;
mod trim;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{Context as JetStream, stream::Stream},
};
use common::{
    broker,
    database::Database,
    failpoint,
    outbox::{
        maintenance::{
            self,
            retention::{self, AtRiskGauge},
        },
        reader::rounds::STREAM_READER,
    },
    session::Session,
    settings::{BrokerSettings, RelaySettings, SourceSettings},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::ack_floor::lowest_ack_floor;
use self::{size_comparison::SizeComparison, stream_check::StreamCheck};

/// The leader's housekeeping.
#[derive(Debug, Clone)]
pub(crate) struct Maintenance {
    /// The source.
    pub(crate) database: Database,
    /// The connection to the broker.
    pub(crate) client: Client,
    /// The broker.
    pub(crate) context: JetStream,
    /// The stream of references, by its name: another creation of it may take its place.
    pub(crate) stream: Stream,
    /// Intervals and retentions.
    pub(crate) relay: RelaySettings,
    /// How much of the stream stays behind the slowest consumer.
    pub(crate) replay_window: Duration,
    /// Where the sink looks up how far the stream has been trimmed.
    pub(crate) trimmed_below: Arc<AtomicU64>,
    /// The application's own retention.
    pub(crate) source: SourceSettings,
    /// How large the stream should be.
    pub(crate) broker: BrokerSettings,
}

/// What one leadership remembers from run to run.
#[derive(Debug, Default)]
struct Remembered {
    stream: StreamCheck,
    size: SizeComparison,
}

/// How a run ended.
enum RunEnd {
    Done,
    /// What the stream held must be published again, or its settings must be fixed before anything is: the relay begins again, and
    /// waits if necessary.
    StreamChanged,
}

impl Maintenance {
    /// Works at its interval until the leadership ends. A run that fails is logged and repeated at the next interval.
    pub(crate) async fn run(self, leading: CancellationToken) {
        // Should this task end by a panic, the leadership ends with it, and both begin again.
        let _ends_with_it = leading.clone().drop_guard();
        let mut remembered = Remembered::default();
        let at_risk = AtRiskGauge::new(&self.source);
        let mut interval = tokio::time::interval(self.relay.maintenance_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = leading.cancelled() => return,
                _ = interval.tick() => {}
            }
            let run = async {
                let mut connection = self.database.connect().await?;
                // Before anything needs the broker: while that is away the backlog grows.
                at_risk.update(&mut connection).await;
                self.run_once(&mut connection, &mut remembered).await
            };
            let run = async {
                tokio::time::timeout(maintenance::RUN_TIMEOUT, run).await.context("it took too long")?
            };
            tokio::select! {
                () = leading.cancelled() => return,
                result = run => match result {
                    Ok(RunEnd::Done) => {}
                    Ok(RunEnd::StreamChanged) => {
                        tracing::error!("the stream is not what it was: beginning again");
                        leading.cancel();
                    }
                    Err(error) => {
                        tracing::warn!(error = errors::line(error.as_ref()), "maintenance did not finish; it is tried again");
                    }
                }
            }
        }
    }

    async fn run_once(
        &self,
        connection: &mut Session,
        remembered: &mut Remembered,
    ) -> anyhow::Result<RunEnd> {
        let name = &self.stream.cached_info().config.name;
        let Some(expected) = remembered.stream.expect(connection, &self.context, name).await? else {
            return Ok(RunEnd::StreamChanged);
        };
        let generation = retention::generation(connection, STREAM_READER).await?;
        // A purge raises the floors beyond what was ever delivered. So they are read before the stream, and count only if the stream
        // is then found unchanged.
        let floors = broker::ack_floors(&self.stream).await;
        failpoint::pause("maintenance.floors_read").await;
        let Some(info) = expected.compare(connection, &self.context, &self.broker, name).await? else {
            return Ok(RunEnd::StreamChanged);
        };
        remembered.size.update(&self.broker, &info);
        let floor = lowest_ack_floor(&floors?, info.created);
        if let Some(floor) = floor {
            retention::settle(connection, STREAM_READER, generation, floor).await?;
        }
        overdue::requeue(connection).await?;
        maintenance::prune(connection, floor, self.relay.retention).await?;
        maintenance::thin(connection, STREAM_READER, self.relay.retention.max(self.replay_window)).await?;
        trim::trim(connection, &self.client, &self.stream, floor, self.replay_window, &self.trimmed_below)
            .await?;
        Ok(RunEnd::Done)
    }
}
