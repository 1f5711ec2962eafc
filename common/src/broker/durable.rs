//! One durable pull consumer per forwarder; every process shares it.

use async_nats::jetstream::{
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    stream::Stream,
};
use futures::TryStreamExt;

use super::{BrokerError, echo::Echo};
use crate::{identifier::ForwarderId, settings::ConsumerSettings};

const PREFIX: &str = "forward-";

/// The durable of a forwarder.
#[must_use]
pub fn durable_name(id: &ForwarderId) -> String {
    format!("{PREFIX}{id}")
}

/// Creates the durable when it is missing, adjusts what may be adjusted, and compares the rest.
///
/// # Errors
/// When it exists and is not fit, or the broker is away.
pub async fn ensure_durable(
    stream: &Stream,
    id: &ForwarderId,
    settings: &ConsumerSettings,
) -> Result<Consumer<pull::Config>, BrokerError> {
    let name = durable_name(id);
    let wanted = pull::Config {
        durable_name: Some(name.clone()),
        // From the start: history is delivered, however late the forwarder was configured.
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // The broker never gives up; attempts are counted in outbox.failures.
        max_deliver: -1,
        max_ack_pending: settings.max_ack_pending,
        ..pull::Config::default()
    };
    let existing: Result<Consumer<pull::Config>, _> = stream.get_consumer(&name).await;
    let consumer = match existing {
        Ok(consumer)
            if consumer.cached_info().config.ack_wait == wanted.ack_wait
                && consumer.cached_info().config.max_ack_pending == wanted.max_ack_pending =>
        {
            consumer
        }
        // Creating under the same name updates, on every server since 2.9.
        _ => stream
            .create_consumer(wanted.clone())
            .await
            .map_err(|error| BrokerError::call("create consumer", &error))?,
    };
    let found = &consumer.cached_info().config;
    Echo::default()
        .equal("deliver_policy", &wanted.deliver_policy, &found.deliver_policy)
        .equal("ack_policy", &wanted.ack_policy, &found.ack_policy)
        .equal("ack_wait", &wanted.ack_wait, &found.ack_wait)
        .equal("max_deliver", &wanted.max_deliver, &found.max_deliver)
        .equal("filter_subject", &wanted.filter_subject, &found.filter_subject)
        .equal("backoff", &wanted.backoff, &found.backoff)
        .at_least("max_ack_pending", &wanted.max_ack_pending, &found.max_ack_pending)
        .verdict(
            &format!("consumer {name}"),
            "Remove what set it differently; `nats consumer rm` and a restart make it anew from the stream's start, \
             which repeats deliveries without effect",
        )?;
    Ok(consumer)
}

/// How far one durable has settled everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The durable.
    pub durable: String,
    /// Everything at or below this stream sequence is settled.
    pub sequence: u64,
    /// References not yet delivered, and delivered but not settled.
    pub pending: u64,
}

/// The floors of all forwarders' durables on the stream.
///
/// # Errors
/// When the broker is away.
pub async fn floors(stream: &Stream) -> Result<Vec<Floor>, BrokerError> {
    stream
        .consumers()
        .map_ok(|info| Floor {
            sequence: info.ack_floor.stream_sequence,
            pending: info.num_pending + info.num_ack_pending as u64,
            durable: info.name,
        })
        .try_filter(|floor| std::future::ready(floor.durable.starts_with(PREFIX)))
        .try_collect()
        .await
        .map_err(|error| BrokerError::call("list consumers", &error))
}

/// Removes durables that stand ahead of their stream, which happens when it has lost its end: nats-server 2.9 would skip
/// whatever is published up to where they stand. Their consumers make them anew from the stream's start.
///
/// # Errors
/// When the broker is away.
pub async fn drop_durables_ahead(stream: &Stream) -> Result<(), BrokerError> {
    let last = stream
        .get_info()
        .await
        .map_err(|error| BrokerError::call("stream info", &error))?
        .state
        .last_sequence;
    let ahead: Vec<String> = stream
        .consumers()
        .try_filter(|info| std::future::ready(info.delivered.stream_sequence > last))
        .map_ok(|info| info.name)
        .try_collect()
        .await
        .map_err(|error| BrokerError::call("list consumers", &error))?;
    for durable in ahead {
        tracing::warn!(durable, last_sequence = last, "stands ahead of its stream: made anew");
        stream
            .delete_consumer(&durable)
            .await
            .map_err(|error| BrokerError::call("delete consumer", &error))?;
    }
    Ok(())
}
