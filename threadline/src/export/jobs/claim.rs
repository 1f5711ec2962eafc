//! A job that a worker has: taken, held by a lease in its row, and given back or ended by whoever holds it, and by nobody else.

use std::time::Duration;

use sqlx::Row as _;
use uuid::Uuid;

use super::{TABLE, list::transact, work::ATTEMPTS_MAX};
use crate::{
    Timeline, lease,
    query::Statement,
    telemetry::jobs::{self as events, Attempt},
};

/// A job that this process has.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) id: Uuid,
    pub(super) request: String,
    /// On whose behalf, as it is stored.
    pub(super) actor: Option<String>,
    /// How often it was taken since it was asked for, this time included.
    pub(super) attempts: i32,
    /// How often it was taken in all.
    pub(super) generation: i32,
    holder: String,
}

/// What a completed job says.
pub(super) struct Delivered {
    pub(super) location: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) manifest_sha256: String,
}

/// How an attempt ends.
pub(super) enum End<'e> {
    /// It is stored.
    Complete(&'e Delivered),
    /// There will be none; why.
    Fail(&'e str),
    /// Others may have it after a pause; why.
    PutOff(&'e str, Duration),
    /// Others may have it at once. It does not count as an attempt.
    GiveBack,
}

/// How often a job is taken in all, at most: what each time may have stored is looked for when it expires.
pub(super) const GENERATIONS_MAX: i32 = 10_000;

/// The Elixir library marks whatever has been running for a day as failed when it starts: what somebody holds is running all the same.
const IS_HELD: &str = "request is not null and status in ('running', 'failed') and holder is not null";

/// Whoever has it is believed no longer. An end that is further away than a lease is long was written by a clock that was wrong, as
/// [`lease::Lease::take`] says.
pub(super) fn is_over() -> String {
    let longest = 2 * lease::LENGTH.as_secs();
    format!(
        "(lease_until between clock_timestamp() and clock_timestamp() + interval '{longest} seconds') is not true"
    )
}

/// A row that counts to the end of its numbers is taken all the same, and fails by itself: no worker stops at it.
fn one_more(column: &str) -> String {
    format!("least(coalesce({column}, 0), {}) + 1", i32::MAX - 1)
}

fn push_lease(statement: &mut Statement) {
    statement
        .push("clock_timestamp() + ")
        .bind(i64::try_from(lease::LENGTH.as_secs()).unwrap_or(i64::MAX))
        .push(" * interval '1 second'");
}

fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Fails jobs whose workers have died as often as a job is tried.
pub(super) async fn give_up(timeline: &Timeline, keep: Duration) -> Result<(), sqlx::Error> {
    let mut statement = Statement::new(format!(
        "update {} set status = 'failed', holder = null, lease_until = null, completed_at = clock_timestamp(),
                updated_at = clock_timestamp(), keep_until = clock_timestamp() + ",
        timeline.schema().table(TABLE)
    ));
    statement.bind(signed(keep.as_secs())).push(" * interval '1 second', error_message = ");
    statement
        .bind("interrupted: every worker that took it ended before the export was complete; look at their logs, and retry")
        .push(&format!(" where {IS_HELD} and {} and attempts >= ", is_over()))
        .bind(i64::from(ATTEMPTS_MAX))
        .push(" returning id");
    for row in transact(timeline, &statement).await? {
        let attempt = Attempt { job: row.try_get(0)?, attempt: i32::from(ATTEMPTS_MAX) };
        events::failed(attempt, "interrupted", true);
    }
    Ok(())
}

/// Takes the job that has been due for longest, or the one that is named.
pub(super) async fn take(
    timeline: &Timeline,
    holder: &str,
    only: Option<Uuid>,
) -> Result<Option<Claim>, sqlx::Error> {
    let table = timeline.schema().table(TABLE);
    let mut statement = Statement::new(format!(
        "with next as (
             select id from {table} where request is not null and status in ('pending', 'running', 'failed')
                 and (case when status = 'pending' then due_at <= clock_timestamp()
                           else holder is not null and {} and attempts < {ATTEMPTS_MAX} end)",
        is_over()
    ));
    if let Some(id) = only {
        statement.push(" and id = ").bind(id);
    }
    statement.push(&format!(
        " order by due_at, id limit 1 for update skip locked)
         update {table} j set status = 'running', attempts = {}, generation = {},
                started_at = clock_timestamp(), completed_at = null, updated_at = clock_timestamp(), error_message = null, lease_until = ",
        one_more("j.attempts"),
        one_more("j.generation")
    ));
    push_lease(&mut statement);
    statement
        .push(", holder = ")
        .bind(holder)
        .push(" from next where j.id = next.id returning j.id, j.request::text, j.actor_ref::text, j.attempts, j.generation");
    let rows = transact(timeline, &statement).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Claim {
        id: row.try_get(0)?,
        request: row.try_get(1)?,
        actor: row.try_get(2)?,
        attempts: row.try_get(3)?,
        generation: row.try_get(4)?,
        holder: holder.to_owned(),
    }))
}

