//! Trims the stream behind every forwarder, and its gauges.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Client, jetstream::stream::Stream};
use common::{
    broker::{
        doctor::{NEARLY_FULL, PURGES},
        microseconds,
    },
    outbox::reader::rounds::{self, STREAM_READER, StreamPosition},
    process::telemetry::names,
    session::Session,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use metrics::{counter, gauge};

/// How many messages one run deletes one by one, and how many requests are in flight.
const DELETE_MAX: usize = 100_000;
const DELETE_WINDOW: usize = 256;

/// Sets the gauges, and removes what every forwarder has settled: all of it if the stream is nearly full, otherwise what is older
/// than `replay_window`. `trimmed_below` is what the sink compares the stream's first message with.
///
/// # Errors
/// When a server is away.
pub(super) async fn trim(
    connection: &mut Session,
    client: &Client,
    stream: &Stream,
    floor: Option<StreamPosition>,
    replay_window: Duration,
    trimmed_below: &AtomicU64,
) -> anyhow::Result<()> {
    let info = stream.get_info().await?;
    #[expect(clippy::cast_precision_loss, reason = "a share, for people and a threshold")]
    let full = info.state.bytes as f64 / info.config.max_bytes.max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    gauge!(names::STREAM_BYTES).set(info.state.bytes as f64);
    gauge!(names::STREAM_FULL_RATIO).set(full);
    let Some(floor) = floor.filter(|floor| floor.created == microseconds(info.created)) else {
        return Ok(());
    };
    let trim_below = if full > NEARLY_FULL {
        floor.sequence + 1
    } else {
        let mark =
            rounds::acknowledged_before(connection, STREAM_READER, floor.created, replay_window).await?;
        below_both(floor.sequence, mark)
    };
    let Some(sequences) = to_remove(info.state.first_sequence, info.state.messages, trim_below) else {
        return Ok(());
    };
    // Stored first: a purge that nothing announced looks like a loss.
    rounds::record_trim(connection, StreamPosition { sequence: trim_below, ..floor }).await?;
    trimmed_below.store(trim_below, Ordering::SeqCst);
    let trimmed = if client.is_server_compatible(PURGES.0, PURGES.1, PURGES.2) {
        stream.purge().sequence(trim_below).await.context("purge the stream")?.purged
    } else {
        delete(stream, sequences).await?
    };
    counter!(names::STREAM_TRIMMED).increment(trimmed);
    tracing::info!(messages = trimmed, "trimmed the stream behind every forwarder");
    Ok(())
}

/// The first sequence that stays: behind the floor and behind what was acknowledged before the replay window. Without the latter
/// everything stays.
fn below_both(floor: u64, acknowledged: Option<u64>) -> u64 {
    acknowledged.map_or(0, |sequence| sequence.min(floor)) + 1
}

/// The sequences below `trim_below`; `None` if there is no message to remove.
fn to_remove(first_sequence: u64, messages: u64, trim_below: u64) -> Option<Range<u64>> {
    (trim_below > first_sequence && messages > 0).then_some(first_sequence..trim_below)
}

/// Removes messages one by one, because a purge would make an old server forget which messages its consumers have not settled.
async fn delete(stream: &Stream, sequences: Range<u64>) -> anyhow::Result<u64> {
    let mut deleted = stream::iter(sequences.take(DELETE_MAX))
        .map(|sequence| stream.delete_message(sequence))
        .buffered(DELETE_WINDOW);
    let mut count = 0;
    while deleted.try_next().await.context("delete messages of the stream")?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_forwarder_has_not_settled_or_may_replay_stays() {
        for (floor, acknowledged, first_kept) in
            [(10, Some(20), 11), (20, Some(10), 11), (10, Some(10), 11), (10, Some(0), 1), (10, None, 1)]
        {
            assert_eq!(below_both(floor, acknowledged), first_kept, "{floor} and {acknowledged:?}");
        }
    }

    #[test]
    fn nothing_is_removed_from_an_empty_stream_or_before_its_first_message() {
        for (first, messages, trim_below, expected) in
            [(3, 10, 7, Some(3..7)), (3, 10, 3, None), (3, 10, 1, None), (3, 0, 7, None)]
        {
            assert_eq!(to_remove(first, messages, trim_below), expected);
        }
    }
}
