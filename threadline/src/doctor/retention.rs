//! What is removed, as far as the runs that are recorded say it.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::{
    check::{Outcome, checks, listed},
    facts::Facts,
    remedy::Remedy,
};
use crate::retention::{directory_of, unknown_tables};

checks! {
    "retention.runs" runs, "Old rows are removed by runs that end well, one after another.";
    "retention.archives" archives, "Where purges archive what they delete, the last one that deleted something did.";
    "retention.tables" tables, "Every table that has a window of its own is there, or has changes.";
    "retention.window" window, "No change is older by two days than the last run would have left.";
}

/// Runs that are looked at.
const RUNS: i64 = 50;

const DAY: f64 = 86_400.0;

/// A run, the newest first.
#[derive(FromRow)]
struct Run {
    status: String,
    /// Since it began, or since it ended where it has; seconds.
    age: f64,
    /// It says that it runs, and its lease has ended; a run without a lease that began a day ago.
    is_interrupted: bool,
}

async fn runs(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has("threadline_retention_runs") {
        return Ok(Outcome::not_applicable("there is no table of runs"));
    }
    // Columns of newer migrations are read where they are.
    let statement = format!(
        "select r.status, extract(epoch from clock_timestamp() - least(greatest(coalesce(r.completed_at, r.started_at, r.inserted_at), '0001-01-01Z'),
                    '9999-12-31Z'))::float8 as age,
                r.status = 'running' and coalesce((to_jsonb(r) ->> 'lease_until')::timestamptz < clock_timestamp(),
                    coalesce(r.started_at, r.inserted_at) < clock_timestamp() - interval '1 day') as is_interrupted
         from {} r order by r.inserted_at desc, r.id desc limit $1",
        facts.table("threadline_retention_runs")
    );
    let runs: Vec<Run> =
        sqlx::query_as(AssertSqlSafe(statement)).persistent(false).bind(RUNS).fetch_all(connection).await?;
    let show = Remedy::sql(format!(
        "select id, status, started_at, completed_at, deleted_count, error_message from {} order by inserted_at desc limit 10",
        facts.table("threadline_retention_runs")
    ));
    let Some(last) = runs.first() else {
        let advice = "say in the section [retention] of audit.toml how long rows are kept, and run `threadline retention purge` on a \
                      schedule: docs/threadline-retention.md";
        return Ok(Outcome::attention("no run has removed anything").remedy([Remedy::advice(advice)]));
    };
    if last.status == "failed" || last.is_interrupted {
        let how = if last.is_interrupted { "was interrupted" } else { "failed" };
        let seen = format!("the last of {} runs {how}, {} ago", runs.len(), days(last.age));
        return Ok(Outcome::attention(seen)
            .remedy([show, Remedy::advice("find the cause, and run the purge again")]));
    }
    let ages: Vec<f64> = runs.iter().filter(|run| run.status == "completed").map(|run| run.age).collect();
    let Some(age) = ages.first() else {
        return Ok(Outcome::ok("the first run is on its way"));
    };
    // The time between the last two is how often somebody means to run it.
    let interval = ages.get(1).map_or(DAY, |before| (before - age).max(DAY));
    let seen = format!("the last run ended {} ago; one every {}", days(*age), days(interval));
    if *age <= 2.0 * interval {
        return Ok(Outcome::ok(seen));
    }
    Ok(Outcome::attention(seen).remedy([show, Remedy::advice("see to it that the schedule runs the purge")]))
}

