//! What is sent: events as JSON, split into bodies of bounded size, and their signature.

use std::ops::Range;

use common::event::AuditEvent;
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use time::{OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description};
use uuid::Uuid;

const HEAD: &[u8] = br#"{"events":["#;
const TAIL: &[u8] = b"]}";

/// RFC 3339 with all six digits, so that the texts sort like the times.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// An event as receivers see it. Every field is always there.
#[derive(Serialize)]
struct Sent<'a> {
    id: Uuid,
    occurred_at: Option<String>,
    inserted_at: Option<String>,
    action: Option<&'a str>,
    outcome: Option<&'a str>,
    actor_id: Option<&'a str>,
    actor_type: Option<&'a str>,
    target_id: Option<&'a str>,
    target_type: Option<&'a str>,
    organization_id: Option<&'a str>,
    effective_user_id: Option<&'a str>,
    ip_address: Option<&'a str>,
    user_agent: Option<&'a str>,
    metadata: Option<&'a RawValue>,
}

/// One event of a body.
pub(super) struct Part {
    /// Whose it is.
    pub(super) id: Uuid,
    json: Vec<u8>,
}

impl Part {
    /// The event as JSON.
    pub(super) fn of(event: &AuditEvent) -> Self {
        let sent = Sent {
            id: event.id,
            occurred_at: event.occurred_at.map(timestamp),
            inserted_at: event.inserted_at.map(timestamp),
            action: event.action.as_deref(),
            outcome: event.outcome.as_deref(),
            actor_id: event.actor_id.as_deref(),
            actor_type: event.actor_type.as_deref(),
            target_id: event.target_id.as_deref(),
            target_type: event.target_type.as_deref(),
            organization_id: event.organization_id.as_deref(),
            effective_user_id: event.effective_user_id.as_deref(),
            ip_address: event.ip_address.as_deref(),
            user_agent: event.user_agent.as_deref(),
            metadata: event.metadata.as_deref(),
        };
        Self { id: event.id, json: serde_json::to_vec(&sent).expect("an event is JSON") }
    }

    /// The bytes of a body that holds nothing else.
    pub(super) fn alone(&self) -> usize {
        HEAD.len() + self.json.len() + TAIL.len()
    }
}

fn timestamp(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(TIMESTAMP).expect("a time has all of these")
}

/// Which parts go together: as many as the limits allow, in order. A part that is too large alone is on its own.
pub(super) fn split(parts: &[Part], max_events: usize, max_bytes: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (place, part) in parts.iter().enumerate() {
        let grown = bytes + 1 + part.json.len();
        if place > start && (place - start == max_events || grown > max_bytes) {
            ranges.push(start..place);
            start = place;
        }
        bytes = if place == start { part.alone() } else { grown };
    }
    if start < parts.len() {
        ranges.push(start..parts.len());
    }
    ranges
}

/// One body.
pub(super) fn join(parts: &[Part]) -> Vec<u8> {
    let mut body = HEAD.to_vec();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&part.json);
    }
    body.extend_from_slice(TAIL);
    body
}

/// The value of `Audit-Signature`.
pub(super) fn signature(key: &Hmac<Sha256>, body: &[u8]) -> String {
    let mac = key.clone().chain_update(body).finalize();
    format!("sha256={}", hex::encode(mac.into_bytes()))
}

#[cfg(test)]
mod tests {
    use hmac::KeyInit as _;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    fn part(action: &str) -> Part {
        Part::of(&AuditEvent::new(Uuid::new_v4(), action))
    }

    #[test]
    fn an_event_is_sent_with_all_its_fields_and_times_in_utc_to_the_microsecond() {
        let id = Uuid::new_v4();
        let mut event = AuditEvent::new(id, "auth.login.success");
        event.occurred_at = Some(datetime!(2026-03-01 01:30:00.120 +2));
        event.metadata = Some(RawValue::from_string(r#"{"n": 1e400,  "a": "ü"}"#.into()).expect("JSON"));
        let sent = String::from_utf8(Part::of(&event).json).expect("UTF-8");
        let expected = format!(
            "{{\"id\":\"{id}\",\"occurred_at\":\"2026-02-28T23:30:00.120000Z\",\"inserted_at\":null,\
             \"action\":\"auth.login.success\",\"outcome\":null,\"actor_id\":null,\"actor_type\":null,\
             \"target_id\":null,\"target_type\":null,\"organization_id\":null,\"effective_user_id\":null,\
             \"ip_address\":null,\"user_agent\":null,\"metadata\":{{\"n\": 1e400,  \"a\": \"ü\"}}}}"
        );
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_earliest_and_the_latest_time_can_be_sent() {
        assert_eq!(timestamp(datetime!(0001-01-01 0:00 UTC)), "0001-01-01T00:00:00.000000Z");
        let latest = timestamp(datetime!(9999-12-31 23:59:59.999999 UTC));
        assert_eq!(latest, "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let key = Hmac::new_from_slice(&[0x0b; 20]).expect("any length");
        assert_eq!(
            signature(&key, b"Hi There"),
            "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    proptest! {
        #[test]
        fn bodies_hold_every_event_once_in_order_and_keep_the_limits(
            lengths in prop::collection::vec(0_usize..600, 0..40),
            max_events in 1_usize..10,
            max_bytes in 1_024_usize..4_096,
        ) {
            let parts: Vec<Part> = lengths.iter().map(|length| part(&"a".repeat(*length))).collect();
            let ranges = split(&parts, max_events, max_bytes);
            let mut sent = Vec::new();
            for range in ranges.clone() {
                let body = join(&parts[range.clone()]);
                prop_assert!(range.len() <= max_events && body.len() <= max_bytes);
                let body: Value = serde_json::from_slice(&body).expect("JSON");
                sent.extend(body["events"].as_array().expect("a list").iter().map(|event| event["id"].clone()));
            }
            let all: Vec<Value> = parts.iter().map(|part| json!(part.id)).collect();
            prop_assert_eq!(sent, all);
            // None is smaller than it must be.
            for pair in ranges.windows(2) {
                let with_next = join(&parts[pair[0].start..=pair[1].start]);
                prop_assert!(pair[0].len() == max_events || with_next.len() > max_bytes);
            }
        }
    }
}
