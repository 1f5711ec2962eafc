//! One durable pull consumer per forwarder; every process shares it.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, Consumer, DeliverPolicy, FromConsumer as _, Info, pull},
    stream::{ConsumerErrorKind, Stream},
};
use futures::TryStreamExt;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    BrokerError, BrokerObject,
    floor::{SettledFloor, begin_after},
    microseconds,
    rules::{FieldComparison, compare_fields},
    stored::{self, Stored},
    tables,
};
use crate::{identifier::ForwarderId, settings::ConsumerSettings};

pub(super) const PREFIX: &str = "forward-";

/// How long a durable is missed before it is made. A server shows a stream that it is still setting up; on nats-server 2.9 a durable
/// that is made meanwhile never works: it delivers nothing and responds to no request.
const SET_UP: Duration = Duration::from_millis(500);

/// The durable of a forwarder.
#[must_use]
pub fn durable_name(id: &ForwarderId) -> String {
    format!("{PREFIX}{id}")
}

/// Creates the durable when it is missing, adjusts what may be adjusted, and compares the rest.
///
/// A missing one begins at the start of the stream: history is delivered, however late the forwarder was configured.
/// One that was there before, at `floor`, continues behind it, unless the stream is another one now or holds something else there.
///
/// # Errors
/// When it exists and is not fit, or the broker is away.
pub async fn ensure_durable(
    context: &Context,
    stream: &Stream,
    id: &ForwarderId,
    settings: &ConsumerSettings,
    floor: Option<&SettledFloor>,
) -> Result<Consumer<pull::Config>, BrokerError> {
    let name = durable_name(id);
    let mut wanted = wanted(id, settings);
    let stream_name = &stream.cached_info().config.name;
    let last_sequence = || stored::last_sequence(context, stream_name);
    let mut found = stored::durable(context, stream_name, &name).await?;
    if found.is_none() {
        tokio::time::sleep(SET_UP).await;
        found = stored::durable(context, stream_name, &name).await?;
    }
    if let Some(found) = found {
        // Before anything is changed: creating under the same name would undo what an operator or another process has set.
        compare(&name, settings, 1, &found, last_sequence().await?)?;
        if !has_limits_of(&found, settings) {
            let begins = found.config.get("opt_start_seq").and_then(Value::as_u64);
            wanted.deliver_policy = begins.map_or(DeliverPolicy::All, |start_sequence| {
                DeliverPolicy::ByStartSequence { start_sequence }
            });
            // Updates, on every server since 2.9.
            create(stream, &wanted).await?;
        }
    } else {
        wanted.deliver_policy = begin_after(stream, floor).await?;
        create(stream, &wanted).await?;
    }
    let stored = stored::durable(context, stream_name, &name).await?;
    let stored = stored.ok_or_else(|| BrokerError::call("consumer info", &"the durable is gone again"))?;
    compare(&name, settings, 1, &stored, last_sequence().await?)?;
    stream.get_consumer(&name).await.map_err(|error| BrokerError::call("consumer info", &error))
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

/// Whether it has the limits that every start sets.
pub(super) fn has_limits_of(found: &Stored, settings: &ConsumerSettings) -> bool {
    let pending = found.config.get("max_ack_pending").and_then(Value::as_i64);
    found.duration("ack_wait") == settings.ack_wait && pending == Some(settings.max_ack_pending)
}

/// A durable that passes over messages, or has: fit again, it does not deliver them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippingDurable {
    /// When it was created: the one that is made in its place is not the same.
    pub created: OffsetDateTime,
    /// Where the stream ended when it was read.
    pub last_sequence: u64,
}

