//! Pulling bounded batches.
//!
//! Only what fits in hand is asked for: one message first, waited for, then what else is there after the linger time.
//! Nothing is prefetched, so every delivered message is in work and its deadline is renewed with the others.

use std::time::Duration;

use async_nats::jetstream::{
    Message,
    consumer::{Consumer, pull},
};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long one request waits for a first message. Without one the request ends and a new one shows that the
/// consumer is still there.
const FIRST_WAIT: Duration = Duration::from_secs(3);

/// How long the rest of a batch may take. Giving up costs a redelivery, so not at the first hiccup.
const REST_MAX: Duration = Duration::from_secs(2);

/// Pulls up to `rows` messages; empty when there was none for a while, or at shutdown.
///
/// # Errors
/// When the broker is away or the consumer is gone.
pub async fn batch(
    consumer: &Consumer<pull::Config>,
    rows: usize,
    linger: Duration,
    shutdown: &CancellationToken,
) -> Result<Vec<Message>, async_nats::Error> {
    // Without heartbeats: in async-nats 0.51 they make a pending request miss its wake-up.
    let asked = Instant::now();
    let mut first = consumer.batch().max_messages(1).expires(FIRST_WAIT).messages().await?;
    let message = tokio::select! {
        biased;
        message = first.next() => message.transpose()?,
        () = shutdown.cancelled() => None,
    };
    let Some(message) = message else {
        // The server says when a request has expired; the client gives up on one that stays silent.
        if asked.elapsed() > FIRST_WAIT + Duration::from_secs(2) {
            return Err("the broker does not answer".into());
        }
        return Ok(Vec::new());
    };
    let mut batch = vec![message];
    if rows > 1 {
        // Waited out here and not by the server: nats-server 2.9 drops a request that expires within milliseconds
        // without a word, and the client then waits five seconds for one.
        tokio::time::sleep(linger).await;
        // On a connection that has gone silent the request has no end of its own. What is in hand is in hand; what was
        // under way comes again, and the next pull shows whether the broker is there.
        match timeout(REST_MAX, add_rest(consumer, rows - 1, &mut batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the rest of a batch could not be pulled"),
            Err(_) => tracing::warn!(pulled = batch.len(), "the broker fell silent in the middle of a batch"),
        }
    }
    Ok(batch)
}

/// Adds what is there now, up to `rows`.
async fn add_rest(
    consumer: &Consumer<pull::Config>,
    rows: usize,
    batch: &mut Vec<Message>,
) -> Result<(), async_nats::Error> {
    let mut rest = consumer.fetch().max_messages(rows).messages().await?;
    while let Some(message) = rest.next().await {
        batch.push(message?);
    }
    Ok(())
}
