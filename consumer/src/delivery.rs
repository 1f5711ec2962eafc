//! One message as it was delivered: what it refers to, and whether that is ours.

use async_nats::jetstream::Message;
use common::{
    broker::microseconds,
    identifier::ForwarderId,
    outbox::rounds::Position,
    reference::{Reference, Target},
    telemetry::traces::{self, Attributes, Kind, Span, Traceparent, Tracer},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// How much of a message that cannot be read is kept.
const EXCERPT_BYTES: usize = 256;

/// From this delivery of one message on it is forwarded alone, in case it is what kills its process.
const SUSPECT_FROM: i64 = 3;

/// What a delivered message asks of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Forward this event.
    Forward(Uuid),
    /// It is another forwarder's: acknowledge.
    Skip,
    /// Addressed to a forwarder that nobody has configured, and ours to say so.
    Unknown(ForwarderId, Uuid),
    /// Not a reference.
    Malformed {
        /// `stream:<created>:<sequence>`.
        reference: String,
        /// Why.
        error: String,
        /// Its first bytes.
        excerpt: Vec<u8>,
    },
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A message of the stream.
    Stream {
        /// Where it stands.
        sequence: u64,
        /// When the broker stored it.
        published: Option<OffsetDateTime>,
    },
    /// An entry of the log.
    Log(Position),
    /// A failed attempt that is due again.
    Retry,
}

/// One thing to be done, from a message or from the log.
#[derive(Debug)]
pub struct Item {
    /// What.
    pub request: Request,
    /// From where.
    pub origin: Origin,
    /// Whether it has been begun before without an end: then it is forwarded alone, and its start is committed first.
    pub suspect: bool,
    /// Where it is traced.
    pub span: Option<Span>,
}

impl Item {
    /// What an entry of the log asks; `suspect` when it may have been handed over before.
    #[must_use]
    pub fn of_log(request: Request, origin: Origin, suspect: bool, tracer: &Tracer) -> Self {
        let span = match request {
            Request::Forward(event) => tracer.begin(Kind::Consumer, "outbox.entries", event, || None),
            _ => None,
        };
        Self { request, origin, suspect, span }
    }
}

/// Who we are among the configured forwarders.
#[derive(Debug, Clone)]
pub struct Addressee {
    /// This lane's forwarder.
    pub id: ForwarderId,
    /// All that are configured, running here or not.
    pub all: Vec<ForwarderId>,
    /// Whether this one speaks for ids that nobody has configured: the first that runs.
    pub speaks: bool,
    /// When the stream was created; sequences mean nothing without it.
    pub stream_created: OffsetDateTime,
}

impl Addressee {
    /// Reads a message body.
    #[must_use]
    pub fn request(&self, payload: &[u8], sequence: u64) -> Request {
        let reference: Reference = match serde_json::from_slice(payload) {
            Ok(reference) => reference,
            Err(error) => {
                let created = microseconds(self.stream_created).format(&Rfc3339).unwrap_or_default();
                return Request::Malformed {
                    reference: format!("stream:{created}:{sequence}"),
                    error: error.to_string(),
                    excerpt: payload[..payload.len().min(EXCERPT_BYTES)].to_vec(),
                };
            }
        };
        self.ours(reference.forwarder, reference.audit_event_id)
    }

    /// What an event that is addressed to `target` asks of this lane.
    #[must_use]
    pub fn ours(&self, target: Target, event: Uuid) -> Request {
        match target {
            Target::Every => Request::Forward(event),
            Target::Only(only) if only == self.id => Request::Forward(event),
            Target::Only(only) if !self.speaks || self.all.contains(&only) => Request::Skip,
            Target::Only(only) => Request::Unknown(only, event),
        }
    }
}

/// A message in hand.
#[derive(Debug)]
pub struct Delivery {
    /// To settle it.
    pub message: Message,
    /// What it asks.
    pub request: Request,
    /// How often the broker has delivered it. Says nothing about attempts.
    pub delivered: i64,
    /// Where it stands in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Option<OffsetDateTime>,
}

impl Delivery {
    /// Reads a message.
    #[must_use]
    pub fn new(message: Message, addressee: &Addressee) -> Self {
        let (sequence, delivered, published) = message
            .info()
            .map_or((0, 1, None), |info| (info.stream_sequence, info.delivered, Some(info.published)));
        let request = addressee.request(&message.payload, sequence);
        Self { message, request, delivered, sequence, published }
    }

    /// What is to be done for it.
    #[must_use]
    pub fn item(&self, tracer: &Tracer) -> Item {
        let span = match self.request {
            Request::Forward(event) => {
                tracer.begin(Kind::Consumer, &self.message.subject, event, || self.traceparent())
            }
            _ => None,
        };
        let span = span.map(|span| span.with(self.attributes()));
        let origin = Origin::Stream { sequence: self.sequence, published: self.published };
        Item { request: self.request.clone(), origin, suspect: self.delivered >= SUSPECT_FROM, span }
    }

    fn header(&self, name: &str) -> Option<&str> {
        Some(self.message.headers.as_ref()?.get(name)?.as_str())
    }

    /// What a trace knows of the message.
    fn attributes(&self) -> Attributes {
        let mut attributes = vec![("audit.delivery", self.delivered.into())];
        let id = self.header("Nats-Msg-Id").map(str::to_owned);
        attributes.extend(id.map(|id| ("messaging.message.id", id.into())));
        let sequence = self.message.info().map(|info| info.stream_sequence).ok();
        attributes.extend(sequence.map(|sequence| ("audit.stream_sequence", sequence.into())));
        attributes
    }

    /// The trace that its publish is part of.
    fn traceparent(&self) -> Option<Traceparent> {
        self.header(traces::HEADER)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const EVENT: &str = "d0e158f8-97ac-4a0c-af51-c1c235e11a66";

    fn request(id: &str, forwarder: &str) -> Request {
        let all = ["first", "second"].map(|id| id.parse().expect("an id")).to_vec();
        let addressee = Addressee {
            id: id.parse().expect("an id"),
            all,
            speaks: id == "first",
            stream_created: datetime!(2026-01-02 03:04:05.678901234 UTC),
        };
        let body = format!(r#"{{"forwarder":"{forwarder}","audit_event_id":"{EVENT}","occurred_at":null}}"#);
        addressee.request(body.as_bytes(), 7)
    }

    #[test]
    fn every_message_is_somebodys() {
        let event = EVENT.parse().expect("a UUID");
        assert_eq!(request("first", "*"), Request::Forward(event));
        assert_eq!(request("first", "first"), Request::Forward(event));
        assert_eq!(request("first", "second"), Request::Skip);
        assert_eq!(request("second", "second"), Request::Forward(event));
        // Only one of them speaks for an unknown id, or there would be as many failure rows as forwarders.
        assert_eq!(request("first", "third"), Request::Unknown("third".parse().expect("an id"), event));
        assert_eq!(request("second", "third"), Request::Skip);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place_in_the_stream() {
        let Request::Malformed { reference, excerpt, .. } = request("first", "no forwarder id") else {
            panic!("a blank in an id");
        };
        assert_eq!(reference, "stream:2026-01-02T03:04:05.678901Z:7");
        assert!(excerpt.starts_with(br#"{"forwarder":"no forwarder id""#));
    }
}
