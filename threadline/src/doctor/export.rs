//! Exports in the background, as far as their jobs say it.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    check::{Outcome, checks},
    facts::Facts,
    remedy::Remedy,
};

checks! {
    "export.jobs" jobs, "No export has been on its way for a day, and none waits for a worker.";
    "export.files" files, "No file of an export is kept after it has expired.";
}

/// A job of ours; in a table of an earlier version there is none.
const IS_OURS: &str = "to_jsonb(j) ->> 'request' is not null";

/// One that is due, or that a worker has given up without a word, for an hour.
const WAITS: &str = "to_jsonb(j) ->> 'request' is not null and
     case when status = 'pending' then (to_jsonb(j) ->> 'due_at')::timestamptz < now() - interval '1 hour'
          else to_jsonb(j) ->> 'holder' is not null and (to_jsonb(j) ->> 'lease_until')::timestamptz < now() - interval '1 hour' end";

/// One of ours whose time was over an hour ago.
const IS_OVERDUE: &str = "to_jsonb(j) ->> 'request' is not null and (to_jsonb(j) ->> 'keep_until')::timestamptz < now() - interval '1 hour'";

/// All jobs, those of the Elixir library's and those of ours of which something is wrong.
async fn count(
    connection: &mut PgConnection,
    facts: &Facts,
    librarys: &str,
    ours: &str,
) -> Result<(i64, i64, i64), sqlx::Error> {
    let statement = format!(
        "select count(*), count(*) filter (where not ({IS_OURS}) and {librarys}), count(*) filter (where {ours}) from {} j",
        facts.table("threadline_export_jobs")
    );
    sqlx::query_as(AssertSqlSafe(statement)).persistent(false).fetch_one(connection).await
}

async fn jobs(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let is_stuck = "status in ('pending', 'running') and coalesce(started_at, inserted_at) < now() - interval '24 hours'";
    if !facts.has("threadline_export_jobs") {
        return Ok(Outcome::not_applicable("there is no table of jobs"));
    }
    let (all, stuck, waiting) = match count(connection, facts, is_stuck, WAITS).await? {
        (0, ..) => return Ok(Outcome::not_applicable("there are no jobs")),
        (all, 0, 0) => return Ok(Outcome::ok(format!("none of {all} jobs"))),
        found => found,
    };
    let mut remedies = Vec::new();
    if stuck > 0 {
        remedies.push(Remedy::sql(format!(
            "update {} j set status = 'failed', error_message = 'interrupted', completed_at = now(), updated_at = now()
             where not ({IS_OURS}) and {is_stuck}",
            facts.table("threadline_export_jobs")
        )));
    }
    if waiting > 0 {
        remedies.push(Remedy::command("threadline export jobs work --until-idle"));
        remedies.push(Remedy::advice(
            "have a worker run all the time: threadline export jobs work, as in deploy/systemd/audit-exports.service",
        ));
    }
    let seen = format!("{} of {all} jobs, {waiting} of which wait for a worker", stuck + waiting);
    Ok(Outcome::attention(seen).remedy(remedies))
}

async fn files(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let is_expired = "file_path is not null and expires_at < now()";
    if !facts.has("threadline_export_jobs") {
        return Ok(Outcome::not_applicable("there is no table of jobs"));
    }
    let (all, expired, overdue) = match count(connection, facts, is_expired, IS_OVERDUE).await? {
        (0, ..) => return Ok(Outcome::not_applicable("there are no jobs")),
        (all, 0, 0) => return Ok(Outcome::ok(format!("none of {all} jobs"))),
        found => found,
    };
    let mut remedies = Vec::new();
    if expired > 0 {
        remedies.push(Remedy::sql(format!(
            "select id, file_path, expires_at from {} where {is_expired} order by expires_at limit 100",
            facts.table("threadline_export_jobs")
        )));
        remedies.push(Remedy::advice("remove these files, and then set file_path to null"));
    }
    if overdue > 0 {
        remedies.push(Remedy::command("threadline export jobs clean"));
    }
    Ok(Outcome::attention(format!("{} of {all} jobs", expired + overdue)).remedy(remedies))
}
