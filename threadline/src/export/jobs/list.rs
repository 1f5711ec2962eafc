//! The jobs that there are, ours and the Elixir library's.

use std::time::Duration;

use sqlx::postgres::PgRow;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Job, JobError};
use crate::{ActorRef, Timeline, query::Statement};

/// Jobs that are listed, unless said otherwise.
pub const JOBS_LISTED: u16 = 20;

/// Jobs that can be listed.
pub const JOBS_LISTED_MAX: u16 = 1_000;

/// One job.
///
/// # Errors
/// What the database says.
pub async fn get(timeline: &Timeline, id: Uuid) -> Result<Option<Job>, JobError> {
    let mut statement = Job::select(timeline.schema());
    statement.push("where j.id = ").bind(id);
    Ok(transact(timeline, &statement).await?.first().map(Job::of).transpose()?)
}

/// The newest jobs, the newest first; with an actor, those that were asked for on its behalf. A job tells what its filter is: a surface for
/// people who may not see everything lists only their own.
///
/// # Errors
/// `page_size`, and what the database says.
pub async fn list(timeline: &Timeline, actor: Option<&ActorRef>, limit: u16) -> Result<Vec<Job>, JobError> {
    if !(1..=JOBS_LISTED_MAX).contains(&limit) {
        let reason = format!("a list has 1 to {JOBS_LISTED_MAX} jobs, not {limit}");
        return Err(JobError::refused("page_size", reason));
    }
    let mut statement = Job::select(timeline.schema());
    if let Some(actor) = actor {
        statement.push("where j.actor_ref = ").bind(actor.to_json().to_string()).push("::jsonb ");
    }
    statement.push("order by j.inserted_at desc, j.id desc limit ").bind(i64::from(limit));
    let rows = transact(timeline, &statement).await?;
    Ok(rows.iter().map(Job::of).collect::<Result<_, _>>()?)
}

/// How often a statement is repeated that the database has undone on behalf of another one, and the first pause before that; it doubles.
const REPEATED: u32 = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// Runs one statement in a transaction of its own: between preparing it and running it a pooler may change the server otherwise. It is repeated
/// where the database has undone it for the sake of another one: where transactions are serializable unless said otherwise, workers undo one another.
pub(super) async fn transact(timeline: &Timeline, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut repeated = 0;
    loop {
        match transact_once(timeline, statement).await {
            Err(error) if repeated < REPEATED && is_undone(&error) => {
                sleep(PAUSE * 2_u32.pow(repeated)).await;
                repeated += 1;
            }
            done => return done,
        }
    }
}

/// `serialization_failure` and `deadlock_detected`.
fn is_undone(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["40001", "40P01"].contains(&&*code))
}

async fn transact_once(timeline: &Timeline, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut transaction = timeline.pool().begin().await?;
    let rows = statement.fetch_all(&mut transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}
