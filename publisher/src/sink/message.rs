//! One message: thin references under an id that every repetition shares.

use async_nats::jetstream::message::PublishMessage;
use common::{
    outbox::reader::entries::Entry,
    process::telemetry::traces::{self, Kind, Span, Status, Tracer},
    reference::{Body, MessageId, Pack, REFERENCES_HEADER, Reference, Target},
};

use uuid::Uuid;

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
        entries: &[Entry],
        generation: i32,
        stream: &str,
        subject: &str,
        tracer: &Tracer,
    ) -> Option<Self> {
        let (id, body) = content(entries, generation)?;
        let event = body.events().next()?;
        let payload = serde_json::to_vec(&body).expect("texts are JSON");
        let mut message = PublishMessage::build()
            .payload(payload.into())
            // The subject captured by another stream is an error, not a loss.
            .expected_stream(stream)
            .message_id(id.to_string());
        // A pack is in the trace of its first event: it has one header.
        let mut span = tracer.begin(Kind::Producer, subject, event, || None);
        if let Body::Pack(pack) = &body {
            message = message.header(REFERENCES_HEADER, pack.events.len().to_string());
            let count = pack.events.len() as u64;
            span = span.map(|span| span.with(vec![("messaging.batch.message_count", count.into())]));
        }
        if let Some(span) = &span {
            message = message.header(traces::HEADER, span.traceparent().to_string());
        }
        Some(Self { message, id, span })
    }
}

/// What is published of a part of a page, and under which id: the same for every repetition within a generation.
fn content(entries: &[Entry], generation: i32) -> Option<(MessageId, Body)> {
    match entries {
        [] => None,
        [entry] => reference(entry, generation).map(|(id, reference)| (id, Body::One(reference))),
        [first, .., last] => {
            let event = |entry: &Entry| Some((entry.audit_event_id?, entry.occurred_at.clone()));
            let events: Vec<_> = entries.iter().filter_map(event).collect();
            let id = MessageId::Pack {
                first: (first.position.xid, first.position.seq),
                last: (last.position.xid, last.position.seq),
                digest: digest(events.iter().map(|(event, _)| event)),
                generation,
            };
            Some((id, Body::Pack(Pack { forwarder: Target::Every, events })))
        }
    }
}

/// Of events in their order.
fn digest<'e>(events: impl Iterator<Item = &'e Uuid>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for event in events {
        hasher.update(event.as_bytes());
    }
    let mut digest = [0; 8];
    hasher.finalize_xof().fill(&mut digest);
    u64::from_be_bytes(digest)
}

/// Of one entry.
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
            let id = content(&[entry], generation).map(|(id, _)| id);
            assert_eq!(id, expected, "{forwarder:?} in generation {generation}");
        }
    }

    #[test]
    fn a_pack_has_the_id_of_its_place_in_the_log_and_names_its_events_in_order() {
        let entry = |seq| Entry {
            position: Position { xid: 5, seq },
            audit_event_id: Some(Uuid::from_u128(seq.unsigned_abs().into())),
            occurred_at: Some(format!("2026-01-0{seq}T00:00:00.000000Z")),
            forwarder: None,
        };
        let page = [entry(1), entry(2), entry(3)];
        for generation in [0, 2] {
            let (id, body) = content(&page, generation).expect("a message");
            let digest = digest([1, 2, 3].map(Uuid::from_u128).iter());
            assert_eq!(id, MessageId::Pack { first: (5, 1), last: (5, 3), digest, generation });
            let payload = serde_json::to_vec(&body).expect("JSON");
            assert_eq!(Body::read(&payload).expect("a pack"), body);
            assert_eq!(body.events().collect::<Vec<_>>(), [1, 2, 3].map(Uuid::from_u128));
            assert_eq!(body.forwarder(), &Target::Every);
        }
    }

    /// After a fail-over to a standby that lacks the last round, the next one may see an entry more between the same ends.
    #[test]
    fn packs_between_the_same_places_that_hold_different_events_have_different_ids() {
        let entry = |seq, event| Entry {
            position: Position { xid: 5, seq },
            audit_event_id: Some(Uuid::from_u128(event)),
            occurred_at: None,
            forwarder: None,
        };
        let id = |entries: &[Entry]| content(entries, 0).expect("a message").0.to_string();
        let seen = id(&[entry(1, 1), entry(3, 3)]);
        assert_eq!(seen, id(&[entry(1, 1), entry(3, 3)]));
        assert_ne!(seen, id(&[entry(1, 1), entry(2, 2), entry(3, 3)]));
        assert_ne!(seen, id(&[entry(1, 1), entry(3, 4)]));
    }
}
