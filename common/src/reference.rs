//! What travels through the broker: a thin reference, never the row. Personal data stays in the database that can
//! erase it.

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

/// The message body: exactly these three keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Whom it is for.
    pub forwarder: Target,
    /// The row to reload.
    pub audit_event_id: Uuid,
    /// RFC 3339, or null. A hint for people who watch the subject; the row itself decides.
    pub occurred_at: Option<String>,
}

/// The `Nats-Msg-Id` of a reference. The broker drops a repeated id inside its duplicate window, so whatever is sent
/// again *on purpose* carries a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageId {
    /// First delivery: `<uuid>`.
    First(Uuid),
    /// Sent again after a rewind or a rebase: `<uuid>:<generation>`.
    Again(Uuid, i32),
    /// An addressed entry: `<uuid>:<xid>-<seq>`, and `:<generation>` when it is sent again.
    Addressed(Uuid, u64, i64, i32),
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First(id) => write!(f, "{id}"),
            Self::Again(id, generation) => write!(f, "{id}:{generation}"),
            Self::Addressed(id, xid, seq, 0) => write!(f, "{id}:{xid}-{seq}"),
            Self::Addressed(id, xid, seq, generation) => write!(f, "{id}:{xid}-{seq}:{generation}"),
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
        assert_eq!(serde_json::from_str::<Reference>(&body).expect("parses"), reference);
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
        ] {
            assert!(serde_json::from_str::<Reference>(body).is_err(), "{body} was accepted");
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
    }
}
