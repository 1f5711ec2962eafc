//! The crate `pgmq`: messages that are read, and deleted, many at a time.

use std::time::Duration;

use anyhow::Context as _;
use pgmq::PGMQueueExt;
use serde::Deserialize;
use sqlx_of_peers::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BATCH, WORKERS, together};
use crate::forward::{Forward, Route};

pub(super) const LACKS: &str = "A message is inserted, updated when it is read and deleted when it is done (its SQL \
    functions read and delete), so each leaves two dead tuples; a batch that takes longer than its visibility timeout, \
    or whose worker dies, is read again, by somebody else at the same time in the first case; it is asked in a loop, \
    not told, that there are messages (its read_with_poll).";

/// Both are the library's own functions.
pub(super) const FILL: &str = "select pgmq.send_batch('audit_events', array(
    select jsonb_build_object('audit_event_id', id) from public.audit_events order by inserted_at, id))";

pub(super) const ENQUEUE: &str =
    "perform pgmq.send('audit_events', jsonb_build_object('audit_event_id', new.id))";

const QUEUE: &str = "audit_events";

/// Seconds until a message that was read and not deleted may be read again.
const VISIBLE_AFTER: i32 = 30;

/// How long the server waits for messages before it answers that there are none; whole seconds.
const POLL: Duration = Duration::from_secs(1);

/// How often it looks meanwhile. By default every 100 ms.
const INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, Deserialize)]
struct Reference {
    audit_event_id: Uuid,
}

pub(super) async fn prepare(source_url: &str) -> anyhow::Result<()> {
    let queue = connect(source_url).await?;
    queue.install_sql_from_embedded().await.context("pgmq's SQL")?;
    queue.create(QUEUE).await.context("pgmq's queue")?;
    queue.connection.close().await;
    Ok(())
}

pub(super) async fn work(source_url: &str, route: Route, stop: CancellationToken) -> anyhow::Result<()> {
    let stop = stop.child_token();
    let mut workers = Vec::with_capacity(WORKERS);
    for _ in 0..WORKERS {
        let queue = connect(source_url).await?;
        workers.push(tokio::spawn(run(queue, route.connect().await?, stop.clone())));
    }
    together(workers, &stop).await
}

async fn run(queue: PGMQueueExt, mut forward: Forward, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        round(&queue, &mut forward).await?;
    }
    queue.connection.close().await;
    Ok(())
}

/// Reads a batch, forwards it, deletes it. Ended before the deletion, it is read again.
async fn round(queue: &PGMQueueExt, forward: &mut Forward) -> anyhow::Result<()> {
    let messages = queue
        .read_batch_with_poll::<Reference>(QUEUE, VISIBLE_AFTER, BATCH, Some(POLL), Some(INTERVAL))
        .await
        .context("pgmq's read_batch_with_poll")?
        .unwrap_or_default();
    if messages.is_empty() {
        return Ok(());
    }
    let (numbers, ids): (Vec<i64>, Vec<Uuid>) =
        messages.into_iter().map(|message| (message.msg_id, message.message.audit_event_id)).unzip();
    forward.rows(&ids).await?;
    queue.delete_batch(QUEUE, &numbers).await.context("pgmq's delete_batch")?;
    Ok(())
}

async fn connect(source_url: &str) -> anyhow::Result<PGMQueueExt> {
    let pool = PgPoolOptions::new().max_connections(1).connect(source_url).await;
    Ok(PGMQueueExt::new_with_pool(pool.context("the source database of pgmq: is the server up?")?).await)
}
