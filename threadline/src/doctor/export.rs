//! Exports in the background, as far as their jobs say it.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    check::{Outcome, checks},
    facts::Facts,
    remedy::Remedy,
};

checks! {
    "export.jobs" jobs, "No export has been on its way for a day.";
    "export.files" files, "No file of an export is kept after it has expired.";
}

async fn count(
    connection: &mut PgConnection,
    facts: &Facts,
    condition: &str,
) -> Result<(i64, i64), sqlx::Error> {
    let statement = format!(
        "select count(*), count(*) filter (where {condition}) from {}",
        facts.table("threadline_export_jobs")
    );
    sqlx::query_as(AssertSqlSafe(statement)).persistent(false).fetch_one(connection).await
}

async fn jobs(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let is_stuck = "status in ('pending', 'running') and coalesce(started_at, inserted_at) < now() - interval '24 hours'";
    if !facts.has("threadline_export_jobs") {
        return Ok(Outcome::not_applicable("there is no table of jobs"));
    }
    Ok(match count(connection, facts, is_stuck).await? {
        (0, _) => Outcome::not_applicable("there are no jobs"),
        (all, 0) => Outcome::ok(format!("none of {all} jobs")),
        (all, stuck) => Outcome::attention(format!("{stuck} of {all} jobs")).remedy([Remedy::sql(format!(
            "update {} set status = 'failed', error_message = 'interrupted', completed_at = now(), updated_at = now() where {is_stuck}",
            facts.table("threadline_export_jobs")
        ))]),
    })
}

async fn files(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let is_expired = "file_path is not null and expires_at < now()";
    if !facts.has("threadline_export_jobs") {
        return Ok(Outcome::not_applicable("there is no table of jobs"));
    }
    Ok(match count(connection, facts, is_expired).await? {
        (0, _) => Outcome::not_applicable("there are no jobs"),
        (all, 0) => Outcome::ok(format!("none of {all} jobs")),
        (all, expired) => Outcome::attention(format!("{expired} of {all} jobs")).remedy([
            Remedy::sql(format!(
                "select id, file_path, expires_at from {} where {is_expired} order by expires_at limit 100",
                facts.table("threadline_export_jobs")
            )),
            Remedy::advice("remove these files, and then set file_path to null"),
        ]),
    })
}
