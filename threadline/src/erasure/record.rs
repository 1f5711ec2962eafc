//! What a run leaves: its row, the action that stands for it, and evidence, in the transaction that ends it.

use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    counts::Counts,
    error::ErasureError,
    left::ERASURES,
    request::{ErasureOptions, subject_hash},
    step::Place,
};
use crate::{
    Action, ActorRef, Status, StorageSchema,
    batches::session_user,
    evidence::{Entrypoint, Record, Subject},
    lease::Lease,
    query::Statement,
};

/// The action that stands for an erasure.
const ACTION: &str = "audit.erased";

/// The lease of whoever erases.
pub(super) const LEASE: &str = "erasure";

/// Unfinished runs among which the one of a subject is looked for, the newest ones.
const UNFINISHED_MAX: i64 = 10_000;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Passes that were completed.
    pub(super) passes: u64,
    /// Steps of this pass that were completed.
    pub(super) step: u64,
    /// How many steps it has: where it has another number later, the pass begins again.
    pub(super) steps: u64,
    pub(super) after: Option<Place>,
    /// Rows that this pass has erased something of.
    pub(super) found: u64,
    /// Whether the row has keys that were not followed.
    pub(super) has_more_keys: bool,
}

/// A run that has begun, or goes on.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: Uuid,
    pub(super) lease: Lease,
    pub(super) kind: &'static str,
    pub(super) counts: Counts,
    pub(super) position: Position,
    /// Whether it was begun before.
    pub(super) is_resumed: bool,
}

impl Position {
    fn to_json(&self) -> Value {
        let Self { passes, step, steps, after, found, has_more_keys } = self;
        let after = after.as_ref().map(|place| json!({"at": place.at, "id": place.id}));
        json!({"passes": passes, "step": step, "steps": steps, "after": after, "found": found, "has_more_keys": has_more_keys})
    }

    /// What cannot be read is the beginning.
    fn read(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let after = value["after"]["at"].as_str().zip(value["after"]["id"].as_str());
        Self {
            passes: number("passes"),
            step: number("step"),
            steps: number("steps"),
            after: after.and_then(|(at, id)| Some(Place { at: at.to_owned(), id: id.parse().ok()? })),
            found: number("found"),
            has_more_keys: value["has_more_keys"].as_bool().unwrap_or_default(),
        }
    }
}

