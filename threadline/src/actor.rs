//! Who did it.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

/// The kinds of actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorType {
    /// A person using the application.
    User,
    /// A person operating it.
    Admin,
    /// A program with an account of its own.
    ServiceAccount,
    /// A background job.
    Job,
    /// The application itself.
    System,
    /// Unknown; the only kind without an id.
    Anonymous,
}

impl ActorType {
    /// The name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
            Self::ServiceAccount => "service_account",
            Self::Job => "job",
            Self::System => "system",
            Self::Anonymous => "anonymous",
        }
    }
}

impl FromStr for ActorType {
    type Err = ActorError;

    fn from_str(text: &str) -> Result<Self, ActorError> {
        Ok(match text {
            "user" => Self::User,
            "admin" => Self::Admin,
            "service_account" => Self::ServiceAccount,
            "job" => Self::Job,
            "system" => Self::System,
            "anonymous" => Self::Anonymous,
            _ => return Err(ActorError::UnknownActorType),
        })
    }
}

/// Why something is not an actor. The names are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActorError {
    /// None of the six types.
    #[error("unknown_actor_type")]
    UnknownActorType,
    /// Every type but `anonymous` needs a non-empty id.
    #[error("missing_actor_id")]
    MissingActorId,
    /// Not an object with a string under `type`.
    #[error("invalid_actor_ref_map")]
    InvalidActorRefMap,
    /// A job's arguments hold no `actor_ref`.
    #[error("missing_actor_ref")]
    MissingActorRef,
}

/// An actor: a type and, unless anonymous, an id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActorRef {
    kind: ActorType,
    id: Option<String>,
}

impl ActorRef {
    /// Unknown.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { kind: ActorType::Anonymous, id: None }
    }

    /// An actor of `kind`. Anonymous drops any id.
    ///
    /// # Errors
    /// [`ActorError::MissingActorId`] when the id is absent or empty.
    pub fn new(kind: ActorType, id: Option<impl Into<String>>) -> Result<Self, ActorError> {
        if kind == ActorType::Anonymous {
            return Ok(Self::anonymous());
        }
        match id.map(Into::into) {
            Some(id) if !id.is_empty() => Ok(Self { kind, id: Some(id) }),
            _ => Err(ActorError::MissingActorId),
        }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// In this order: no string under `type`, no id (even for an unknown type), an unknown type.
    pub fn from_json(value: &Value) -> Result<Self, ActorError> {
        let map = value.as_object().ok_or(ActorError::InvalidActorRefMap)?;
        let kind = map.get("type").and_then(Value::as_str).ok_or(ActorError::InvalidActorRefMap)?;
        if kind == ActorType::Anonymous.as_str() {
            return Ok(Self::anonymous());
        }
        let id = map.get("id").and_then(Value::as_str).ok_or(ActorError::MissingActorId)?;
        Self::new(kind.parse()?, Some(id))
    }

    /// Reads the actor out of a job's arguments.
    ///
    /// # Errors
    /// [`ActorError::MissingActorRef`] when there is none, else as [`ActorRef::from_json`].
    pub fn from_job_args(arguments: &Map<String, Value>) -> Result<Self, ActorError> {
        Self::from_json(arguments.get("actor_ref").ok_or(ActorError::MissingActorRef)?)
    }

    /// The JSON form: `{"type":"user","id":"…"}`, or `{"type":"anonymous"}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.id {
            Some(id) => json!({"type": self.kind.as_str(), "id": id}),
            None => json!({"type": self.kind.as_str()}),
        }
    }

    /// The same as text, for a statement that writes many.
    #[must_use]
    pub fn to_json_text(&self) -> String {
        let kind = self.kind.as_str();
        match &self.id {
            // Quoted and escaped by the library; the type is one of ours.
            Some(id) => format!(r#"{{"type":"{kind}","id":{}}}"#, Value::from(id.as_str())),
            None => format!(r#"{{"type":"{kind}"}}"#),
        }
    }

    /// The type.
    #[must_use]
    pub fn kind(&self) -> ActorType {
        self.kind
    }

    /// The id; `None` when anonymous.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

impl fmt::Display for ActorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "{}:{id}", self.kind.as_str()),
            None => f.write_str(self.kind.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_six_types_round_trips_through_json() {
        for name in ["user", "admin", "service_account", "job", "system"] {
            let actor = ActorRef::new(name.parse().expect("a type"), Some("u1")).expect("has an id");
            assert_eq!(actor.to_json(), json!({"type": name, "id": "u1"}));
            assert_eq!(ActorRef::from_json(&actor.to_json()), Ok(actor));
        }
        let anonymous = ActorRef::new(ActorType::Anonymous, Some("dropped")).expect("needs no id");
        assert_eq!(anonymous.to_json(), json!({"type": "anonymous"}));
        assert_eq!(ActorRef::from_json(&anonymous.to_json()), Ok(anonymous));
    }

    #[test]
    fn each_of_the_four_errors_has_its_cause() {
        use ActorError::{InvalidActorRefMap, MissingActorId, MissingActorRef, UnknownActorType};
        for (value, error) in [
            (json!(null), InvalidActorRefMap),
            (json!("user"), InvalidActorRefMap),
            (json!({"id": "u1"}), InvalidActorRefMap),
            (json!({"type": 7, "id": "u1"}), InvalidActorRefMap),
            (json!({"type": "user"}), MissingActorId),
            (json!({"type": "user", "id": ""}), MissingActorId),
            (json!({"type": "user", "id": 7}), MissingActorId),
            (json!({"type": "robot"}), MissingActorId),
            (json!({"type": "robot", "id": "u1"}), UnknownActorType),
        ] {
            assert_eq!(ActorRef::from_json(&value), Err(error), "{value}");
        }
        assert_eq!(ActorRef::from_job_args(&Map::new()), Err(MissingActorRef));
    }
}
