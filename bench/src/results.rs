//! What was measured, as it is written to disk and read by the report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One run of the bench.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `smoke` or `full`.
    pub(crate) form: String,
    /// RFC 3339.
    pub(crate) begun: String,
    /// Seconds, all of it.
    pub(crate) took: f64,
    /// What it ran on.
    pub(crate) machine: Machine,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<Sample>,
}

/// What it ran on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's own name.
    pub(crate) processor: String,
    /// How many cores this machine may use.
    pub(crate) cores: usize,
    /// GiB of memory.
    pub(crate) memory_gib: f64,
    /// The kernel.
    pub(crate) system: String,
    /// As the server says.
    pub(crate) postgres: String,
    /// As the server says.
    pub(crate) nats: String,
    /// Commits that one connection can flush in a second: what the disk is worth.
    pub(crate) flushes_per_second: f64,
    /// The commit that was built, and whether the tree was clean.
    pub(crate) revision: String,
}

/// One variant of one case, once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Such as `relay`.
    pub(crate) case: String,
    /// Such as `pipeline`, `limit`, or a peer's name.
    pub(crate) variant: String,
    /// Counts from 0. Variants of one repeat ran next to each other.
    pub(crate) repeat: u32,
    /// Rows that arrived where they should, counted in the databases.
    pub(crate) rows: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// From commit to visible in the timeline.
    pub(crate) latency: Option<Latency>,
    /// By process: `publisher`, `consumer`, `postgres`, `nats-server`, `bench`, or a peer's name.
    pub(crate) processes: BTreeMap<String, Usage>,
    /// Bytes of write-ahead log.
    pub(crate) wal_bytes: Option<u64>,
    /// Left in the tables of the outbox, or of the queue.
    pub(crate) dead_tuples: Option<u64>,
    /// Why the sample does not count: source and timeline differ, for example.
    pub(crate) void: Option<String>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half of all rows were faster.
    pub(crate) p50: f64,
    /// 99 of 100 were faster.
    pub(crate) p99: f64,
}

/// What a process took; all of one name together.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds of processor time, user and system.
    pub(crate) cpu_seconds: f64,
    /// MiB at the peak, of the largest of them. Of PostgreSQL: all its processes, without shared memory.
    pub(crate) peak_mib: f64,
}

impl Sample {
    /// Rows a second.
    pub(crate) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "fewer rows than 2^52")]
        let rows = self.rows as f64;
        rows / self.seconds
    }

    /// Something per 100,000 rows.
    pub(crate) fn per_100k(&self, amount: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "fewer rows than 2^52")]
        let rows = self.rows as f64;
        amount * 100_000.0 / rows
    }
}