/// Compares a durable with what it should be like, except the limits that every start sets. Returns what of it is unusual and
/// makes nothing wrong.
pub(super) fn compare(
    name: &str,
    settings: &ConsumerSettings,
    replicas: usize,
    found: &Stored,
    last_sequence: u64,
) -> Result<Vec<String>, BrokerError> {
    let FieldComparison { unfit: mut differences, unfit_fields, unusual } =
        compare_fields(&tables::durable(settings, replicas), &found.config);
    let position = found.number("delivered.stream_seq").max(found.number("ack_floor.stream_seq"));
    let ahead = position > last_sequence;
    if ahead {
        differences.push(format!(
            "its position is {position}, and the stream ends at {last_sequence} (what is published up to there is skipped)"
        ));
    }
    if differences.is_empty() {
        return Ok(unusual);
    }
    let skips = ahead || unfit_fields.iter().any(|field| tables::SKIPPING.contains(field));
    let remedy = if unfit_fields == ["max_batch"] && !ahead {
        "Set consumer.batch_rows to no more than that; or raise it (limits.max_request_batch in the section jetstream of the \
         server's configuration, or max_batch of the durable) and remove the durable with `nats consumer rm`: the consumers \
         recreate it, which repeats deliveries without effect"
    } else {
        "Remove what set it differently; after `nats consumer rm` running consumers recreate it behind what they had settled, \
         and a start from the stream's start, which repeats deliveries without effect"
    };
    Err(BrokerError::Incompatible {
        object: BrokerObject::Durable(name.to_owned()),
        differences: differences.join("; "),
        remedy: remedy.to_owned(),
        skipping: skips.then(|| SkippingDurable { created: found.created(), last_sequence }),
    })
}

/// By how much a durable's time of creation may differ and it is the same one: after a restart nats-server 2.9 reports the one in its
/// file, a fraction of a millisecond later.
const CREATED_TOLERANCE: Duration = Duration::from_millis(10);

/// Whether two times of creation are those of one durable.
#[must_use]
pub fn is_same_creation(one: OffsetDateTime, other: OffsetDateTime) -> bool {
    (one - other).unsigned_abs() < CREATED_TOLERANCE
}

/// Recreates a durable that was seen passing over messages and is fit again: behind `floor`, where it was last seen before that,
/// or from the stream's start. When several processes do so at once, one that begins behind a later floor than this one's is
/// recreated once more.
///
/// # Errors
/// When it is not fit yet, or the broker is away or refuses.
pub async fn replace_skipping_durable(
    context: &Context,
    stream: &Stream,
    id: &ForwarderId,
    settings: &ConsumerSettings,
    skipping: SkippingDurable,
    floor: Option<&SettledFloor>,
) -> Result<(), BrokerError> {
    let name = durable_name(id);
    let stream_name = &stream.cached_info().config.name;
    let Some(found) = stored::durable(context, stream_name, &name).await? else {
        return Ok(());
    };
    compare(&name, settings, 1, &found, stored::last_sequence(context, stream_name).await?)?;
    let deliver_policy = begin_after(stream, floor).await?;
    let start_sequence = match deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence,
        _ => 1,
    };
    // Once more, and last: another process may just have recreated it.
    let Some(found) = stored::durable(context, stream_name, &name).await? else {
        return Ok(());
    };
    let begins = found.config.get("opt_start_seq").and_then(Value::as_u64).unwrap_or(1);
    if !is_same_creation(found.created(), skipping.created) && begins <= start_sequence {
        return Ok(());
    }
    tracing::warn!(durable = name, start_sequence, "it has passed over messages: recreated");
    remove_durable(stream, &name).await?;
    create(stream, &pull::Config { deliver_policy, ..wanted(id, settings) }).await?;
    Ok(())
}

/// Where a durable stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableState {
    /// When its stream was created, to the microsecond.
    pub stream_created: OffsetDateTime,
    /// Everything at or below this stream sequence is settled.
    pub floor: u64,
    /// How many deliveries there have been, redeliveries included.
    pub delivered: u64,
    /// Messages not yet delivered.
    pub pending: u64,
    /// Messages delivered and not settled.
    pub unsettled: u64,
    /// Until when an administrator lets it rest.
    pub paused_until: Option<String>,
}

/// Looks at the durable of a forwarder, and whether it is still what it should be.
///
/// # Errors
/// When it was changed, when it is gone, or the broker is away.
pub async fn durable_state(
    context: &Context,
    stream: &str,
    id: &ForwarderId,
    settings: &ConsumerSettings,
) -> Result<DurableState, BrokerError> {
    let name = durable_name(id);
    let found = stored::durable(context, stream, &name).await?;
    let found =
        found.ok_or_else(|| BrokerError::call("consumer info", &format!("there is no durable {name}")))?;
    let of = stored::stream(context, stream).await?;
    let of = of.ok_or_else(|| BrokerError::call("stream info", &format!("there is no stream {stream}")))?;
    compare(&name, settings, 1, &found, of.number("state.last_seq"))?;
    Ok(DurableState {
        stream_created: microseconds(of.created()),
        floor: found.number("ack_floor.stream_seq"),
        delivered: found.number("delivered.consumer_seq"),
        pending: found.number("num_pending"),
        unsettled: found.number("num_ack_pending"),
        paused_until: found.paused_until(),
    })
}

