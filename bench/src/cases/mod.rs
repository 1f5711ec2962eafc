//! What is measured. Each case takes all its variants once per repeat, next to each other: their ratios then share
//! the noise of the machine.

mod capture;
pub(crate) mod changes;
mod drain;
pub(crate) mod hand_over;
mod held;
mod limits;
mod operate;
pub(crate) mod operators;
pub(crate) mod reads;
pub(crate) mod soak;
mod steady;

use common::process::console;

use crate::{
    build::Build,
    environment::{Environment, add_timeline},
    plan::Plan,
    results::Sample,
};

/// A seeded source database, see [`Environment::seed`].
pub(crate) const SEED: &str = "seed";

/// The same in one database with Threadline's tables, for the limit.
const SEED_WITH_TIMELINE: &str = "seed_with_timeline";

/// Fewer rows, for peers that take one job at a time.
const SEED_OF_JOBS: &str = "seed_of_jobs";

/// The cases, by the word that selects them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// Inserts a second, with and without capture.
    Capture,
    /// Changes of rows that are recorded in the timeline, by operation and in every way, beside other projects.
    Changes,
    /// Draining the log into the stream, beside raw publishing; and from there into the timeline, beside one statement.
    Drain,
    /// Both at once, beside peers; and on what they have written an operator's commands.
    EndToEnd,
    /// Latency under a steady load.
    Steady,
    /// The same with a transaction held open.
    Held,
    /// Pages, histories and the live tail of a long timeline, beside the Elixir library's statements; and what they cost writers.
    Reads,
    /// Exports, a purge beside writers, receipts and bundles of a long timeline, beside `copy` and the Elixir library's statements.
    Handover,
    /// Pages of the operator surface for many at a time, beside writers; and what they cost those.
    Operators,
}

/// Takes samples and keeps them.
pub(crate) struct Bench<'a> {
    pub(crate) environment: &'a mut Environment,
    pub(crate) plan: Plan,
    /// The present one, and an earlier one where that was asked for.
    pub(crate) builds: Vec<Build>,
    pub(crate) samples: Vec<Sample>,
}

impl Bench<'_> {
    /// Makes what samples are copied from.
    pub(crate) async fn prepare(&self, cases: &[Case]) -> anyhow::Result<()> {
        let is_draining = cases.contains(&Case::Drain) || cases.contains(&Case::EndToEnd);
        for build in self.builds.iter().skip(1) {
            build.install(self.environment).await?;
            if is_draining {
                self.environment.seed(build, SEED, self.plan.rows).await?;
            }
        }
        let current = Build::current();
        if is_draining {
            say(&format!("writing {} audit rows", self.plan.rows));
            self.environment.seed(&current, SEED, self.plan.rows).await?;
            let url =
                self.environment.sandbox.postgres.create_database(SEED_WITH_TIMELINE, Some(SEED)).await?;
            add_timeline(&url).await?;
        }
        if cases.contains(&Case::EndToEnd) {
            self.environment.seed(&current, SEED_OF_JOBS, self.plan.jobs).await?;
        }
        Ok(())
    }

    /// One repeat of one case.
    pub(crate) async fn take(&mut self, case: Case, repeat: u32) -> anyhow::Result<()> {
        match case {
            Case::Capture => capture::take(self, repeat).await,
            Case::Changes => changes::take(self, repeat).await,
            Case::Drain => drain::take(self, repeat).await,
            Case::EndToEnd => drain::end_to_end(self, repeat).await,
            Case::Steady => steady::take(self, repeat).await,
            Case::Held => held::take(self, repeat).await,
            Case::Reads => reads::take(self, repeat).await,
            Case::Handover => hand_over::take(self, repeat).await,
            Case::Operators => operators::take(self, repeat).await,
        }
    }

    /// Keeps a sample and says so.
    async fn keep(&mut self, sample: Sample) -> anyhow::Result<()> {
        let latency = sample
            .latency
            .map(|latency| format!(", p50 {:.1} ms, p99 {:.1} ms", latency.p50, latency.p99))
            .unwrap_or_default();
        let void = sample.void.as_ref().map(|why| format!(", VOID: {why}")).unwrap_or_default();
        say(&format!("{} / {}: {:.0} rows/s{latency}{void}", sample.case, sample.variant, sample.rate()));
        self.samples.push(sample);
        for statement in self.environment.statements().await? {
            say(&format!("    {statement}"));
        }
        Ok(())
    }
}

/// A line for whoever waits.
pub(crate) fn say(line: &str) {
    console::print(&format!("{line}\n"));
}
