//! What travels through the broker: thin references, one or many in a message, never the row. Personal data stays in the
//! database that can erase it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::identifier::ForwarderId;

/// Whom a reference is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every forwarder; `"*"` on the wire.
    Every,
    /// One forwarder: a re-drive or a repair.
    Only(ForwarderId),
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Every => serializer.serialize_str("*"),
            Self::Only(id) => serializer.serialize_str(id.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "*" => Ok(Self::Every),
            id => id.parse().map(Self::Only).map_err(de::Error::custom),
        }
    }
}

/// How many references a pack holds at most: about 20 kB, far below what any broker takes in one message.
pub const PACK_MAX: usize = 256;

/// No pack with its headers has more bytes.
pub const PACK_BYTES: usize = 32 << 10;

/// The header of a pack: how many references it holds.
pub const REFERENCES_HEADER: &str = "Audit-References";

/// The body of a message with one reference: exactly these three keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Whom it is for.
    pub forwarder: Target,
    /// The row to reload.
    pub audit_event_id: Uuid,
    /// RFC 3339, or null. A hint for people who watch the subject; the row itself decides.
    pub occurred_at: Option<String>,
}

/// The body of a message with many references: exactly these two keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pack {
    /// Whom all of them are for.
    pub forwarder: Target,
    /// The rows to reload, each with what [`Reference::occurred_at`] is; one at least.
    pub events: Vec<(Uuid, Option<String>)>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// One reference.
    One(Reference),
    /// A pack of them.
    Pack(Pack),
}

impl Body {
    /// Reads the body of a message.
    ///
    /// # Errors
    /// When it is neither a reference nor a pack.
    pub fn read(payload: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(payload)
    }

    /// Whom it is for.
    #[must_use]
    pub fn forwarder(&self) -> &Target {
        match self {
            Self::One(reference) => &reference.forwarder,
            Self::Pack(pack) => &pack.forwarder,
        }
    }

    /// The rows to reload, in order.
    pub fn events(&self) -> impl Iterator<Item = Uuid> {
        let (one, pack): (_, &[_]) = match self {
            Self::One(reference) => (Some(reference.audit_event_id), &[]),
            Self::Pack(pack) => (None, &pack.events),
        };
        one.into_iter().chain(pack.iter().map(|(event, _)| *event))
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The keys of both; an untagged enum would only say that neither fits.
        #[derive(Deserialize)]
        struct Keys {
            forwarder: Target,
            audit_event_id: Option<Uuid>,
            occurred_at: Option<String>,
            events: Option<Vec<(Uuid, Option<String>)>>,
        }
        let Keys { forwarder, audit_event_id, occurred_at, events } = Keys::deserialize(deserializer)?;
        match (audit_event_id, events) {
            (Some(audit_event_id), None) => {
                Ok(Self::One(Reference { forwarder, audit_event_id, occurred_at }))
            }
            (None, Some(events)) if !events.is_empty() => Ok(Self::Pack(Pack { forwarder, events })),
            (None, Some(_)) => Err(de::Error::custom("`events` names no event")),
            (None, None) => Err(de::Error::missing_field("audit_event_id")),
            (Some(_), Some(_)) => Err(de::Error::custom("both `audit_event_id` and `events`")),
        }
    }
}

