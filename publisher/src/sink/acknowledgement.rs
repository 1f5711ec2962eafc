//! What the broker's response to one publish says, or its absence.

use async_nats::jetstream::{context::PublishError, publish::PublishAck};

/// The outcome of one publish. A time-out is not a failure: the broker may have stored the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    /// Stored at this sequence.
    Stored(u64),
    /// Stored by an earlier publish of the same id, at this sequence.
    Duplicate(u64),
    /// Perhaps stored, perhaps not: it is sent again under the same id.
    Unknown,
    /// Not sent: the entry names nothing that could be delivered.
    Unnamed,
}

impl PublishOutcome {
    /// The outcome of a publish to the stream with this name. No error proves that the message was not stored; whether the stream is
    /// gone is checked once a page.
    pub(super) fn of(acknowledged: &Result<PublishAck, PublishError>, stream: &str) -> Self {
        match acknowledged {
            // Another stream has captured the subject: ours does not have the message.
            Ok(ack) if ack.stream != stream => Self::Unknown,
            // Sequence 0: the first publish of this id is still being written to disk.
            Ok(ack) if ack.sequence == 0 => Self::Unknown,
            Ok(ack) if ack.duplicate => Self::Duplicate(ack.sequence),
            Ok(ack) => Self::Stored(ack.sequence),
            Err(_) => Self::Unknown,
        }
    }

    /// Where the message is in the stream, as far as the broker says.
    pub(super) fn sequence(self) -> Option<u64> {
        match self {
            Self::Stored(sequence) | Self::Duplicate(sequence) => Some(sequence),
            Self::Unknown | Self::Unnamed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::context::PublishErrorKind;

    use super::*;

    #[test]
    fn only_an_acknowledgement_of_our_stream_with_a_sequence_is_certain() {
        let table = [
            ("ours", 7, false, PublishOutcome::Stored(7)),
            ("ours", 7, true, PublishOutcome::Duplicate(7)),
            ("ours", 0, false, PublishOutcome::Unknown),
            ("ours", 0, true, PublishOutcome::Unknown),
            ("theirs", 7, false, PublishOutcome::Unknown),
            ("theirs", 7, true, PublishOutcome::Unknown),
        ];
        for (stream, sequence, duplicate, expected) in table {
            let ack = PublishAck { stream: stream.to_owned(), sequence, duplicate, ..PublishAck::default() };
            assert_eq!(PublishOutcome::of(&Ok(ack), "ours"), expected, "{stream} {sequence} {duplicate}");
        }
    }

    #[test]
    fn no_error_proves_that_nothing_was_stored() {
        for kind in [
            PublishErrorKind::StreamNotFound,
            PublishErrorKind::TimedOut,
            PublishErrorKind::BrokenPipe,
            PublishErrorKind::MaxAckPending,
            PublishErrorKind::Other,
        ] {
            assert_eq!(PublishOutcome::of(&Err(kind.into()), "ours"), PublishOutcome::Unknown);
        }
    }
}
