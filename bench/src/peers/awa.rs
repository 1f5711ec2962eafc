//! The crate `awa`: one job per row, on its queue storage, which claims and completes in batches by itself.

use std::time::Duration;

use anyhow::Context as _;
use awa::{
    Client, InsertOpts, JobArgs, JobError, JobResult, QueueConfig, QueueStorage, QueueStorageConfig,
    model::{InsertParams, insert::params_with, migrations},
};
use serde::{Deserialize, Serialize};
use sqlx_of_peers::{PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{CONNECTIONS, audit_ids};
use crate::forward::{Forwards, Route};

pub(super) const LACKS: &str = "Adding a job holds a lock on its queue until the application commits, so transactions \
    that write audit rows wait for each other (its reserve_enqueue_seq; more enqueue_shards make it rarer); a crash \
    between the insert and the completion runs the job again once its heartbeat is stale (its README, Crash-safe \
    execution); every row pays for its own reload and its own commit in the timeline.";

/// The crate's own function, in the row's transaction: what its `insert` calls.
pub(super) const ENQUEUE: &str = "perform awa.insert_job_compat('forward_audit_event', 'audit', \
    jsonb_build_object('audit_event_id', new.id))";

const QUEUE: &str = "audit";

/// Jobs that are claimed at a time. Of 8 to 512 the fastest on two cores, with 511 no faster: a job waits longer for its
/// claim and its completion than for its forward. Both come in batches by default: claims of up to 512 jobs, completions of
/// up to 512 within 1 ms. The crate's default is 50.
const MAX_WORKERS: u32 = 256;

/// Jobs copied by one call.
const COPIED: usize = 5_000;

/// How long jobs that run may take when it is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// The reference, and no more: the row is reloaded.
#[derive(Debug, Clone, Serialize, Deserialize, JobArgs)]
#[awa(kind = "forward_audit_event")]
struct ForwardAuditEvent {
    audit_event_id: Uuid,
}

pub(super) async fn prepare(source_url: &str) -> anyhow::Result<()> {
    let pool = pool(source_url).await?;
    migrations::run(&pool).await.context("awa's migrations")?;
    // A worker would switch to it at its first start, if there are no jobs yet; here jobs come first.
    storage()?.install(&pool).await.context("awa's queue storage")?;
    pool.close().await;
    Ok(())
}

pub(super) async fn enqueue_all(source_url: &str) -> anyhow::Result<u64> {
    let jobs = audit_ids(source_url).await?.into_iter().map(job).collect::<anyhow::Result<Vec<_>>>()?;
    let pool = pool(source_url).await?;
    let storage = storage()?;
    let mut copied = 0;
    for jobs in jobs.chunks(COPIED) {
        copied += storage.enqueue_params_copy(&pool, jobs).await.context("awa's enqueue_params_copy")?;
    }
    pool.close().await;
    Ok(u64::try_from(copied)?)
}

fn job(id: Uuid) -> anyhow::Result<InsertParams> {
    let options = InsertOpts { queue: QUEUE.to_owned(), ..InsertOpts::default() };
    params_with(&ForwardAuditEvent { audit_event_id: id }, options).context("a job of awa")
}

pub(super) async fn work(source_url: &str, route: Route, stop: CancellationToken) -> anyhow::Result<()> {
    let forwards = Forwards::connect(route, CONNECTIONS).await?;
    let pool = pool(source_url).await?;
    let queue = QueueConfig { max_workers: MAX_WORKERS, ..QueueConfig::default() };
    let client = Client::builder(pool.clone())
        .queue(QUEUE, queue)
        .register::<ForwardAuditEvent, _, _>(move |job, _| {
            let forwards = forwards.clone();
            async move {
                match forwards.row(job.audit_event_id).await {
                    Ok(()) => Ok(JobResult::Completed),
                    Err(error) => Err(JobError::retryable_msg(format!("{error:#}"))),
                }
            }
        })
        .build()
        .context("awa's settings")?;
    client.start().await.context("awa's start")?;
    stop.cancelled().await;
    client.shutdown(GRACE).await;
    pool.close().await;
    Ok(())
}

fn storage() -> anyhow::Result<QueueStorage> {
    QueueStorage::new(QueueStorageConfig::default()).context("awa's queue storage")
}

/// For claims, completions and upkeep; handlers have connections of their own.
async fn pool(source_url: &str) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new().max_connections(20).connect(source_url).await;
    pool.context("the source database of awa: is the server up?")
}
