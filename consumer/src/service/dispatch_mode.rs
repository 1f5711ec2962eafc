//! Beginning with a dispatch mode, and the change from one to the other.

use anyhow::bail;
use async_nats::jetstream::{Context, stream::Stream};
use common::{
    broker::{self, AckFloor, SettledFloor, microseconds},
    doctor::Problem,
    failures,
    identifier::ForwarderId,
    outbox::{
        forwarders,
        reader::{
            reader_switch, readers,
            rounds::{STREAM_READER, StreamPosition},
        },
    },
    process::operator_log::{self, ActionKind, OperatorAction},
    session::Session,
    settings::{ConsumerSettings, UsageError},
};

pub(crate) use crate::dispatch_mode::DispatchMode;

/// Notes whom this process delivers to, before their places are made: what is older than a place that is new is its
/// history. And whose places are on the stream already: what is addressed to them is theirs.
///
/// # Errors
/// When a server is away.
pub(crate) async fn register(
    connection: &mut Session,
    stream: Option<&Stream>,
    running: &[ForwarderId],
) -> anyhow::Result<()> {
    let floors = match stream {
        Some(stream) => broker::ack_floors(stream).await?,
        None => Vec::new(),
    };
    let there: Vec<ForwarderId> = floors.iter().filter_map(AckFloor::forwarder).collect();
    let (old, new): (Vec<ForwarderId>, Vec<_>) = running.iter().cloned().partition(|id| there.contains(id));
    forwarders::register(connection, &[old, there].concat(), false).await?;
    forwarders::register(connection, &new, true).await?;
    Ok(())
}

/// Before the first delivery through the stream: the durable exists, and the log's own reader, if there was one, is
/// drained and gone.
///
/// # Errors
/// When it is not drained, with the remedy; or a server is away.
pub(crate) async fn switch_to_jetstream(
    connection: &mut Session,
    context: &Context,
    stream: &Stream,
    id: &ForwarderId,
    settings: &ConsumerSettings,
) -> anyhow::Result<()> {
    let reader = readers::reader_name(id);
    if !readers::exists(connection, &reader).await? {
        broker::ensure_durable(context, stream, id, settings, None).await?;
        return Ok(());
    }
    // First the durable, then the look: from here on the stream keeps for this forwarder whatever it is given.
    let passed = reader_switch::passed(connection, &reader, STREAM_READER).await?;
    let passed = passed.map(SettledFloor::of_log);
    broker::ensure_durable(context, stream, id, settings, passed.as_ref()).await?;
    let waiting = failures::retrying(connection, id, i64::MAX).await?;
    if waiting > 0 || reader_switch::is_behind(connection, &reader, STREAM_READER).await? {
        bail!(
            "forwarder {id}: its dispatch was \"sync\" and what it reads is not drained ({waiting} event(s) wait for another \
             attempt, and others may be unread). Stop the publisher, let `consumer run` with dispatch \"sync\" deliver the rest (`consumer \
             failures list` shows what waits), stop it, and start it again with \"async\" before the publisher"
        );
    }
    let rows = readers::drop_reader(connection, &reader).await?;
    record_switch(connection, id, "from sync to async", rows).await
}

/// Before the first delivery from the log: the reader begins where the durable stands, if there is one, and the durable is
/// gone.
///
/// # Errors
/// When the durable is not drained, with the remedy; or a server is away.
pub(crate) async fn switch_to_direct(
    connection: &mut Session,
    stream: Option<&Stream>,
    id: &ForwarderId,
) -> anyhow::Result<()> {
    let Some(stream) = stream else {
        return begin_without_broker(connection, id).await;
    };
    let durable = broker::durable_name(id);
    let floors = broker::ack_floors(stream).await?;
    let Some(floor) = floors.into_iter().find(|floor| floor.durable == durable) else {
        return Ok(());
    };
    // Where the log's own reader exists, it hands over everything itself: the durable is what a refused change left.
    if floor.pending > 0 && !readers::exists(connection, &readers::reader_name(id)).await? {
        bail!(
            "forwarder {id}: its dispatch was \"async\" and the stream is not drained ({} message(s) of the stream are \
             not settled). Stop the publisher, let `consumer run` with dispatch \"async\" deliver the rest (`consumer \
             status` shows it), stop it, and start again with \"sync\"",
            floor.pending
        );
    }
    let position =
        StreamPosition { created: microseconds(stream.cached_info().created), sequence: floor.sequence };
    reader_switch::begin_at(connection, &readers::reader_name(id), STREAM_READER, position).await?;
    broker::remove_durable(stream, &durable).await?;
    record_switch(connection, id, "from async to sync", 1).await
}

async fn begin_without_broker(connection: &mut Session, id: &ForwarderId) -> anyhow::Result<()> {
    if needs_broker(connection, id).await? {
        let Problem { what, remedy, .. } = broker_needed(id);
        bail!(UsageError(format!("{what}: {remedy}")));
    }
    Ok(())
}

/// Without a broker it cannot be seen what the stream still holds for a forwarder; a publisher that reads the log says that there is
/// one.
pub(crate) async fn needs_broker(connection: &mut Session, id: &ForwarderId) -> Result<bool, sqlx::Error> {
    let has_own_reader = readers::exists(connection, &readers::reader_name(id)).await?;
    Ok(!has_own_reader && readers::exists(connection, STREAM_READER).await?)
}

/// Why a forwarder cannot begin without one.
pub(crate) fn broker_needed(id: &ForwarderId) -> Problem {
    Problem::new(
        format!("forwarder {id}: no broker is configured, and a publisher reads this log for one"),
        format!(
            "set broker.url in the settings file, or NATS_URL. If that broker is gone for good, stop the publisher, run `publisher \
             drop-reader {STREAM_READER} --reason …` without a broker in its settings, and start again: what the log holds is \
             delivered once more, without a second effect in a timeline"
        ),
    )
}

async fn record_switch(
    connection: &mut Session,
    id: &ForwarderId,
    how: &str,
    count: u64,
) -> anyhow::Result<()> {
    tracing::info!(forwarder = %id, how, "changed the dispatch");
    let filter = format!("forwarder {id}: {how}");
    let action = OperatorAction {
        actor: "consumer run",
        kind: ActionKind::ChangeDispatch,
        filter: &filter,
        count,
        reason: None,
    };
    operator_log::record(connection, &action).await?;
    Ok(())
}
