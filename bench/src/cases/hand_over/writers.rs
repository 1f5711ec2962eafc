//! An application that writes captured rows, whatever else is done with the timeline.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::cases::reads::timing::Times;

/// Connections that write.
const WRITERS: u32 = 8;

/// Changes a second, by all of them.
const RATE: u32 = 1_000;

/// Ids of one stretch of writing.
const IDS: u64 = 1_000_000_000;

/// When a write began, and how long it took.
type Write = (Instant, Duration);

/// An application: one row a transaction, at a steady rate.
pub(in crate::cases) struct Writers {
    stop: CancellationToken,
    running: Vec<JoinHandle<anyhow::Result<Vec<Write>>>>,
}

impl Writers {
    pub(in crate::cases) async fn start(url: &str, stretch: u64) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        // Each stretch begins behind one: a checkpoint is nobody's in particular.
        connection.execute("checkpoint").await?;
        connection.close().await?;
        let mut connections = Vec::new();
        for _ in 0..WRITERS {
            connections.push(PgConnection::connect(url).await?);
        }
        let stop = CancellationToken::new();
        let begun = Instant::now();
        let running = connections.into_iter().zip(0..).map(|(connection, number)| {
            let first = IDS * (stretch * u64::from(WRITERS) + u64::from(number));
            let pace = Duration::from_secs(1) * WRITERS / RATE;
            // Spread out: writers that tick together would write in bursts.
            let first_tick = begun + pace * number / WRITERS;
            tokio::spawn(write(connection, first, (first_tick, pace), stop.clone()))
        });
        Ok(Self { running: running.collect(), stop })
    }

    /// What was written, to the last row.
    pub(in crate::cases) async fn stop(self) -> anyhow::Result<Written> {
        self.stop.cancel();
        let mut written = Written(Vec::new());
        for writes in try_join_all(self.running).await? {
            written.0.extend(writes?);
        }
        Ok(written)
    }
}

/// Every write.
pub(in crate::cases) struct Written(Vec<Write>);

impl Written {
    /// How many rows.
    pub(in crate::cases) fn rows(&self) -> u64 {
        self.0.len() as u64
    }

    /// How long those took that were due within these times.
    pub(in crate::cases) fn times(&self, (from, until): (Instant, Instant)) -> Times {
        let mut times = Times::default();
        for (_, taken) in self.0.iter().filter(|(at, _)| (from..until).contains(at)) {
            times.add(*taken);
        }
        times
    }
}

async fn write(
    mut connection: PgConnection,
    first: u64,
    (first_tick, pace): (Instant, Duration),
    stop: CancellationToken,
) -> anyhow::Result<Vec<Write>> {
    let mut ticker = interval_at(first_tick.into(), pace);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut writes, mut ended) = (Vec::<Write>::new(), first_tick);
    while !stop.is_cancelled() {
        let due = ticker.tick().await.into_std();
        // A write that waits for the one before is late from when it was due. That a timer is late is not the server's fault.
        let began = if ended > due { due } else { Instant::now() };
        let id = first + writes.len() as u64 + 1;
        sqlx::query("insert into accounts (id, status) values ($1, 'active')")
            .bind(id.cast_signed())
            .execute(&mut connection)
            .await?;
        ended = Instant::now();
        writes.push((began, ended - began));
    }
    connection.close().await?;
    Ok(writes)
}
