//! Exports that are made again and again. A schedule that is due makes one job, however many of its times have passed.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    JobError, JobRequest, TABLE,
    list::transact,
    request::{Stored, query_params},
    states::{asker, require_table},
};
use crate::{
    Timeline,
    query::{Scope, Statement, clamped_time, serialize},
    telemetry::jobs as events,
};

const SCHEDULES: &str = "threadline_export_schedules";

/// The shortest time from one export to the next.
pub const EVERY_MIN: Duration = Duration::from_secs(60);

/// The longest one.
pub const EVERY_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Schedules that are listed.
const LISTED: i64 = 1_000;

/// Bytes of a name.
const NAME_MAX: usize = 128;

/// A row of `threadline_export_schedules`.
#[derive(Debug, Clone, Serialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What is exported, as in a job.
    pub request: Option<Box<RawValue>>,
    /// On whose behalf.
    pub actor_ref: Option<Box<RawValue>>,
    /// Seconds from one export to the next.
    pub every_seconds: i64,
    /// When the next job is made.
    #[serde(serialize_with = "serialize::optional_time")]
    pub next_at: Option<OffsetDateTime>,
    /// Whether it makes jobs.
    pub is_enabled: bool,
}

/// Asks for an export at `request.due_at`, or now, and again after each such time. A filter such as `last:24h` counts from the moment at which
/// each export begins.
///
/// # Errors
/// `schedule_invalid`, `schedule_exists`, and as [`super::add`].
pub async fn add(
    timeline: &Timeline,
    scope: &Scope,
    name: &str,
    request: &JobRequest,
    every: Duration,
) -> Result<Schedule, JobError> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        let reason = format!("the name of a schedule has 1 to {NAME_MAX} bytes and no control characters");
        return Err(JobError::refused("schedule_invalid", reason));
    }
    if !(EVERY_MIN..=EVERY_MAX).contains(&every) || every.subsec_nanos() != 0 {
        let reason = "an export is made again after 60 seconds to 366 days, in whole seconds";
        return Err(JobError::refused("schedule_invalid", reason));
    }
    let stored = Stored::of(request, scope)?;
    require_table(timeline, scope, request).await?;
    let actor = asker(timeline, request.actor.as_ref()).await?;
    let mut statement = Statement::new(format!(
        "insert into {} (name, request, query_params, actor_ref, every_seconds, next_at) values (",
        timeline.schema().table(SCHEDULES)
    ));
    statement.bind(name).push(", ").bind(stored.to_json()).push("::jsonb, ");
    statement.bind(query_params(&request.filter)).push("::jsonb, ");
    statement.bind(actor.to_json().to_string()).push("::jsonb, ");
    statement.bind(i64::try_from(every.as_secs()).unwrap_or(i64::MAX)).push(", ");
    match request.due_at {
        Some(at) => statement.bind(at),
        None => statement.push("clock_timestamp()"),
    };
    statement.push(&format!(") on conflict (name) do nothing returning {}", columns()));
    let rows = transact(timeline, &statement).await?;
    let row = rows.first().ok_or_else(|| {
        JobError::refused(
            "schedule_exists",
            "there is a schedule of this name: remove it first, or name another one",
        )
    })?;
    Ok(schedule(row)?)
}

/// All schedules, by name; a thousand at most.
///
/// # Errors
/// What the database says.
pub async fn list(timeline: &Timeline) -> Result<Vec<Schedule>, JobError> {
    let mut statement = Statement::new(format!(
        "select {} from {} order by name limit ",
        columns(),
        timeline.schema().table(SCHEDULES)
    ));
    statement.bind(LISTED);
    let rows = transact(timeline, &statement).await?;
    Ok(rows.iter().map(schedule).collect::<Result<_, _>>()?)
}

/// Has a schedule make jobs again, or none until then. What was missed meanwhile is made up by one job.
///
/// # Errors
/// `schedule_missing`, and what the database says.
pub async fn enable(timeline: &Timeline, name: &str, is_enabled: bool) -> Result<Schedule, JobError> {
    let mut statement = Statement::new(format!(
        "update {} set updated_at = clock_timestamp(), is_enabled = {is_enabled} where name = ",
        timeline.schema().table(SCHEDULES)
    ));
    statement.bind(name).push(&format!(" returning {}", columns()));
    let rows = transact(timeline, &statement).await?;
    Ok(schedule(rows.first().ok_or_else(missing)?)?)
}

/// Removes a schedule. Jobs that it has made stay.
///
/// # Errors
/// `schedule_missing`, and what the database says.
pub async fn remove(timeline: &Timeline, name: &str) -> Result<Schedule, JobError> {
    let mut statement =
        Statement::new(format!("delete from {} where name = ", timeline.schema().table(SCHEDULES)));
    statement.bind(name).push(&format!(" returning {}", columns()));
    let rows = transact(timeline, &statement).await?;
    Ok(schedule(rows.first().ok_or_else(missing)?)?)
}

fn missing() -> JobError {
    JobError::refused(
        "schedule_missing",
        "there is no schedule of this name: list shows those that there are",
    )
}

/// Makes a job of each schedule that is due, and sets its next time, in one statement; returns how many. A schedule's row is locked meanwhile:
/// another worker passes it over, or finds its next time. A row with which no time can be reckoned is passed over too: it is in no other one's way.
pub(super) async fn fire(timeline: &Timeline) -> Result<usize, JobError> {
    let (schedules, jobs) = (timeline.schema().table(SCHEDULES), timeline.schema().table(TABLE));
    let statement = Statement::new(format!(
        "with due as (
             select *, least(every_seconds, {}) as every from {schedules}
             where is_enabled and next_at <= clock_timestamp() and isfinite(next_at) order by next_at limit 100 for update skip locked
         ), made as (
             insert into {jobs} (id, status, query_params, actor_ref, request, due_at, attempts, generation, schedule, scheduled_for)
             select gen_random_uuid(), 'pending', query_params, actor_ref, request, clock_timestamp(), 0, 0, name, next_at from due
         )
         update {schedules} s set updated_at = clock_timestamp(), next_at = due.next_at + interval '1 second' * (due.every *
             (1 + floor(extract(epoch from clock_timestamp() - due.next_at) / due.every)))
         from due where s.name = due.name returning s.name",
        EVERY_MAX.as_secs()
    ));
    let fired = transact(timeline, &statement).await?.len();
    if fired > 0 {
        events::schedules_fired(fired);
    }
    Ok(fired)
}

fn columns() -> String {
    format!("name, request::text, actor_ref::text, every_seconds, {}, is_enabled", clamped_time("next_at"))
}

fn schedule(row: &PgRow) -> Result<Schedule, sqlx::Error> {
    let json = |index: usize| -> Result<Option<Box<RawValue>>, sqlx::Error> {
        let text: Option<String> = row.try_get(index)?;
        Ok(text.and_then(|text| RawValue::from_string(text).ok()))
    };
    Ok(Schedule {
        name: row.try_get(0)?,
        request: json(1)?,
        actor_ref: json(2)?,
        every_seconds: row.try_get(3)?,
        next_at: row.try_get(4)?,
        is_enabled: row.try_get(5)?,
    })
}
