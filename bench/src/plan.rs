//! How much of everything: a smoke run takes a few minutes, a full one is what is published.

use std::time::Duration;

/// Sizes of one form of the bench.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Its name in the results.
    pub(crate) form: &'static str,
    /// How often everything is done; medians are reported.
    pub(crate) repeats: u32,
    /// Rows of a drain.
    pub(crate) rows: u64,
    /// Jobs of a drain by a peer that takes one at a time.
    pub(crate) jobs: u64,
    /// Numbers of writers in the capture case.
    pub(crate) writers: &'static [u32],
    /// How long writers of the capture case write.
    pub(crate) capture: Duration,
    /// Single rows of each operation in the case of recorded changes.
    pub(crate) changes: u64,
    /// Changes that the timeline holds before.
    pub(crate) history: u64,
    /// Changes of the timeline that is read.
    pub(crate) timeline: u64,
    /// Reads of each question, for its percentiles.
    pub(crate) reads: u32,
    /// How long the library's reads of a question are measured, where they take longer.
    pub(crate) read_time: Duration,
    /// Which page is far behind the first one.
    pub(crate) deep: u32,
    /// Batches that are written with and without what is there for reads.
    pub(crate) batches: u32,
    /// Changes of the timeline that is exported, purged and sealed.
    pub(crate) handover: u64,
    /// How long the purge beside writers runs at most.
    pub(crate) purge: Duration,
    /// How long the steady load lasts, behind [`Plan::warm_up`].
    pub(crate) steady: Duration,
    /// How long the load lasts in each variant of the held transaction.
    pub(crate) held: Duration,
    /// Steady load before anything is measured.
    pub(crate) warm_up: Duration,
}

impl Plan {
    /// Shows that everything works, and roughly where it stands.
    pub(crate) const SMOKE: Self = Self {
        form: "smoke",
        repeats: 1,
        rows: 50_000,
        jobs: 4_000,
        writers: &[8],
        capture: Duration::from_millis(1_500),
        changes: 800,
        history: 40_000,
        timeline: 100_000,
        reads: 200,
        read_time: Duration::from_secs(2),
        deep: 100,
        batches: 12,
        handover: 50_000,
        purge: Duration::from_secs(10),
        steady: Duration::from_secs(5),
        held: Duration::from_secs(4),
        warm_up: Duration::from_secs(1),
    };

    /// What the committed report is made from.
    pub(crate) const FULL: Self = Self {
        form: "full",
        repeats: 3,
        rows: 1_000_000,
        jobs: 20_000,
        writers: &[1, 8, 16],
        capture: Duration::from_secs(4),
        changes: 16_000,
        history: 200_000,
        timeline: 1_000_000,
        reads: 200,
        read_time: Duration::from_secs(10),
        deep: 1_000,
        batches: 80,
        handover: 1_000_000,
        purge: Duration::from_secs(180),
        steady: Duration::from_secs(30),
        held: Duration::from_secs(12),
        warm_up: Duration::from_secs(3),
    };
}
