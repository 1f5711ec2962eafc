//! Workers that take rows from a queue table, forward them, and commit the deletion.

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BATCH, Pause, WORKERS, connect, together};
use crate::forward::{Forward, Route};

pub(super) const LACKS: &str = "Every row is written and deleted again, so each leaves a dead tuple; a transaction on \
    the source stays open while the timeline is written, and holds back vacuum if the timeline is slow; two workers \
    pass each other, so the order is lost; a row that cannot be forwarded stops its batch for ever (its code: \
    peers/skip_locked.rs).";

pub(super) const TABLES: &str = "
    create table if not exists public.bench_queue (
        id             bigint generated always as identity primary key,
        audit_event_id uuid not null
    )";

pub(super) const FILL: &str = "
    insert into public.bench_queue (audit_event_id) select id from public.audit_events order by inserted_at, id";

pub(super) const ENQUEUE: &str = "insert into public.bench_queue (audit_event_id) values (new.id)";

pub(super) async fn work(source_url: &str, route: Route, stop: CancellationToken) -> anyhow::Result<()> {
    let stop = stop.child_token();
    let mut workers = Vec::with_capacity(WORKERS);
    for _ in 0..WORKERS {
        let queue = connect(source_url).await?;
        workers.push(tokio::spawn(run(queue, route.connect().await?, stop.clone())));
    }
    together(workers, &stop).await
}

async fn run(mut queue: PgConnection, mut forward: Forward, stop: CancellationToken) -> anyhow::Result<()> {
    let mut pause = Pause::new();
    while !stop.is_cancelled() {
        let taken = round(&mut queue, &mut forward).await?;
        pause.after(taken, &stop).await;
    }
    queue.close().await.context("leaving the queue")
}

/// Takes a batch, forwards it, commits. Ended before the commit, by whatever, the rows are in the queue again.
async fn round(queue: &mut PgConnection, forward: &mut Forward) -> anyhow::Result<usize> {
    let mut transaction = queue.begin().await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "delete from public.bench_queue where id = any (array(
             select id from public.bench_queue order by id limit $1 for update skip locked))
         returning audit_event_id",
    )
    .bind(BATCH)
    .fetch_all(&mut *transaction)
    .await
    .context("taking from the queue")?;
    if !ids.is_empty() {
        forward.rows(&ids).await?;
    }
    transaction.commit().await.context("committing what was forwarded")?;
    Ok(ids.len())
}
