//! Whether the stream still holds what it has acknowledged.

use std::time::Duration;

use async_nats::jetstream::stream::{RawMessageErrorKind, State, Stream};
use common::{
    backoff::Probe,
    broker::{self, BrokerError, microseconds},
    outbox::{reader::rounds::PublishedPosition, relay::SinkError},
    reference::Body,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::JetStreamSink;

/// How long a stream that existed is gone before it is created again. A server that deletes one reports that there is none while it
/// still removes its files; nats-server 2.9 then removes those of a stream that is created meanwhile, too, which accepts references
/// from then on and can deliver none.
const DELETION_TIME: Duration = Duration::from_secs(1);

/// What the stream's state says about a position that it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkState {
    /// Another creation of the stream, or it ends before the position.
    Gone,
    /// Nothing to compare with: trimmed after every forwarder had settled it, or no event is known for it.
    Trusted,
    /// The message at this sequence must name this event: a stream that lost its end and has grown again holds another one there.
    Compare(u64, Uuid),
}

impl MarkState {
    fn of(mark: PublishedPosition, created: OffsetDateTime, first_sequence: u64, last_sequence: u64) -> Self {
        let sequence = mark.position.sequence;
        if mark.position.created != created || sequence > last_sequence {
            return Self::Gone;
        }
        match mark.event {
            Some(event) if sequence >= first_sequence => Self::Compare(sequence, event),
            _ => Self::Trusted,
        }
    }
}

/// The first sequence that a stream still has. An empty one begins with what it is given next, and says 0 or that until then.
pub(super) fn first_retained(state: &State) -> u64 {
    if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence }
}

impl JetStreamSink {
    /// Waits until the stream is there and fits the settings; created again if it is gone.
    pub(super) async fn wait_for_stream(
        &self,
        existed: bool,
        probe: &mut Probe,
    ) -> Result<Stream, SinkError> {
        loop {
            self.connected().await;
            match self.open_stream(existed).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_passing() || error.is_incompatible() => {
                    // Only an operator can change an incompatible stream: unready from the first moment.
                    self.progress.fault(error.is_incompatible().then(|| error.to_string()));
                    self.progress.waiting(format!("broker: {error}"));
                    let delay = probe.next_delay();
                    tracing::warn!(
                        retry_in_ms = common::process::millis(delay),
                        "nothing is published: {error}"
                    );
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(SinkError::Refused(error.to_string())),
            }
        }
    }

    /// The stream, created if it is gone: not at once if there has been one.
    async fn open_stream(&self, existed: bool) -> Result<Stream, BrokerError> {
        if existed && broker::find_stream(&self.context, &self.broker).await?.is_none() {
            self.progress.waiting("broker: the stream is gone, and is recreated");
            tokio::time::sleep(DELETION_TIME).await;
        }
        broker::ensure_stream(&self.context, &self.broker, &self.source).await
    }

    /// Whether the stream still holds what it acknowledged last.
    pub(super) async fn still_holds(&self, mark: PublishedPosition) -> bool {
        let State { first_sequence, last_sequence, .. } = self.stream.cached_info().state;
        let (sequence, event) = match MarkState::of(mark, self.created, first_sequence, last_sequence) {
            MarkState::Gone => return false,
            MarkState::Trusted => return true,
            MarkState::Compare(sequence, event) => (sequence, event),
        };
        let mut probe = Probe::default();
        loop {
            match self.stream.get_raw_message(sequence).await {
                Ok(message) => {
                    let body = Body::read(&message.payload).ok();
                    return body.is_some_and(|body| body.events().any(|there| there == event));
                }
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => return false,
                Err(error) => {
                    self.progress.waiting(format!("broker: {error}"));
                    tokio::time::sleep(probe.next_delay()).await;
                }
            }
        }
    }

    /// Whether publishes fail because the stream is gone or another one has its name.
    pub(super) async fn is_recreated(&self) -> bool {
        match self.context.get_stream(&self.broker.stream).await {
            Ok(stream) => microseconds(stream.cached_info().created) != self.created,
            Err(error) => broker::is_not_found(&error.kind()),
        }
    }

    /// The first sequence of the stream, if the broker responds: it remembers the ids of messages that are gone.
    pub(super) async fn first_sequence(&self) -> Option<u64> {
        match self.stream.get_info().await {
            Ok(info) => Some(info.state.first_sequence),
            Err(error) => {
                self.progress.waiting(format!("broker: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::outbox::reader::rounds::StreamPosition;

    use super::*;

    const CREATED: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const EVENT: Uuid = Uuid::from_u128(7);

    #[test]
    fn a_mark_is_compared_where_the_stream_can_hold_something_else() {
        let later = CREATED + Duration::from_secs(1);
        let table = [
            // (created, sequence, event), (first, last) -> state
            ((CREATED, 5, Some(EVENT)), (1, 9), MarkState::Compare(5, EVENT)),
            ((CREATED, 9, Some(EVENT)), (9, 9), MarkState::Compare(9, EVENT)),
            ((CREATED, 5, None), (1, 9), MarkState::Trusted),
            ((CREATED, 5, Some(EVENT)), (6, 9), MarkState::Trusted),
            ((CREATED, 10, Some(EVENT)), (1, 9), MarkState::Gone),
            ((later, 5, Some(EVENT)), (1, 9), MarkState::Gone),
        ];
        for ((created, sequence, event), (first, last), expected) in table {
            let mark = PublishedPosition { position: StreamPosition { created, sequence }, event };
            assert_eq!(MarkState::of(mark, CREATED, first, last), expected, "{mark:?} in {first} to {last}");
        }
    }
}