impl Run {
    /// Takes the lease, and goes on with the run of this subject that was not completed, or begins one.
    pub(super) async fn begin(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        kind: &'static str,
        (subject, policy): (&str, &Value),
        options: &ErasureOptions,
    ) -> Result<Self, ErasureError> {
        let lease = Lease::new(LEASE);
        let until = lease.take(connection, storage).await??;
        let unfinished = unfinished(connection, storage, kind, (subject, policy)).await?;
        let table = storage.table(ERASURES);
        let mut statement;
        let run = if let Some((id, counts, position)) = unfinished {
            statement = Statement::new(format!(
                "update {table} set status = 'running', completed_at = null, error_message = null, holder = "
            ));
            statement.bind(lease.holder()).push(", lease_until = ").bind(until);
            statement.push(" where id = ").bind(id);
            Self { id, lease, kind, counts, position, is_resumed: true }
        } else {
            let (id, salt) = (Uuid::now_v7(), Uuid::new_v4().to_string());
            statement = Statement::new(format!(
                "insert into {table} (id, status, kind, reason, actor_ref, subject_hash, salt, policy, holder, lease_until, started_at)
                 values ("
            ));
            let actor = who(connection, options.actor.as_ref()).await?;
            statement.bind(id).push(", 'running', ").bind(kind).push(", ").bind(options.reason.trim());
            statement.push(", ").bind(actor.to_json().to_string()).push("::jsonb, ");
            statement.bind(subject_hash(&salt, subject)).push(", ").bind(&salt).push(", ");
            statement.bind(policy.to_string()).push("::jsonb, ").bind(lease.holder()).push(", ");
            statement.bind(until).push(", clock_timestamp())");
            let (counts, position) = (Counts::default(), Position::default());
            Self { id, lease, kind, counts, position, is_resumed: false }
        };
        statement.query().execute(connection).await?;
        Ok(run)
    }

    /// Records how far the run is, and that it is alive.
    pub(super) async fn renew(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        counts: &Counts,
        position: &Position,
    ) -> Result<(), ErasureError> {
        let until = self.lease.renew(connection, storage).await?.ok_or(ErasureError::LeaseLost)?;
        let mut statement = Statement::new(format!("update {} set lease_until = ", storage.table(ERASURES)));
        statement.bind(until).push(", counts = ").bind(json!(counts).to_string());
        statement.push("::jsonb, position = ").bind(position.to_json().to_string());
        statement.push("::jsonb where status = 'running' and id = ").bind(self.id);
        statement.query().execute(connection).await?;
        Ok(())
    }

    /// Ends the run, unless another process has taken it, and gives the lease back.
    pub(super) async fn end(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        failure: Option<&str>,
        options: &ErasureOptions,
    ) -> Result<(), sqlx::Error> {
        let mut statement = Statement::new(format!(
            "update {} set completed_at = clock_timestamp(), status = ",
            storage.table(ERASURES)
        ));
        statement.bind(if failure.is_some() { "failed" } else { "completed" });
        statement.push(", counts = ").bind(json!(self.counts).to_string()).push("::jsonb");
        if let Some(failure) = failure {
            statement.push(", error_message = ").bind(failure);
        }
        statement.push(" where status = 'running' and id = ").bind(self.id);
        statement.push(" and holder = ").bind(self.lease.holder()).push(" returning reason");
        if let Some(row) = statement.fetch_optional(connection).await? {
            self.state(connection, storage, failure, (row.try_get(0)?, options)).await?;
        }
        self.lease.release(connection, storage).await
    }

    /// The action, and the record of evidence. Neither says whom or what it was about.
    async fn state(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        failure: Option<&str>,
        (reason, options): (String, &ErasureOptions),
    ) -> Result<(), sqlx::Error> {
        let actor = who(connection, options.actor.as_ref()).await?;
        let Counts { rows, values } = &self.counts;
        let comment = json!({"run": self.id, "kind": self.kind, "rows": rows, "values": values});
        let mut detail = comment.clone();
        detail["reason"] = reason.as_str().into();
        detail["failure"] = failure.into();
        Action::new(ACTION, actor.clone())
            .verb("erase")
            .category("audit")
            .status(if failure.is_some() { Status::Error } else { Status::Ok })
            .reason(reason)
            .comment(comment.to_string())
            .record(&mut *connection, storage)
            .await?;
        let status = if failure.is_some() { "failed" } else { "completed" };
        // Of the closed list of subjects, the one of runs that remove something.
        Record::new(Subject::RetentionRun, json!({"erasure": self.id}), status)
            .made_by(Entrypoint::Erase)
            .actor(actor)
            .detail(detail)
            .append(connection, storage)
            .await
    }
}

async fn who(connection: &mut PgConnection, actor: Option<&ActorRef>) -> Result<ActorRef, sqlx::Error> {
    match actor {
        Some(actor) => Ok(actor.clone()),
        None => session_user(connection).await,
    }
}

/// The newest run of this subject and policy that was not completed. Whoever asks has the lease: nobody works at it.
async fn unfinished(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    kind: &str,
    (subject, policy): (&str, &Value),
) -> Result<Option<(Uuid, Counts, Position)>, sqlx::Error> {
    let mut statement = Statement::new(format!(
        "select r.id, r.salt, r.subject_hash, r.counts::text, r.position::text from {} r
         where r.status <> 'completed' and r.kind = ",
        storage.table(ERASURES)
    ));
    statement.bind(kind).push(" and r.policy = ").bind(policy.to_string());
    statement.push("::jsonb order by r.started_at desc limit ").bind(UNFINISHED_MAX);
    for row in statement.fetch_all(connection).await? {
        let (salt, hash): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        if subject_hash(&salt, subject) == hash {
            let counts = serde_json::from_str(row.try_get(3)?).unwrap_or_default();
            let position = row.try_get::<Option<&str>, _>(4)?.map(Position::read).unwrap_or_default();
            return Ok(Some((row.try_get(0)?, counts, position)));
        }
    }
    Ok(None)
}