async fn create(stream: &Stream, config: &pull::Config) -> Result<Consumer<pull::Config>, BrokerError> {
    stream.create_consumer(config.clone()).await.map_err(|error| match error.kind() {
        ConsumerErrorKind::JetStream(refusal) => BrokerError::refused("create consumer", &refusal),
        _ => BrokerError::call("create consumer", &error),
    })
}

/// How far one durable has settled everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckFloor {
    /// The durable.
    pub durable: String,
    /// Everything at or below this stream sequence is settled.
    pub sequence: u64,
    /// Messages not yet delivered, and delivered but not settled.
    pub pending: u64,
    /// Of those, the delivered ones.
    pub unsettled: u64,
    /// It passes over messages: where it stands says nothing of what was delivered, and counts as 0.
    pub skips: bool,
}

impl AckFloor {
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
pub async fn ack_floors(stream: &Stream) -> Result<Vec<AckFloor>, BrokerError> {
    let found = consumers(stream).await?;
    // Read afterwards: both only grow.
    let last = last_sequence(stream).await?;
    let ours = found.into_iter().filter(|info| info.name.starts_with(PREFIX));
    Ok(ours
        .map(|info| {
            let skips = skips(&info, last);
            AckFloor {
                sequence: if skips { 0 } else { info.ack_floor.stream_sequence },
                pending: info.num_pending + info.num_ack_pending as u64,
                unsettled: info.num_ack_pending as u64,
                durable: info.name,
                skips,
            }
        })
        .collect())
}

fn skips(info: &Info, last_sequence: u64) -> bool {
    let config = &info.config;
    is_ahead(info, last_sequence)
        || !config.filter_subject.is_empty()
        || !config.filter_subjects.is_empty()
        || config.max_deliver > 0
        || !matches!(config.deliver_policy, DeliverPolicy::All | DeliverPolicy::ByStartSequence { .. })
}

fn is_ahead(info: &Info, last_sequence: u64) -> bool {
    info.delivered.stream_sequence.max(info.ack_floor.stream_sequence) > last_sequence
}

async fn consumers(stream: &Stream) -> Result<Vec<Info>, BrokerError> {
    let found = stream.consumers().try_collect().await;
    found.map_err(|error| BrokerError::call("list consumers", &error))
}

async fn last_sequence(stream: &Stream) -> Result<u64, BrokerError> {
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    Ok(info.state.last_sequence)
}

/// Removes a durable. An old server may fail to tidy up its disk behind one that it has removed, above all when somebody
/// makes it again at that moment: what counts is whether this one is gone.
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
    Ok(consumers(stream).await?.into_iter().find(|info| info.name == name).map(|info| info.created))
}

/// Makes durables again that stand ahead of their stream, which happens when it has lost its end: nats-server 2.9 would
/// skip whatever is published up to where they stand. They continue behind what they had settled. Other people's consumers
/// are left alone.
///
/// # Errors
/// When the broker is away.
pub async fn reset_durables_ahead(stream: &Stream) -> Result<(), BrokerError> {
    let found = consumers(stream).await?;
    let last = last_sequence(stream).await?;
    let ahead = |info: &Info| info.name.starts_with(PREFIX) && is_ahead(info, last);
    for info in found.into_iter().filter(ahead) {
        // One that has delivered nothing was created by hand, and has settled nothing either.
        let delivered = info.delivered.consumer_sequence > 0;
        let start_sequence = if delivered { info.ack_floor.stream_sequence.min(last) + 1 } else { 1 };
        tracing::warn!(
            durable = info.name,
            last_sequence = last,
            start_sequence,
            "it is ahead of its stream: recreated"
        );
        remove_durable(stream, &info.name).await?;
        let begin = DeliverPolicy::ByStartSequence { start_sequence };
        let config = pull::Config::try_from_consumer_config(info.config)
            .map_err(|error| BrokerError::call("list consumers", &error))?;
        create(stream, &pull::Config { deliver_policy: begin, ..config }).await?;
    }
    Ok(())
}