async fn archives(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has("threadline_retention_runs") || !facts.has("threadline_archives") {
        return Ok(Outcome::not_applicable("there is no table of archives"));
    }
    let statement = format!(
        "with runs as (select r.* from {} r order by r.inserted_at desc, r.id desc limit $1),
              last as (select r.id, coalesce(r.deleted_count, 0) + coalesce(r.deleted_actions, 0) as deleted from runs r
                       where r.deleted_count > 0 or r.deleted_actions > 0 order by r.inserted_at desc, r.id desc limit 1)
         select a.location, l.id::text, coalesce(l.deleted, 0), l.id is null or exists (select from {1} x where x.run = l.id)
         from {1} a left join last l on true where a.run in (select r.id from runs r) order by a.archived_at desc, a.id desc limit 1",
        facts.table("threadline_retention_runs"),
        facts.table("threadline_archives")
    );
    let found: Option<(String, Option<String>, i64, bool)> = sqlx::query_as(AssertSqlSafe(statement))
        .persistent(false)
        .bind(RUNS)
        .fetch_optional(connection)
        .await?;
    let Some((location, run, deleted, is_archived)) = found else {
        return Ok(Outcome::not_applicable("no run has archived anything"));
    };
    if is_archived {
        return Ok(Outcome::ok(format!("the latest archive is {location}")));
    }
    let run = run.unwrap_or_default();
    let seen = format!(
        "the run {run} has deleted {deleted} rows without an archive; one before it archived in {location}"
    );
    let directory = directory_of(&location).map(|path| path.display().to_string());
    let setting = format!("directory = {:?}", directory.unwrap_or_default());
    let setting = Remedy::setting("[retention.archive]", &[setting]);
    let advice = "look for what it has deleted in a backup; the next purge archives again";
    Ok(Outcome::attention(seen).remedy([setting, Remedy::advice(advice)]))
}

async fn tables(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let retained = &facts.expectations.retained;
    if retained.is_empty() {
        return Ok(Outcome::not_applicable("the settings give no table a window of its own"));
    }
    let unknown = unknown_tables(connection, &facts.storage, retained).await?;
    if unknown.is_empty() {
        return Ok(Outcome::ok(format!("{} tables", retained.len())));
    }
    let seen = format!("no purge deletes anything: {}", listed(unknown.iter().map(|one| &one.reason)));
    let remedies = unknown.into_iter().filter_map(|one| one.hint).map(Remedy::advice);
    Ok(Outcome::attention(seen).remedy(remedies))
}

fn days(seconds: f64) -> String {
    format!("{:.1} days", seconds / DAY)
}

async fn window(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has("threadline_retention_runs") {
        return Ok(Outcome::not_applicable("there is no table of runs"));
    }
    // Of the last run that says what it kept: how long, and of which tables otherwise.
    let statement = format!(
        "with last as (
             select w.windows, r.started_at - (w.windows ->> 'default')::timestamptz as kept
             from {} r cross join lateral (select to_jsonb(r) -> 'windows' as windows) w
             where r.status = 'completed' and isfinite((w.windows ->> 'default')::timestamptz) and isfinite(r.started_at)
             order by r.inserted_at desc limit 1)
         select extract(epoch from l.kept)::float8, extract(epoch from clock_timestamp() - o.captured_at)::float8
         from last l
         left join lateral (select c.captured_at from {} c
                            where not coalesce(l.windows -> 'tables', '{{}}') ? concat(c.table_schema, '.', c.table_name)
                              and isfinite(c.captured_at)
                            order by c.captured_at, c.id limit 1) o on true",
        facts.table("threadline_retention_runs"),
        facts.table("audit_changes")
    );
    let found: Option<(f64, Option<f64>)> =
        sqlx::query_as(AssertSqlSafe(statement)).persistent(false).fetch_optional(connection).await?;
    Ok(match found {
        None => Outcome::not_applicable("no run says how long changes are kept"),
        Some((kept, None)) => Outcome::ok(format!("kept for {}; there are none", days(kept))),
        Some((kept, Some(oldest))) => {
            let seen = format!("kept for {}; the oldest is {} old", days(kept), days(oldest));
            if oldest <= kept + 2.0 * DAY {
                Outcome::ok(seen)
            } else {
                Outcome::attention(seen)
                    .remedy([Remedy::advice("run the purge again, until it has nothing left to remove")])
            }
        }
    })
}
