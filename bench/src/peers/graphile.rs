//! The crate `graphile_worker`: one job per row, as its guide sets it up for many small jobs.

use std::time::Duration;

use anyhow::Context as _;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{CONNECTIONS, audit_ids};
use crate::forward::{Forwards, Route};

pub(super) const LACKS: &str = "A job is inserted, updated when it is taken and deleted when it is done (its \
    batch_get_jobs_with_filter and CompletionBatcher), so each leaves two dead tuples; a crash between the insert and \
    the deletion runs the job again, and only after recovery, which is off by default, has found the dead worker (its \
    guide, Worker Recovery); every row pays for its own reload and its own commit in the timeline.";

/// The crate's own function, in the row's transaction.
pub(super) const ENQUEUE: &str = "perform graphile_worker.add_job('forward_audit_event', \
    json_build_object('audit_event_id', new.id))";

/// The crate's default.
const SCHEMA: &str = "graphile_worker";

/// Jobs added by one call.
const ADDED: usize = 1_000;

/// Jobs that run at a time. Of 8 to 64 the fastest on two cores, by little from 32 on.
const CONCURRENCY: usize = 64;

/// Local queues, which fetch several jobs with one statement. Without one, a handler takes a job per notification or poll:
/// a backlog of 5,000 jobs lasted for more than 100 s.
const QUEUES: usize = 4;

/// Jobs that each fetches.
const FETCHED: usize = 125;

/// How long a local queue may rest on what it has fetched. By default five minutes: a queue whose last job is taken by a
/// handler before it has noted the arrival (`received_jobs` in its cache.rs) rests that long on nothing, and all new jobs
/// with it; with one queue that took one run of 40 of this module's test. With this, and with others beside it, the peer
/// is not measured by that.
const TTL: Duration = Duration::from_secs(1);

/// How long a completion waits for others; the crate recommends 1 to 5 ms.
const COMPLETION_DELAY: Duration = Duration::from_millis(5);

/// The reference, and no more: the row is reloaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ForwardAuditEvent {
    audit_event_id: Uuid,
}

impl TaskHandler for ForwardAuditEvent {
    const IDENTIFIER: &'static str = "forward_audit_event";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        let forwards = context.get_ext::<Forwards>().ok_or("the worker was given no forwards")?;
        forwards.row(self.audit_event_id).await.map_err(|error| format!("{error:#}"))
    }
}

pub(super) async fn prepare(source_url: &str) -> anyhow::Result<()> {
    let pool = pool(source_url).await?;
    WorkerUtils::new(pool.clone(), SCHEMA).migrate().await.context("graphile_worker's migrations")?;
    pool.close().await;
    Ok(())
}

pub(super) async fn enqueue_all(source_url: &str) -> anyhow::Result<u64> {
    let ids = audit_ids(source_url).await?;
    let pool = pool(source_url).await?;
    let utils = WorkerUtils::new(pool.clone(), SCHEMA);
    let spec = JobSpec::default();
    let mut added = 0;
    for ids in ids.chunks(ADDED) {
        let jobs: Vec<(ForwardAuditEvent, &JobSpec)> =
            ids.iter().map(|id| (ForwardAuditEvent { audit_event_id: *id }, &spec)).collect();
        added += utils.add_jobs(&jobs).await.context("graphile_worker's add_jobs")?.len();
    }
    pool.close().await;
    Ok(u64::try_from(added)?)
}

pub(super) async fn work(source_url: &str, route: Route, stop: CancellationToken) -> anyhow::Result<()> {
    let forwards = Forwards::connect(route, CONNECTIONS).await?;
    let pool = pool(source_url).await?;
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .schema(SCHEMA)
        .concurrency(CONCURRENCY)
        .local_queue(LocalQueueConfig::default().with_size(FETCHED).with_queue_count(QUEUES).with_ttl(TTL))
        .complete_job_batch_delay(COMPLETION_DELAY)
        .fail_job_batch_delay(COMPLETION_DELAY)
        .listen_os_shutdown_signals(false)
        .shutdown_signal(stop.cancelled_owned())
        .add_extension(forwards)
        .define_job::<ForwardAuditEvent>()
        .init()
        .await
        .context("graphile_worker's start")?;
    worker.run().await.context("graphile_worker's worker")?;
    pool.close().await;
    Ok(())
}

/// As large as the crate's own default.
async fn pool(source_url: &str) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(20).connect(source_url).await;
    pool.context("the source database of graphile_worker: is the server up?")
}
