//! The message of one entry: a thin reference under an id that every repetition shares.

use async_nats::jetstream::message::PublishMessage;
use common::{
    outbox::reader::entries::Entry,
    process::telemetry::traces::{self, Kind, Span, Status, Tracer},
    reference::{MessageId, Reference, Target},
};

use super::acknowledgement::PublishOutcome;

/// A message with what its trace knows of it.
pub(super) struct Outgoing {
    pub(super) message: PublishMessage,
    pub(super) id: MessageId,
    pub(super) span: Option<Span>,
}

impl Outgoing {
    /// `None` for an entry that names nothing that could be delivered.
    pub(super) fn new(
        entry: &Entry,
        generation: i32,
        stream: &str,
        subject: &str,
        tracer: &Tracer,
    ) -> Option<Self> {
        let (id, reference) = reference(entry, generation)?;
        let body = serde_json::to_vec(&reference).expect("three strings are JSON");
        let mut message = PublishMessage::build()
            .payload(body.into())
            // The subject captured by another stream is an error, not a loss.
            .expected_stream(stream)
            .message_id(id.to_string());
        let span = tracer.begin(Kind::Producer, subject, reference.audit_event_id, || None);
        if let Some(span) = &span {
            message = message.header(traces::HEADER, span.traceparent().to_string());
        }
        Some(Self { message, id, span })
    }
}

/// What is published of an entry, and under which id: the same for every repetition within a generation.
fn reference(entry: &Entry, generation: i32) -> Option<(MessageId, Reference)> {
    let (event, forwarder) = entry.addressed()?;
    let id = match (&forwarder, generation) {
        (Target::Only(_), generation) => {
            MessageId::Addressed(event, entry.position.xid, entry.position.seq, generation)
        }
        (Target::Every, 0) => MessageId::First(event),
        (Target::Every, generation) => MessageId::Again(event, generation),
    };
    Some((id, Reference { forwarder, audit_event_id: event, occurred_at: entry.occurred_at.clone() }))
}

/// Ends the span of a publish.
pub(super) fn end_span(span: &Span, id: MessageId, outcome: PublishOutcome) {
    let sequence = outcome.sequence();
    let status = if sequence.is_some() { Status::Unset } else { Status::Error("unknown") };
    let mut attributes = vec![("messaging.message.id", id.to_string().into())];
    attributes.extend(sequence.map(|sequence| ("audit.stream_sequence", sequence.into())));
    span.end(status, attributes);
}

#[cfg(test)]
mod tests {
    use common::outbox::reader::rounds::Position;
    use uuid::Uuid;

    use super::*;

    const EVENT: Uuid = Uuid::from_u128(7);

    #[test]
    fn an_entry_has_one_id_in_each_generation() {
        let table = [
            (None, 0, Some(MessageId::First(EVENT))),
            (None, 2, Some(MessageId::Again(EVENT, 2))),
            (Some("threadline"), 0, Some(MessageId::Addressed(EVENT, 5, 6, 0))),
            (Some("threadline"), 2, Some(MessageId::Addressed(EVENT, 5, 6, 2))),
            (Some("no forwarder!"), 0, None),
        ];
        for (forwarder, generation, expected) in table {
            let entry = Entry {
                position: Position { xid: 5, seq: 6 },
                audit_event_id: Some(EVENT),
                occurred_at: None,
                forwarder: forwarder.map(str::to_owned),
            };
            let id = reference(&entry, generation).map(|(id, _)| id);
            assert_eq!(id, expected, "{forwarder:?} in generation {generation}");
        }
    }
}
