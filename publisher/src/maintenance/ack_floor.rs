//! Up to where every forwarder has settled the stream.

use common::{
    broker::{AckFloor, microseconds},
    outbox::reader::rounds::StreamPosition,
};
use time::OffsetDateTime;

/// The lowest floor of all forwarders: everything at or below it is settled. `None` while there is no forwarder.
#[must_use]
pub(crate) fn lowest_ack_floor(
    floors: &[AckFloor],
    stream_created: OffsetDateTime,
) -> Option<StreamPosition> {
    let sequence = floors.iter().map(|floor| floor.sequence).min()?;
    Some(StreamPosition { created: microseconds(stream_created), sequence })
}
