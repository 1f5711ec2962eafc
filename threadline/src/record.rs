//! Recording one action, in the transaction of the caller's choice.

use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _};

use crate::{ActorRef, AuditAction, Status, StorageSchema};

/// An action to record: who did what, and what else is known of it. There is none without an actor: who is not known is
/// [`ActorRef::anonymous`].
///
/// ```
/// use threadline::{Action, ActorRef, ActorType, Status};
///
/// # fn main() -> Result<(), threadline::ActorError> {
/// let actor = ActorRef::new(ActorType::User, Some("u1"))?;
/// let action = Action::new("auth.login", actor)
///     .status(Status::Error)
///     .reason("the account is locked")
///     .request_id("req-7");
/// # let _ = action;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an action is recorded by Timeline::record or Action::record"]
pub struct Action {
    name: String,
    actor: ActorRef,
    status: Status,
    verb: Option<String>,
    category: Option<String>,
    reason: Option<String>,
    comment: Option<String>,
    correlation_id: Option<String>,
    request_id: Option<String>,
    job_id: Option<String>,
}

impl Action {
    /// An action that ended well: its name, such as `auth.login.success`, and who did it.
    pub fn new(name: impl Into<String>, actor: ActorRef) -> Self {
        Self {
            name: name.into(),
            actor,
            status: Status::default(),
            verb: None,
            category: None,
            reason: None,
            comment: None,
            correlation_id: None,
            request_id: None,
            job_id: None,
        }
    }

    /// What [`Self::status`] has set.
    pub(crate) fn outcome(&self) -> Status {
        self.status
    }

    /// How it ended.
    pub fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    /// What was done, such as `login`.
    pub fn verb(mut self, verb: impl Into<String>) -> Self {
        self.verb = Some(verb.into());
        self
    }

    /// What kind of thing it was done to.
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = Some(category.into());
        self
    }

    /// Why it ended as it did.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Free text.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Ties actions and changes together.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The HTTP request that it was part of.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// The background job that it was part of.
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.job_id = Some(id.into());
        self
    }

    /// Name and options, as `threadline_record_action` takes them: what is not said is left to the transaction's context.
    pub(crate) fn into_options(self) -> (String, Map<String, Value>) {
        let said = [
            ("actor", Some(self.actor.to_json())),
            ("status", Some(self.status.as_str().into())),
            ("verb", self.verb.map(Value::from)),
            ("category", self.category.map(Value::from)),
            ("reason", self.reason.map(Value::from)),
            ("comment", self.comment.map(Value::from)),
            ("correlation_id", self.correlation_id.map(Value::from)),
            ("request_id", self.request_id.map(Value::from)),
            ("job_id", self.job_id.map(Value::from)),
        ];
        let said = said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        (self.name, said.collect())
    }

    /// Records it in the connection's current transaction if there is one: it is committed or rolled back with what it is
    /// about. By itself it links to no captured transaction. Id and time are the database's. Whoever commits says so with
    /// [`telemetry::action_recorded`](crate::telemetry::action_recorded).
    ///
    /// # Errors
    /// What the database says.
    pub async fn record(
        self,
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<AuditAction, sqlx::Error> {
        let statement = format!(
            "insert into {} (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             returning id, inserted_at",
            schema.table("audit_actions")
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(statement))
            .persistent(false)
            .bind(&self.name)
            .bind(self.actor.to_json())
            .bind(self.status.as_str())
            .bind(&self.verb)
            .bind(&self.category)
            .bind(&self.reason)
            .bind(&self.comment)
            .bind(&self.correlation_id)
            .bind(&self.request_id)
            .bind(&self.job_id)
            .fetch_one(connection)
            .await?;
        Ok(AuditAction {
            id: row.try_get("id")?,
            name: self.name,
            actor: self.actor,
            status: self.status,
            verb: self.verb,
            category: self.category,
            reason: self.reason,
            comment: self.comment,
            correlation_id: self.correlation_id,
            request_id: self.request_id,
            job_id: self.job_id,
            inserted_at: row.try_get("inserted_at")?,
        })
    }
}
