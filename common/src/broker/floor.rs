//! Up to where a durable had settled everything, and which message is there: a stream that is restored from a backup keeps its time of
//! creation, and counts on from an earlier sequence.

use async_nats::jetstream::{
    consumer::DeliverPolicy,
    message::StreamMessage,
    stream::{RawMessageErrorKind, Stream},
};
use time::OffsetDateTime;

use super::{BrokerError, microseconds};
use crate::outbox::reader::rounds::StreamPosition;

/// What a stream holds at a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FloorMessage {
    /// It was not read.
    Unknown,
    /// Nothing: it was removed, or the stream ends before it.
    Nothing,
    /// A message.
    Message {
        /// When the broker stored it.
        published: OffsetDateTime,
        /// Its payload.
        payload: Vec<u8>,
    },
}

impl FloorMessage {
    /// What is at `sequence` now.
    ///
    /// # Errors
    /// When the broker is away.
    pub async fn at(stream: &Stream, sequence: u64) -> Result<Self, BrokerError> {
        if sequence == 0 {
            return Ok(Self::Nothing);
        }
        match stream.get_raw_message(sequence).await {
            Ok(StreamMessage { time, payload, .. }) => {
                Ok(Self::Message { published: time, payload: payload.to_vec() })
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(Self::Nothing),
            Err(error) => Err(BrokerError::call("get message", &error)),
        }
    }
}

/// Everything at or below this was settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledFloor {
    /// Up to where.
    pub position: StreamPosition,
    /// What was there.
    pub message: FloorMessage,
}

impl SettledFloor {
    /// A position from the log's marks.
    #[must_use]
    pub fn of_log(position: StreamPosition) -> Self {
        Self { position, message: FloorMessage::Unknown }
    }
}

/// Where a durable begins that continues behind `floor`: at the stream's start, if the stream is no longer that of the floor.
pub(super) async fn begin_after(
    stream: &Stream,
    floor: Option<&SettledFloor>,
) -> Result<DeliverPolicy, BrokerError> {
    let Some(SettledFloor { position, message }) = floor.filter(|floor| floor.position.sequence > 0) else {
        return Ok(DeliverPolicy::All);
    };
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    if microseconds(info.created) != position.created {
        return Ok(DeliverPolicy::All);
    }
    let last = info.state.last_sequence;
    if *message != FloorMessage::Unknown
        && (position.sequence > last || FloorMessage::at(stream, position.sequence).await? != *message)
    {
        tracing::warn!(
            settled_up_to = position.sequence,
            last_sequence = last,
            "the message up to which everything was settled is no longer in the stream: the durable begins at its start"
        );
        return Ok(DeliverPolicy::All);
    }
    // Behind its end, nats-server 2.9 would skip what is published up to there.
    let start_sequence = position.sequence.min(last) + 1;
    Ok(DeliverPolicy::ByStartSequence { start_sequence })
}
