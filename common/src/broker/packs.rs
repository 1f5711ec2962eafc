//! How many references messages hold, without reading their bodies.

use async_nats::{
    HeaderMap,
    jetstream::stream::{RawMessageErrorKind, Stream},
};

use super::BrokerError;
use crate::reference::{PACK_MAX, REFERENCES_HEADER};

/// How many references a message with these headers holds. Whoever may publish may write anything there: it sizes batches and
/// waits, and decides nothing else.
#[must_use]
pub fn references(headers: Option<&HeaderMap>) -> usize {
    let header = headers.and_then(|headers| headers.get(REFERENCES_HEADER));
    let references = header.and_then(|count| count.as_str().parse().ok()).unwrap_or(1);
    usize::clamp(references, 1, PACK_MAX)
}

/// How many references so many messages behind `floor` hold, judged by the first and the last of them. Too many rather than too few:
/// what is published in one go is packed alike, and what trickles in is not.
///
/// # Errors
/// When the broker is away.
pub(super) async fn estimate(stream: &Stream, floor: u64, messages: u64) -> Result<u64, BrokerError> {
    if messages == 0 {
        return Ok(0);
    }
    let info = stream.get_info().await.map_err(|error| BrokerError::call("stream info", &error))?;
    let mut most = 1;
    for sequence in [floor + 1, info.state.last_sequence] {
        match stream.get_raw_message(sequence).await {
            Ok(message) => most = most.max(references(Some(&message.headers))),
            // Trimmed, or deleted.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {}
            Err(error) => return Err(BrokerError::call("get message", &error)),
        }
    }
    Ok(messages.saturating_mul(most as u64))
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
}
