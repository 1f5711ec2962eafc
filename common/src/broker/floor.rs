//! Where a durable had settled everything, and what stands there: a stream that is restored from a backup keeps its time of
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
pub enum Landmark {
    /// Nobody has looked.
    Unknown,
    /// Nothing: it was removed, or the stream ends before it.
    Nothing,
    /// A message.
    Message {
        /// When the broker stored it.
        published: OffsetDateTime,
        /// What it says.
        payload: Vec<u8>,
    },
}

impl Landmark {
    /// What stands at `sequence` now.
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
    /// What stood there.
    pub landmark: Landmark,
}

impl SettledFloor {
    /// A place that the log's own marks name.
    #[must_use]
    pub fn of_log(position: StreamPosition) -> Self {
        Self { position, landmark: Landmark::Unknown }
    }
}

/// Where a durable begins that goes on behind `floor`: at the stream's start, where that is not the stream of the floor any more.
pub(super) async fn begin_after(
    stream: &Stream,
    floor: Option<&SettledFloor>,
) -> Result<DeliverPolicy, BrokerError> {
    let Some(SettledFloor { position, landmark }) = floor.filter(|floor| floor.position.sequence > 0) else {
        return Ok(DeliverPolicy::All);
    };
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    if microseconds(info.created) != position.created {
        return Ok(DeliverPolicy::All);
    }
    let last = info.state.last_sequence;
    if *landmark != Landmark::Unknown
        && (position.sequence > last || Landmark::at(stream, position.sequence).await? != *landmark)
    {
        tracing::warn!(
            settled_up_to = position.sequence,
            last_sequence = last,
            "the stream does not hold any more what stood where everything was settled: the durable begins at its start"
        );
        return Ok(DeliverPolicy::All);
    }
    // Behind its end, nats-server 2.9 would skip what is published up to there.
    let start_sequence = position.sequence.min(last) + 1;
    Ok(DeliverPolicy::ByStartSequence { start_sequence })
}
