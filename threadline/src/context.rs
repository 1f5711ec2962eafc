//! Who acts, and on whose behalf: what a transaction, a request or a job says of its changes.

use serde_json::{Map, Value};

use crate::{ActorError, ActorRef};

/// Actor and ids of one transaction, request or job. The values of a host's own keys stand in `audit_transactions.context`.
///
/// ```
/// use threadline::{ActorRef, ActorType, AuditContext};
///
/// # fn main() -> Result<(), threadline::ActorError> {
/// let actor = ActorRef::new(ActorType::User, Some("u1"))?;
/// let context = AuditContext::of(actor).request_id("req-7").source("web").with("tenant", 7);
/// // A background job that the request starts acts for the same user.
/// let arguments = context.clone().job_id("42").to_job_args();
/// assert_eq!(AuditContext::from_job_args(&arguments)?.actor(), context.actor());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditContext {
    actor: Option<ActorRef>,
    request_id: Option<String>,
    correlation_id: Option<String>,
    job_id: Option<String>,
    source: Option<String>,
    more: Map<String, Value>,
}

impl From<ActorRef> for AuditContext {
    fn from(actor: ActorRef) -> Self {
        Self::of(actor)
    }
}

impl AuditContext {
    /// Of this actor.
    #[must_use]
    pub fn of(actor: ActorRef) -> Self {
        Self { actor: Some(actor), ..Self::default() }
    }

    /// Of nobody that is known: its changes are captured without an actor. Where somebody acts who cannot be named,
    /// [`ActorRef::anonymous`] says so.
    #[must_use]
    pub fn without_actor() -> Self {
        Self::default()
    }

    /// Of this actor, where none is known.
    #[must_use]
    pub fn actor_or(mut self, actor: ActorRef) -> Self {
        self.actor.get_or_insert(actor);
        self
    }

    /// The HTTP request that it is part of.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Ties actions and changes of several transactions together.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The background job that it is part of.
    #[must_use]
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.job_id = Some(id.into());
        self
    }

    /// Where it comes from, such as `web` or `console`.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A key of the host's own. All together take at most 8 KiB as JSON.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.more.insert(key.into(), value.into());
        self
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> Option<&ActorRef> {
        self.actor.as_ref()
    }

    /// The arguments by which a background job continues in this context: `actor_ref`, `correlation_id` and `job_id`, as far as they
    /// are known.
    #[must_use]
    pub fn to_job_args(&self) -> Map<String, Value> {
        let text = |value: &Option<String>| value.clone().map(Value::from);
        let known = [
            ("actor_ref", self.actor.as_ref().map(ActorRef::to_json)),
            ("correlation_id", text(&self.correlation_id)),
            ("job_id", text(&self.job_id)),
        ];
        known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// The context of a job, by its arguments. Ids may be texts or numbers.
    ///
    /// # Errors
    /// As [`ActorRef::from_job_args`].
    pub fn from_job_args(arguments: &Map<String, Value>) -> Result<Self, ActorError> {
        let id = |key: &str| match arguments.get(key) {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        Ok(Self {
            actor: Some(ActorRef::from_job_args(arguments)?),
            correlation_id: id("correlation_id"),
            job_id: id("job_id"),
            ..Self::default()
        })
    }

    /// What `threadline_begin` takes.
    pub(crate) fn to_json(&self) -> Value {
        let mut json = self.more.clone();
        let ids = [
            ("request_id", &self.request_id),
            ("correlation_id", &self.correlation_id),
            ("job_id", &self.job_id),
            ("source", &self.source),
        ];
        for (key, value) in ids {
            json.insert(key.to_owned(), value.clone().into());
        }
        json.insert("actor".to_owned(), self.actor.as_ref().map(ActorRef::to_json).into());
        json.insert("allow_missing_actor".to_owned(), self.actor.is_none().into());
        json.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ActorType;

    #[test]
    fn a_job_continues_in_the_context_that_it_was_queued_in() {
        let actor = ActorRef::new(ActorType::User, Some("u1")).expect("an actor");
        let context = AuditContext::of(actor).correlation_id("c1").job_id("j1");
        assert_eq!(AuditContext::from_job_args(&context.to_job_args()), Ok(context.clone()));
        let queued = context.clone().request_id("r1").source("web").with("tenant", 7).to_job_args();
        assert_eq!(
            Value::from(queued),
            json!({"actor_ref": {"type": "user", "id": "u1"}, "correlation_id": "c1", "job_id": "j1"})
        );
        let numbered = json!({"actor_ref": {"type": "user", "id": "u1"}, "correlation_id": "c1", "job_id": 7, "other": []});
        let numbered = AuditContext::from_job_args(numbered.as_object().expect("an object"));
        assert_eq!(numbered, Ok(context.job_id("7")));
        assert_eq!(AuditContext::from_job_args(&Map::new()), Err(ActorError::MissingActorRef));
    }
}