fn update(timeline: &Timeline, set: &str) -> Statement {
    let table = timeline.schema().table(TABLE);
    Statement::new(format!("update {table} set updated_at = clock_timestamp(), {set}"))
}

impl Claim {
    /// Whether its numbers are such as taking a job again and again leads to.
    pub(super) fn is_countable(&self) -> bool {
        self.attempts >= 1 && (1..=GENERATIONS_MAX).contains(&self.generation)
    }

    /// Holds the job for longer; whether it is still ours.
    pub(super) async fn renew(&self, timeline: &Timeline) -> Result<bool, sqlx::Error> {
        let mut statement =
            update(timeline, "status = 'running', completed_at = null, error_message = null, lease_until = ");
        push_lease(&mut statement);
        self.change(timeline, statement).await
    }

    /// Says where this attempt stores the export, before it does; whether the job is still ours.
    pub(super) async fn will_store(&self, timeline: &Timeline, location: &str) -> Result<bool, sqlx::Error> {
        let mut statement = update(timeline, "location = ");
        statement.bind(location);
        self.change(timeline, statement).await
    }

    /// Ends what this attempt had to do with the job; whether it was still ours. What others have said of it meanwhile counts only if they
    /// have taken it.
    pub(super) async fn end(
        &self,
        timeline: &Timeline,
        end: &End<'_>,
        keep: Duration,
    ) -> Result<bool, sqlx::Error> {
        let keeps = |statement: &mut Statement| {
            statement.push(", completed_at = clock_timestamp(), keep_until = clock_timestamp() + ");
            statement.bind(signed(keep.as_secs())).push(" * interval '1 second'");
        };
        let mut statement = update(timeline, "holder = null, lease_until = null, status = ");
        match end {
            End::Complete(Delivered { rows, bytes, sha256, manifest_sha256, .. }) => {
                statement.push("'completed', error_message = null, rows = ").bind(signed(*rows));
                statement.push(", bytes = ").bind(signed(*bytes)).push(", sha256 = ").bind(sha256.as_str());
                statement.push(", manifest_sha256 = ").bind(manifest_sha256.as_str());
                keeps(&mut statement);
            }
            End::Fail(words) => {
                statement.push("'failed', error_message = ").bind(*words);
                keeps(&mut statement);
            }
            End::PutOff(words, pause) => {
                statement.push("'pending', error_message = ").bind(*words);
                statement.push(", due_at = clock_timestamp() + ");
                statement.bind(signed(pause.as_secs())).push(" * interval '1 second'");
            }
            End::GiveBack => {
                statement.push("'pending', attempts = greatest(attempts - 1, 0)");
            }
        }
        self.change(timeline, statement).await
    }

    async fn change(&self, timeline: &Timeline, mut statement: Statement) -> Result<bool, sqlx::Error> {
        statement.push(&format!(" where {IS_HELD} and id = ")).bind(self.id);
        statement.push(" and holder = ").bind(self.holder.as_str());
        statement.push(" and generation = ").bind(i64::from(self.generation)).push(" returning id");
        Ok(!transact(timeline, &statement).await?.is_empty())
    }
}
