//! The timeline that these commands work on, the worker that the settings describe, and why they fail.

use std::path::PathBuf;

use anyhow::anyhow;
use sqlx::postgres::PgPoolOptions;
use threadline::{
    Timeline,
    export::jobs::{JobError, Worker},
    storage::Location,
};

use crate::cli::{
    answer::{Answer, Failure},
    database::{Interrupt, Rights, line, runtime},
    export::ExportSection,
    read::{check_timeline, safe},
    settings::Settings,
};

/// Connections: the one that reads, the one that renews the lease, and one to spare.
const CONNECTIONS: u32 = 3;

/// Does something with the timeline that the settings name.
pub(super) fn on_timeline(
    settings: Settings,
    work: impl AsyncFnOnce(&Timeline, &ExportSection, &mut Interrupt) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let Settings { options, schema, export, .. } = settings;
    let runtime = runtime()?;
    let answer = runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        tokio::select! {
            checked = check_timeline(&options, &schema) => checked?,
            () = interrupt.come() => return Err(interrupted()),
        }
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options);
        work(&Timeline::new(pool, schema), &export, &mut interrupt).await
    });
    runtime.shutdown_background();
    answer
}

/// The end of some work, unless a signal comes first.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, JobError>>,
    interrupt: &mut Interrupt,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done.map_err(failed),
        () = interrupt.come() => Err(interrupted()),
    }
}

pub(super) fn interrupted() -> Failure {
    Failure::Failed(anyhow!("interrupted"))
}

/// A worker in this folder, or in one below the place of temporary files.
pub(super) fn worker(
    timeline: &Timeline,
    section: &ExportSection,
    directory: Option<PathBuf>,
    allowed: &[Location],
) -> Worker {
    let directory = directory.unwrap_or_else(|| {
        let schema = timeline.schema().as_str();
        std::env::temp_dir().join(format!("threadline-exports-{}-{schema}", nobody_elses()))
    });
    let mut worker = Worker::new(timeline.clone(), directory)
        .storage(section.storage.settings())
        .sign_with(section.key.clone())
        .keep_for(section.keep());
    for location in section.storage.location.iter().chain(allowed) {
        worker = worker.allow(location.clone());
    }
    worker
}

/// The user: folders of temporary files are shared.
fn nobody_elses() -> String {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").map(|this| this.uid().to_string()).unwrap_or_default()
}

/// Refusals of what stands in the database or is stored: the same arguments may do another time.
const OF_STATE: [&str; 8] = [
    "job_state",
    "fetch_differs",
    "storage_denied",
    "storage_missing",
    "storage_unavailable",
    "storage_file",
    "table_unknown",
    "took_too_long",
];

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
pub(super) fn failed(error: JobError) -> Failure {
    match error.term() {
        Some(term) => {
            let words = safe(&format!("{term}: {}", errors::line(&error)));
            if OF_STATE.contains(&term) { Failure::Failed(anyhow!(words)) } else { Failure::Misused(words) }
        }
        None => Failure::Failed(anyhow!(safe(&line(&error, Rights::Exporter)))),
    }
}
