//! From an audit event to an action.

use common::{event::AuditEvent, failures::Reason, process::telemetry::names};
use metrics::counter;
use serde::Deserialize;
use threadline::{ActorRef, ActorType, AuditAction, Status};
use time::OffsetDateTime;

use crate::forwarder::Verdict;

/// What the rules read.
pub(super) const COLUMNS: [&str; 5] = ["action", "outcome", "actor_id", "actor_type", "metadata"];

/// What they look for in the metadata.
pub(super) const METADATA_KEYS: [&str; 2] = ["reason", "request_id"];

/// Which rules apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    /// The whole event, as it happened.
    #[default]
    Correct,
    /// Exactly what Sigra's own forwarder writes, including what it drops: the time and every detail.
    Compat,
}

/// The rules of one forwarder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    profile: Profile,
    actor_type: ActorType,
}

impl Mapping {
    /// Rules under which actors are of `actor_type` unless their row says otherwise.
    pub(super) fn new(profile: Profile, actor_type: &str) -> Result<Self, String> {
        match actor_type.parse() {
            Ok(ActorType::Anonymous) | Err(_) => Err(format!(
                "actor_type: {actor_type:?} is none of user, admin, service_account, job, system"
            )),
            Ok(actor_type) => Ok(Self { profile, actor_type }),
        }
    }

    /// The action, or why there can be none.
    pub(super) fn action(self, event: &AuditEvent) -> Result<AuditAction, Verdict> {
        let name = event.action.clone().filter(|name| !name.is_empty());
        let Some(name) = name else {
            return Err(mismatch("the row names no action"));
        };
        let mut action = AuditAction::new(event.id, name, self.actor(event)?, OffsetDateTime::now_utc());
        action.status = self.status(event);
        action.correlation_id = Some(event.id.to_string());
        if self.profile == Profile::Compat {
            return Ok(action);
        }
        let (category, verb) = match action.name.split_once('.') {
            Some((category, verb)) => (category.to_owned(), Some(verb.to_owned())),
            None => (action.name.clone(), None),
        };
        action.verb = verb;
        action.category = Some(category);
        action.reason = event.metadata_string(METADATA_KEYS[0]);
        action.request_id = event.metadata_string(METADATA_KEYS[1]);
        // When it happened, not when it was delivered: time-lines and rebuilds stay true.
        action.inserted_at = event.occurred_at.or(event.inserted_at).unwrap_or(action.inserted_at);
        Ok(action)
    }

    /// Whether an action's time is the event's.
    pub(super) fn keeps_time(self) -> bool {
        self.profile == Profile::Correct
    }

    fn status(self, event: &AuditEvent) -> Status {
        match (event.outcome.as_deref(), self.profile) {
            // Sigra compares with an atom, but rows hold strings: its "error" ends as ok.
            (Some("success"), _) | (Some("error"), Profile::Compat) => Status::Ok,
            (Some("failure"), _) | (Some("error"), Profile::Correct) => Status::Error,
            (_, profile) => {
                counter!(names::FORWARD_UNKNOWN_OUTCOMES).increment(1);
                if profile == Profile::Correct { Status::Error } else { Status::Ok }
            }
        }
    }

    fn actor(self, event: &AuditEvent) -> Result<ActorRef, Verdict> {
        let id = event.actor_id.as_deref();
        match self.profile {
            Profile::Correct => {
                let Some(id) = id.filter(|id| !id.is_empty()) else {
                    return Ok(ActorRef::anonymous());
                };
                let stated = event.actor_type.as_deref().and_then(|text| text.parse().ok());
                let kind = stated.filter(|kind| *kind != ActorType::Anonymous).unwrap_or(self.actor_type);
                ActorRef::new(kind, Some(id)).map_err(|error| mismatch(error.to_string()))
            }
            Profile::Compat => match id {
                None => Ok(ActorRef::anonymous()),
                Some(id) => ActorRef::new(self.actor_type, Some(id)).map_err(|_| mismatch("missing_actor")),
            },
        }
    }
}

