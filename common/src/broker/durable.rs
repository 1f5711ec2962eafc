//! One durable pull consumer per forwarder; every process shares it.

use async_nats::jetstream::{
    consumer::{AckPolicy, Config, Consumer, DeliverPolicy, FromConsumer as _, Info, pull},
    stream::Stream,
};
use futures::TryStreamExt;
use time::OffsetDateTime;

use super::{BrokerError, echo::Echo, microseconds};
use crate::{identifier::ForwarderId, outbox::rounds::StreamPosition, settings::ConsumerSettings};

pub(super) const PREFIX: &str = "forward-";

/// The durable of a forwarder.
#[must_use]
pub fn durable_name(id: &ForwarderId) -> String {
    format!("{PREFIX}{id}")
}

/// Creates the durable when it is missing, adjusts what may be adjusted, and compares the rest.
///
/// A missing one begins at the start of the stream: history is delivered, however late the forwarder was configured.
/// One that was there before, at `floor`, goes on behind it, unless the stream is another one now.
///
/// # Errors
/// When it exists and is not fit, or the broker is away.
pub async fn ensure_durable(
    stream: &Stream,
    id: &ForwarderId,
    settings: &ConsumerSettings,
    floor: Option<StreamPosition>,
) -> Result<Consumer<pull::Config>, BrokerError> {
    let name = durable_name(id);
    let mut wanted = wanted(id, settings);
    let existing: Result<Consumer<pull::Config>, _> = stream.get_consumer(&name).await;
    let consumer = match existing {
        Ok(consumer)
            if consumer.cached_info().config.ack_wait == wanted.ack_wait
                && consumer.cached_info().config.max_ack_pending == wanted.max_ack_pending =>
        {
            consumer
        }
        // Creating under the same name updates, on every server since 2.9.
        Ok(consumer) => {
            wanted.deliver_policy = consumer.cached_info().config.deliver_policy;
            create(stream, &wanted).await?
        }
        Err(_) => {
            wanted.deliver_policy = begin_after(stream, floor).await?;
            create(stream, &wanted).await?
        }
    };
    compare(&name, &wanted, &consumer.cached_info().config)?;
    Ok(consumer)
}

/// What the durable of a forwarder should be like.
pub(super) fn wanted(id: &ForwarderId, settings: &ConsumerSettings) -> pull::Config {
    pull::Config {
        durable_name: Some(durable_name(id)),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: settings.ack_wait,
        // The broker never gives up; attempts are counted in outbox.failures.
        max_deliver: -1,
        max_ack_pending: settings.max_ack_pending,
        ..pull::Config::default()
    }
}

/// Compares a durable with what it should be like.
pub(super) fn compare(name: &str, wanted: &pull::Config, found: &Config) -> Result<(), BrokerError> {
    let begins = matches!(found.deliver_policy, DeliverPolicy::All | DeliverPolicy::ByStartSequence { .. });
    Echo::default()
        .equal("deliver_policy from the start or from a sequence", &true, &begins)
        .equal("deliver_subject", &None, &found.deliver_subject)
        .equal("ack_policy", &wanted.ack_policy, &found.ack_policy)
        .equal("ack_wait", &wanted.ack_wait, &found.ack_wait)
        .equal("max_deliver", &wanted.max_deliver, &found.max_deliver)
        .equal("filter_subject", &wanted.filter_subject, &found.filter_subject)
        .equal("backoff", &wanted.backoff, &found.backoff)
        .equal("headers_only", &wanted.headers_only, &found.headers_only)
        .at_least("max_ack_pending", &wanted.max_ack_pending, &found.max_ack_pending)
        .verdict(
            &format!("consumer {name}"),
            "Remove what set it differently; `nats consumer rm` and a restart make it anew from the stream's start, \
             which repeats deliveries without effect",
        )
}

async fn create(stream: &Stream, config: &pull::Config) -> Result<Consumer<pull::Config>, BrokerError> {
    stream.create_consumer(config.clone()).await.map_err(|error| BrokerError::call("create consumer", &error))
}

async fn begin_after(stream: &Stream, floor: Option<StreamPosition>) -> Result<DeliverPolicy, BrokerError> {
    let Some(floor) = floor.filter(|floor| floor.sequence > 0) else {
        return Ok(DeliverPolicy::All);
    };
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    if microseconds(info.created) != floor.created {
        return Ok(DeliverPolicy::All);
    }
    // Behind its end, nats-server 2.9 would skip what is published up to there.
    let start_sequence = floor.sequence.min(info.state.last_sequence) + 1;
    Ok(DeliverPolicy::ByStartSequence { start_sequence })
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

impl Floor {
    /// Whose durable it is.
    #[must_use]
    pub fn forwarder(&self) -> Option<ForwarderId> {
        self.durable.strip_prefix(PREFIX)?.parse().ok()
    }
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

/// Removes a durable. An old server may fail to tidy up its disk behind one that it has removed, above all when somebody
/// makes it anew at that moment: what counts is whether this one is gone.
///
/// # Errors
/// When it is still there, or the broker is away.
pub async fn remove_durable(stream: &Stream, name: &str) -> Result<(), BrokerError> {
    let before = created(stream, name).await?;
    let Err(error) = stream.delete_consumer(name).await else {
        return Ok(());
    };
    if before.is_some() && created(stream, name).await? != before {
        tracing::debug!(durable = name, %error, "it is gone all the same");
        return Ok(());
    }
    Err(BrokerError::call("delete consumer", &error))
}

/// When a durable was created; `None` when there is none.
async fn created(stream: &Stream, name: &str) -> Result<Option<OffsetDateTime>, BrokerError> {
    let consumers: Vec<Info> = stream
        .consumers()
        .try_collect()
        .await
        .map_err(|error| BrokerError::call("list consumers", &error))?;
    Ok(consumers.into_iter().find(|info| info.name == name).map(|info| info.created))
}

/// Makes durables anew that stand ahead of their stream, which happens when it has lost its end: nats-server 2.9 would
/// skip whatever is published up to where they stand. They go on behind what they had settled. Somebody else's consumers
/// are left alone.
///
/// # Errors
/// When the broker is away.
pub async fn reset_durables_ahead(stream: &Stream) -> Result<(), BrokerError> {
    let error = |error: &dyn std::fmt::Display| BrokerError::call("list consumers", &error.to_string());
    let last = stream
        .get_info()
        .await
        .map_err(|error| BrokerError::call("stream info", &error))?
        .state
        .last_sequence;
    let consumers: Vec<Info> = stream.consumers().try_collect().await.map_err(|failed| error(&failed))?;
    let ahead = |info: &Info| info.name.starts_with(PREFIX) && info.delivered.stream_sequence > last;
    for info in consumers.into_iter().filter(ahead) {
        let start_sequence = info.ack_floor.stream_sequence.min(last) + 1;
        tracing::warn!(
            durable = info.name,
            last_sequence = last,
            start_sequence,
            "stands ahead of its stream: made anew"
        );
        remove_durable(stream, &info.name).await?;
        let begin = DeliverPolicy::ByStartSequence { start_sequence };
        let config = pull::Config::try_from_consumer_config(info.config).map_err(|failed| error(&failed))?;
        create(stream, &pull::Config { deliver_policy: begin, ..config }).await?;
    }
    Ok(())
}
