//! Pulling bounded batches.
//!
//! Only what fits in hand is asked for: one message first, waited for, then what else is there after the linger time.
//! Nothing is prefetched, so every delivered message is in work and its deadline is renewed with the others.

use std::time::Duration;

use async_nats::jetstream::{
    Message,
    consumer::{Consumer, pull},
};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

/// How long one request waits for a first message. Without one the request ends and a new one shows that the
/// consumer is still there.
const FIRST_WAIT: Duration = Duration::from_secs(3);

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
    let mut first = consumer.batch().max_messages(1).expires(FIRST_WAIT).messages().await?;
    let message = tokio::select! {
        biased;
        message = first.next() => message.transpose()?,
        () = shutdown.cancelled() => None,
    };
    let Some(message) = message else {
        return Ok(Vec::new());
    };
    let mut batch = vec![message];
    if rows > 1 {
        // Waited out here and not by the server: nats-server 2.9 drops a request that expires within milliseconds
        // without a word, and the client then waits five seconds for one.
        tokio::time::sleep(linger).await;
        let rest = consumer.fetch().max_messages(rows - 1).messages().await?;
        batch.append(&mut rest.try_collect().await?);
    }
    Ok(batch)
}
