//! One thing to be done for a forwarder, from a message of the stream or an entry of the log.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use common::{
    identifier::ForwarderId,
    outbox::reader::rounds::Position,
    process::telemetry::traces::{Kind, Span, Tracer},
    reference::{Body, Target},
    time_arg::microseconds,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// How much of a message that cannot be read is kept.
const EXCERPT_BYTES: usize = 256;

/// What a delivered message requests of a forwarder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Forward this event.
    Forward(Uuid),
    /// It is another forwarder's: acknowledge.
    Skip,
    /// Addressed to a forwarder that is not configured, and ours to report.
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
pub struct WorkItem {
    /// What.
    pub instruction: Instruction,
    /// From where.
    pub origin: Origin,
    /// Whether it has been begun before without an end: then it is forwarded alone, and its start is committed first.
    pub suspect: bool,
    /// Whether it came in a message with others, which cannot come again for its sake: what is to be tried again is taken out.
    pub packed: bool,
    /// Where it is traced.
    pub span: Option<Span>,
}

impl WorkItem {
    /// What an entry of the log requests; `suspect` when it may have been handed over before.
    #[must_use]
    pub fn from_log(instruction: Instruction, origin: Origin, suspect: bool, tracer: &Tracer) -> Self {
        let span = match instruction {
            Instruction::Forward(event) => tracer.begin(Kind::Consumer, "outbox.entries", event, || None),
            _ => None,
        };
        Self { instruction, origin, suspect, packed: false, span }
    }
}

/// When the stream was created, to the microsecond. Another one may take its place while this process runs.
#[derive(Debug, Clone)]
pub struct StreamCreation(Arc<AtomicI64>);

impl StreamCreation {
    /// The stream that was `created` then.
    #[must_use]
    pub fn of(created: OffsetDateTime) -> Self {
        let creation = Self(Arc::default());
        creation.set(created);
        creation
    }

    /// It is another one now.
    pub(crate) fn set(&self, created: OffsetDateTime) {
        let whole = microseconds(created).unix_timestamp_nanos() / 1_000;
        self.0.store(i64::try_from(whole).unwrap_or_default(), Ordering::SeqCst);
    }

    /// When the present one was created.
    pub(crate) fn get(&self) -> OffsetDateTime {
        let nanos = i128::from(self.0.load(Ordering::SeqCst)) * 1_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// Which messages are for this forwarder, and which for others.
#[derive(Debug, Clone)]
pub struct Route {
    /// This forwarder.
    pub id: ForwarderId,
    /// All that are configured, running here or not.
    pub all: Vec<ForwarderId>,
    /// Whether this one reports ids that are not configured: the first that runs.
    pub reports_unknown: bool,
    /// When the stream was created; sequences mean nothing without it.
    pub stream_created: StreamCreation,
}

impl Route {
    /// What a message requests, one for each event that it names. One that cannot be read requests one thing.
    #[must_use]
    pub fn instructions(&self, payload: &[u8], sequence: u64) -> Vec<Instruction> {
        match Body::read(payload) {
            Ok(body) => body.events().map(|event| self.classify(body.forwarder().clone(), event)).collect(),
            Err(error) => {
                let created = self.stream_created.get().format(&Rfc3339).unwrap_or_default();
                vec![Instruction::Malformed {
                    reference: format!("stream:{created}:{sequence}"),
                    error: error.to_string(),
                    excerpt: payload[..payload.len().min(EXCERPT_BYTES)].to_vec(),
                }]
            }
        }
    }

    /// What an event that is addressed to `target` requests of this forwarder.
    #[must_use]
    pub fn classify(&self, target: Target, event: Uuid) -> Instruction {
        match target {
            Target::Every => Instruction::Forward(event),
            Target::Only(only) if only == self.id => Instruction::Forward(event),
            Target::Only(only) if !self.reports_unknown || self.all.contains(&only) => Instruction::Skip,
            Target::Only(only) => Instruction::Unknown(only, event),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const EVENT: &str = "d0e158f8-97ac-4a0c-af51-c1c235e11a66";

    fn route(id: &str) -> Route {
        let all = ["first", "second"].map(|id| id.parse().expect("an id")).to_vec();
        Route {
            id: id.parse().expect("an id"),
            all,
            reports_unknown: id == "first",
            stream_created: StreamCreation::of(datetime!(2026-01-02 03:04:05.678901234 UTC)),
        }
    }

    fn instruction(id: &str, forwarder: &str) -> Instruction {
        let body = format!(r#"{{"forwarder":"{forwarder}","audit_event_id":"{EVENT}","occurred_at":null}}"#);
        let mut instructions = route(id).instructions(body.as_bytes(), 7);
        assert_eq!(instructions.len(), 1);
        instructions.remove(0)
    }

    #[test]
    fn every_message_is_somebodys() {
        let event = EVENT.parse().expect("a UUID");
        assert_eq!(instruction("first", "*"), Instruction::Forward(event));
        assert_eq!(instruction("first", "first"), Instruction::Forward(event));
        assert_eq!(instruction("first", "second"), Instruction::Skip);
        assert_eq!(instruction("second", "second"), Instruction::Forward(event));
        // Only one of them speaks for an unknown id, or there would be as many failure rows as forwarders.
        assert_eq!(
            instruction("first", "third"),
            Instruction::Unknown("third".parse().expect("an id"), event)
        );
        assert_eq!(instruction("second", "third"), Instruction::Skip);
    }

    #[test]
    fn a_pack_requests_one_thing_for_each_event() {
        let events = [EVENT.parse().expect("a UUID"), Uuid::from_u128(2)];
        let body = |forwarder: &str| {
            format!(
                r#"{{"forwarder":"{forwarder}","events":[["{}",null],["{}",null]]}}"#,
                events[0], events[1]
            )
        };
        let instructions = |forwarder: &str| route("first").instructions(body(forwarder).as_bytes(), 7);
        assert_eq!(instructions("*"), events.map(Instruction::Forward));
        assert_eq!(instructions("second"), [Instruction::Skip, Instruction::Skip]);
        let unreadable = instructions("no forwarder id");
        assert!(matches!(unreadable[..], [Instruction::Malformed { .. }]), "one thing: {unreadable:?}");
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place_in_the_stream() {
        let Instruction::Malformed { reference, excerpt, .. } = instruction("first", "no forwarder id")
        else {
            panic!("a blank in an id");
        };
        assert_eq!(reference, "stream:2026-01-02T03:04:05.678901Z:7");
        assert!(excerpt.starts_with(br#"{"forwarder":"no forwarder id""#));
    }
}