/// The `Nats-Msg-Id` of a message. The broker drops a repeated id inside its duplicate window, so whatever is sent
/// again *on purpose* carries a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageId {
    /// First delivery: `<uuid>`.
    First(Uuid),
    /// Sent again after a rewind or a rebase: `<uuid>:<generation>`.
    Again(Uuid, i32),
    /// An addressed entry: `<uuid>:<xid>-<seq>`, and `:<generation>` when it is sent again.
    Addressed(Uuid, u64, i64, i32),
    /// A pack, by the places of its first and its last entry in the log and by what it holds: `pack:<xid>-<seq>:<xid>-<seq>:<digest>`, and
    /// `:<generation>` when it is sent again. Two places alone name different packs where a standby that took over lacks the round and has an
    /// entry more between them; the broker would take the second one for the first.
    Pack {
        /// Transaction and place of the first entry.
        first: (u64, i64),
        /// Those of the last one.
        last: (u64, i64),
        /// Of the events in their order; sixteen hexadecimal digits.
        digest: u64,
        /// How often the log was rewound.
        generation: i32,
    },
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(id) => write!(f, "{id}"),
            Self::Again(id, generation) => write!(f, "{id}:{generation}"),
            Self::Addressed(id, xid, seq, 0) => write!(f, "{id}:{xid}-{seq}"),
            Self::Addressed(id, xid, seq, generation) => write!(f, "{id}:{xid}-{seq}:{generation}"),
            Self::Pack { first: (xid, seq), last: (last_xid, last_seq), digest, generation } => {
                write!(f, "pack:{xid}-{seq}:{last_xid}-{last_seq}:{digest:016x}")?;
                if *generation == 0 { Ok(()) } else { write!(f, ":{generation}") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0xD0E1_58F8_97AC_4A0C_AF51_C1C2_35E1_1A66);

    #[test]
    fn the_body_is_exactly_three_keys() {
        let reference = Reference {
            forwarder: Target::Every,
            audit_event_id: ID,
            occurred_at: Some("2026-05-15T12:00:00.000001Z".into()),
        };
        let body = serde_json::to_string(&reference).expect("serialises");
        assert_eq!(
            body,
            r#"{"forwarder":"*","audit_event_id":"d0e158f8-97ac-4a0c-af51-c1c235e11a66","occurred_at":"2026-05-15T12:00:00.000001Z"}"#
        );
        assert_eq!(Body::read(body.as_bytes()).expect("parses"), Body::One(reference));
    }

    #[test]
    fn the_body_of_a_pack_is_exactly_two_keys() {
        let second = Uuid::from_u128(2);
        let pack = Pack {
            forwarder: Target::Every,
            events: vec![(ID, Some("2026-05-15T12:00:00Z".into())), (second, None)],
        };
        let body = serde_json::to_string(&pack).expect("serialises");
        assert_eq!(
            body,
            r#"{"forwarder":"*","events":[["d0e158f8-97ac-4a0c-af51-c1c235e11a66","2026-05-15T12:00:00Z"],["00000000-0000-0000-0000-000000000002",null]]}"#
        );
        let read = Body::read(body.as_bytes()).expect("parses");
        assert_eq!(read.events().collect::<Vec<_>>(), [ID, second]);
        assert_eq!(read, Body::Pack(pack));
    }

    #[test]
    fn the_largest_pack_is_far_below_what_a_broker_takes() {
        let time = "294276-12-31T23:59:59.999999+15:59:59".to_owned();
        let pack = Pack {
            forwarder: Target::Only("f".repeat(32).parse().expect("an id")),
            events: vec![(ID, Some(time)); PACK_MAX],
        };
        let body = serde_json::to_vec(&pack).expect("serialises");
        // Headers have a kilobyte.
        assert!(body.len() < PACK_BYTES - 1_024, "{}", body.len());
    }

    #[test]
    fn a_body_that_names_no_event_is_not_a_reference() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"forwarder":"*","audit_event_id":null,"occurred_at":null}"#,
            r#"{"forwarder":"a b","audit_event_id":"d0e158f8-97ac-4a0c-af51-c1c235e11a66","occurred_at":null}"#,
            r#"{"forwarder":"*","audit_event_id":"d0e158f8","occurred_at":null}"#,
            r#"{"forwarder":"*","events":[]}"#,
            r#"{"forwarder":"*","events":null}"#,
            r#"{"forwarder":"*","events":["d0e158f8-97ac-4a0c-af51-c1c235e11a66"]}"#,
            r#"{"forwarder":"*","events":[[null,null]]}"#,
            r#"{"events":[["d0e158f8-97ac-4a0c-af51-c1c235e11a66",null]]}"#,
            r#"{"forwarder":"*","audit_event_id":"d0e158f8-97ac-4a0c-af51-c1c235e11a66","events":[["d0e158f8-97ac-4a0c-af51-c1c235e11a66",null]]}"#,
        ] {
            assert!(Body::read(body.as_bytes()).is_err(), "{body} was accepted");
        }
    }

    #[test]
    fn whatever_is_sent_again_on_purpose_has_an_id_of_its_own() {
        assert_eq!(MessageId::First(ID).to_string(), "d0e158f8-97ac-4a0c-af51-c1c235e11a66");
        assert_eq!(MessageId::Again(ID, 2).to_string(), "d0e158f8-97ac-4a0c-af51-c1c235e11a66:2");
        assert_eq!(
            MessageId::Addressed(ID, 771, 9, 0).to_string(),
            "d0e158f8-97ac-4a0c-af51-c1c235e11a66:771-9"
        );
        assert_eq!(
            MessageId::Addressed(ID, 771, 9, 2).to_string(),
            "d0e158f8-97ac-4a0c-af51-c1c235e11a66:771-9:2"
        );
        let pack = |generation| MessageId::Pack { first: (771, 9), last: (772, 3), digest: 0xAB, generation };
        assert_eq!(pack(0).to_string(), "pack:771-9:772-3:00000000000000ab");
        assert_eq!(pack(2).to_string(), "pack:771-9:772-3:00000000000000ab:2");
    }
}