fn mismatch(message: impl Into<String>) -> Verdict {
    Verdict::DeadLetter(Reason::SchemaMismatch, message.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::RawValue};
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    fn event() -> AuditEvent {
        let id = Uuid::from_u128(0xD0E1_58F8_97AC_4A0C_AF51_C1C2_35E1_1A66);
        let mut event = AuditEvent::new(id, "auth.login.failure");
        event.occurred_at = Some(datetime!(2026-05-15 12:00:00.123457 UTC));
        event.inserted_at = Some(datetime!(2026-05-15 12:00:01 UTC));
        event.outcome = Some("failure".into());
        event.actor_id = Some("u1".into());
        event.actor_type = Some("admin".into());
        let metadata = r#"{"reason":"sso_required","request_id":"r1"}"#;
        event.metadata = Some(RawValue::from_string(metadata.into()).expect("JSON"));
        event
    }

    fn event_of(action: Option<String>) -> AuditEvent {
        let mut event = event();
        event.action = action;
        event
    }

    fn map(profile: Profile, event: &AuditEvent) -> AuditAction {
        Mapping::new(profile, "user").expect("a type with an id").action(event).expect("maps")
    }

    #[test]
    fn correct_keeps_the_time_the_actor_and_the_details() {
        let action = map(Profile::Correct, &event());
        assert_eq!(action.id, event().id);
        assert_eq!(action.name, "auth.login.failure");
        assert_eq!(action.category.as_deref(), Some("auth"));
        assert_eq!(action.verb.as_deref(), Some("login.failure"));
        assert_eq!(action.status, Status::Error);
        assert_eq!(action.actor.to_json(), json!({"type": "admin", "id": "u1"}));
        assert_eq!(action.correlation_id.as_deref(), Some("d0e158f8-97ac-4a0c-af51-c1c235e11a66"));
        assert_eq!(action.reason.as_deref(), Some("sso_required"));
        assert_eq!(action.request_id.as_deref(), Some("r1"));
        assert_eq!(action.inserted_at, datetime!(2026-05-15 12:00:00.123457 UTC));
    }

    #[test]
    fn compat_drops_what_sigra_drops() {
        let action = map(Profile::Compat, &event());
        assert_eq!(action.actor.to_json(), json!({"type": "user", "id": "u1"}));
        assert_eq!(
            (action.category, action.verb, action.reason, action.request_id),
            (None, None, None, None)
        );
        assert!(action.inserted_at > datetime!(2026-05-16 00:00 UTC), "the time of delivery");
    }

    #[test]
    fn outcomes_become_statuses_by_profile() {
        for (outcome, correct, compat) in [
            (Some("success"), Status::Ok, Status::Ok),
            (Some("failure"), Status::Error, Status::Error),
            (Some("error"), Status::Error, Status::Ok),
            (Some("perhaps"), Status::Error, Status::Ok),
            (None, Status::Error, Status::Ok),
        ] {
            let mut event = event();
            event.outcome = outcome.map(Into::into);
            assert_eq!(map(Profile::Correct, &event).status, correct, "{outcome:?}");
            assert_eq!(map(Profile::Compat, &event).status, compat, "{outcome:?}");
        }
    }

    #[test]
    fn actors_are_never_lost() {
        for (id, kind, expected) in [
            (None, Some("user"), json!({"type": "anonymous"})),
            (Some(""), Some("user"), json!({"type": "anonymous"})),
            (Some("u1"), Some("system"), json!({"type": "system", "id": "u1"})),
            (Some("u1"), Some("service_account"), json!({"type": "service_account", "id": "u1"})),
            (Some("u1"), Some("anonymous"), json!({"type": "user", "id": "u1"})),
            (Some("u1"), Some("robot"), json!({"type": "user", "id": "u1"})),
            (Some("u1"), None, json!({"type": "user", "id": "u1"})),
        ] {
            let mut event = event();
            event.actor_id = id.map(Into::into);
            event.actor_type = kind.map(Into::into);
            assert_eq!(map(Profile::Correct, &event).actor.to_json(), expected, "{id:?} {kind:?}");
        }
    }

    #[test]
    fn an_action_without_a_dot_is_its_own_category() {
        let action = map(Profile::Correct, &event_of(Some("login".into())));
        assert_eq!((action.category.as_deref(), action.verb), (Some("login"), None));
    }

    #[test]
    fn an_event_without_an_action_is_a_mismatch_and_not_a_panic() {
        let mapping = Mapping::new(Profile::Correct, "user").expect("a type with an id");
        for name in [None, Some(String::new())] {
            let verdict = mapping.action(&event_of(name)).expect_err("no name");
            assert!(matches!(verdict, Verdict::DeadLetter(Reason::SchemaMismatch, _)));
        }
    }

    /// Sigra's forwarder turned each action into an atom, of which there can only be so many. In a process of its own, because
    /// the memory of this one is other tests' too.
    #[test]
    fn a_million_different_actions_leave_nothing_behind() {
        if std::env::var_os("MAPS_A_MILLION").is_none() {
            let this = std::env::current_exe().expect("this test's binary");
            let name = concat!(module_path!(), "::a_million_different_actions_leave_nothing_behind");
            let (_, name) = name.split_once("::").expect("a path within the crate");
            let mut alone = std::process::Command::new(this);
            let ended = alone.args(["--exact", name]).env("MAPS_A_MILLION", "1").output().expect("it starts");
            let said = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let kilobytes = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
            line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
        };
        let mapping = Mapping::new(Profile::Correct, "user").expect("a type with an id");
        let long = "x".repeat(200);
        let mut before = 0;
        for number in 0..1_000_000 {
            let event = event_of(Some(format!("action.number_{number}.{long}")));
            assert!(mapping.action(&event).is_ok());
            if number == 500_000 {
                before = kilobytes();
            }
        }
        // The names alone would be more than 100 MiB.
        assert!(kilobytes() < before + (32 << 10), "from {before} to {} KiB", kilobytes());
    }

    #[test]
    fn an_actor_type_that_takes_no_id_cannot_be_configured() {
        for text in ["anonymous", "robot", ""] {
            assert!(Mapping::new(Profile::Correct, text).is_err(), "{text:?}");
        }
    }
}
