//! What people do with a job: they ask for it, want it no longer, or want it after all.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::{
    Job, JobError, JobRequest, TABLE, get,
    list::transact,
    request::{Stored, query_params},
};
use crate::{
    ActorRef, ActorType, StorageSchema, Timeline,
    export::ExportError,
    query::{Scope, Statement},
    telemetry::jobs as events,
};

/// Asks for an export of what `scope` shows; the worker sees exactly that.
///
/// # Errors
/// What of the request cannot be exported, `table_unknown`, `scope_not_storable`, `actor_missing`, and what the database says.
pub async fn add(timeline: &Timeline, scope: &Scope, request: &JobRequest) -> Result<Job, JobError> {
    let stored = Stored::of(request, scope)?;
    require_table(timeline, scope, request).await?;
    let actor = asker(timeline, request.actor.as_ref()).await?;
    let id = Uuid::now_v7();
    transact(timeline, &insertion(timeline.schema(), id, request, &stored, &actor)).await?;
    events::added(id);
    existing(timeline, id).await
}

/// The same in the connection's current transaction, so that the job is there only together with what else is in it, under an id that whoever asks
/// has made: who asks twice has one job. The request names its actor. Whoever commits says so
/// with [`telemetry::export_job_added`](crate::telemetry::export_job_added).
///
/// # Errors
/// `job_exists` where there is a job of this id, and as [`add`].
pub async fn add_within(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    id: Uuid,
    scope: &Scope,
    request: &JobRequest,
) -> Result<(), JobError> {
    let stored = Stored::of(request, scope)?;
    let actor = request.actor.as_ref().filter(|actor| actor.kind() != ActorType::Anonymous);
    let actor = actor.ok_or_else(nobody)?;
    let mut statement = insertion(schema, id, request, &stored, actor);
    statement.push(" on conflict (id) do nothing returning id");
    if statement.fetch_all(connection).await?.is_empty() {
        return Err(JobError::refused(
            "job_exists",
            format!("there is a job {id} already: it was asked for before"),
        ));
    }
    Ok(())
}

/// Refuses a table that is not there, rather than have a worker find that out.
pub(super) async fn require_table(
    timeline: &Timeline,
    scope: &Scope,
    request: &JobRequest,
) -> Result<(), JobError> {
    let reader = timeline.reader(scope.clone());
    Ok(reader.require_table(&request.filter).await.map_err(ExportError::from)?)
}

fn insertion(
    schema: &StorageSchema,
    id: Uuid,
    request: &JobRequest,
    stored: &Stored,
    actor: &ActorRef,
) -> Statement {
    let mut statement = Statement::new(format!(
        "insert into {} (id, status, query_params, actor_ref, request, due_at, attempts, generation) values (",
        schema.table(TABLE)
    ));
    statement.bind(id).push(", 'pending', ").bind(query_params(&request.filter)).push("::jsonb, ");
    statement.bind(actor.to_json().to_string()).push("::jsonb, ");
    statement.bind(stored.to_json()).push("::jsonb, ");
    match request.due_at {
        Some(at) => statement.bind(at),
        None => statement.push("clock_timestamp()"),
    };
    statement.push(", 0, 0)");
    statement
}

fn nobody() -> JobError {
    JobError::refused("actor_missing", "nobody is named who exports: say --actor TYPE:ID")
}

/// Who is recorded as having exported: whoever is named, or the service account of whoever is connected.
pub(super) async fn asker(timeline: &Timeline, named: Option<&ActorRef>) -> Result<ActorRef, JobError> {
    match named {
        Some(actor) if actor.kind() == ActorType::Anonymous => Err(nobody()),
        Some(actor) => Ok(actor.clone()),
        None => {
            let rows = transact(timeline, &Statement::new("select session_user::text")).await?;
            let user: String = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
            ActorRef::new(ActorType::ServiceAccount, Some(user))
                .map_err(|error| JobError::refused("actor_missing", format!("{error}: say --actor TYPE:ID")))
        }
    }
}

/// Ends a job that has not ended. Whoever works on it notices at the next renewal of its lease, and stops.
///
/// # Errors
/// `job_missing`, `job_of_library`, `job_state`, and what the database says.
pub async fn cancel(timeline: &Timeline, id: Uuid) -> Result<Job, JobError> {
    change(timeline, id, CANCELLED, CANCELLABLE, "it has ended").await
}

const CANCELLED: &str = "status = 'cancelled', holder = null, lease_until = null, completed_at = clock_timestamp(), \
    keep_until = clock_timestamp() + interval '1 hour', error_message = null";
const CANCELLABLE: &str = "(status in ('pending', 'running') or (status = 'failed' and holder is not null))";

/// The same in the connection's current transaction.
///
/// # Errors
/// `job_state` where it has ended, or is none of ours, and what the database says.
pub async fn cancel_within(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    id: Uuid,
) -> Result<(), JobError> {
    let changed = update(schema, id, CANCELLED, CANCELLABLE).fetch_all(connection).await?;
    if changed.is_empty() {
        return Err(JobError::refused(
            "job_state",
            format!("the job {id} has ended already: there is nothing to cancel"),
        ));
    }
    Ok(())
}

/// Changes a job of ours for which the condition holds, and returns its id.
fn update(schema: &StorageSchema, id: Uuid, set: &str, condition: &str) -> Statement {
    let mut statement = Statement::new(format!(
        "update {} set {set}, updated_at = clock_timestamp() where request is not null and {condition} and id = ",
        schema.table(TABLE)
    ));
    statement.bind(id).push(" returning id");
    statement
}

/// Has a job made after all that failed or was cancelled.
///
/// # Errors
/// `job_missing`, `job_of_library`, `job_state`, and what the database says.
pub async fn retry(timeline: &Timeline, id: Uuid) -> Result<Job, JobError> {
    let set = "status = 'pending', due_at = clock_timestamp(), attempts = 0, started_at = null, completed_at = null, keep_until = null,
               error_message = null";
    let condition = "status in ('failed', 'cancelled') and holder is null";
    change(timeline, id, set, condition, "it has neither failed nor been cancelled").await
}

async fn change(
    timeline: &Timeline,
    id: Uuid,
    set: &str,
    condition: &str,
    otherwise: &str,
) -> Result<Job, JobError> {
    let statement = update(timeline.schema(), id, set, condition);
    let is_changed = !transact(timeline, &statement).await?.is_empty();
    let job = existing(timeline, id).await?;
    if is_changed {
        return Ok(job);
    }
    if !job.is_ours() {
        let reason = "the job is the Elixir library's, which looks after it itself";
        return Err(JobError::refused("job_of_library", reason));
    }
    Err(JobError::refused("job_state", format!("the job is {}: {otherwise}", job.status)))
}

/// A job that is there.
///
/// # Errors
/// `job_missing`.
pub(super) async fn existing(timeline: &Timeline, id: Uuid) -> Result<Job, JobError> {
    get(timeline, id).await?.ok_or_else(|| JobError::missing(id))
}
