//! How many references messages hold, without reading their bodies.

use async_nats::{
    HeaderMap,
    jetstream::stream::{RawMessageErrorKind, Stream},
};

use super::{BrokerError, durable::AckFloor};
use crate::reference::{PACK_MAX, REFERENCES_HEADER};

/// How many references a message with these headers holds. Whoever may publish may write anything there: it sizes batches and
/// waits, and decides nothing else.
#[must_use]
pub fn references(headers: Option<&HeaderMap>) -> usize {
    let header = headers.and_then(|headers| headers.get(REFERENCES_HEADER));
    let references = header.and_then(|count| count.as_str().parse().ok()).unwrap_or(1);
    usize::clamp(references, 1, PACK_MAX)
}

/// How many references a durable has not settled, judged by two messages: what was delivered is like the first one behind the floor, and what
/// was not like the larger of that and the last of the stream. Too many rather than too few: what is published in one go is packed alike,
/// and what trickles in or is tried again is not.
///
/// # Errors
/// When the broker is away.
pub(super) async fn estimate(stream: &Stream, floor: &AckFloor) -> Result<u64, BrokerError> {
    if floor.pending == 0 {
        return Ok(0);
    }
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    let first = references_at(stream, floor.sequence + 1).await?;
    let last = references_at(stream, info.state.last_sequence).await?;
    Ok(estimated(floor, first, last))
}

/// By how many references the first message behind the floor holds, and the last of the stream.
fn estimated(floor: &AckFloor, first: u64, last: u64) -> u64 {
    let to_come = floor.pending.saturating_sub(floor.unsettled);
    floor.unsettled.saturating_mul(first).saturating_add(to_come.saturating_mul(first.max(last)))
}

/// Of the message at a sequence; 1 where it was trimmed or deleted.
async fn references_at(stream: &Stream, sequence: u64) -> Result<u64, BrokerError> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(references(Some(&message.headers)) as u64),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(1),
        Err(error) => Err(BrokerError::call("get message", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_how_many_references_and_without_one_it_is_one() {
        let count = |header: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = header {
                headers.insert(REFERENCES_HEADER, text);
            }
            references(Some(&headers))
        };
        assert_eq!((references(None), count(None), count(Some("17"))), (1, 1, 17));
        for (odd, expected) in [("0", 1), ("-3", 1), ("many", 1), ("1000000", PACK_MAX)] {
            assert_eq!(count(Some(odd)), expected, "{odd}");
        }
    }

    #[test]
    fn what_was_delivered_is_judged_by_the_first_message_and_what_was_not_by_the_larger() {
        let floor = |pending, unsettled| AckFloor {
            durable: "forward-timeline".to_owned(),
            sequence: 7,
            pending,
            unsettled,
            skips: false,
        };
        for (pending, unsettled, first, last, expected) in [
            (0, 0, 1, 1, 0),
            (1_000, 0, 1, 1, 1_000),
            (10, 0, 256, 256, 2_560),
            // Forty single references that wait for their retry, and a pack at the end that is settled: no flood.
            (40, 40, 1, 256, 40),
            (41, 40, 1, 256, 40 + 256),
            // Packs with a trickle behind them.
            (4, 1, 256, 1, 4 * 256),
            // Read one after the other: more are delivered by now.
            (2, 3, 1, 256, 3),
            (u64::MAX, 1, 256, 256, u64::MAX),
        ] {
            let judged = estimated(&floor(pending, unsettled), first, last);
            assert_eq!(
                judged, expected,
                "{pending} of which {unsettled} delivered, {first} to {last} in each"
            );
        }
    }
}
