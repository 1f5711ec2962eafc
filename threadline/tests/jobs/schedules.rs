//! Exports that are made again and again.

use std::time::Duration;

use serde_json::Value;
use threadline::{
    export::jobs::{JobRequest, Outcome, schedules},
    query::Scope,
};
use time::OffsetDateTime;

use super::{Jobs, tenants::TENANTS, work};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Jobs {
    async fn schedule(&self, name: &str, due_at: OffsetDateTime, every: Duration) -> anyhow::Result<()> {
        let request = JobRequest { due_at: Some(due_at), ..self.request("op:update last:24h") };
        schedules::add(&self.timeline, &Scope::everything(), name, &request, every).await?;
        Ok(())
    }

    async fn due(&mut self) -> anyhow::Result<()> {
        self.execute(
            "update threadline_export_schedules set next_at = clock_timestamp() - interval '1 second'",
        )
        .await
    }
}

#[tokio::test]
async fn a_schedule_fires_once_for_each_time_however_many_workers_look() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    jobs.schedule("nightly", OffsetDateTime::now_utc() + DAY, DAY).await?;
    let workers: Vec<_> = (0..6).map(|n| jobs.worker(&format!("made{n}"))).collect();
    futures::future::try_join_all(workers.iter().map(work)).await?;
    assert_eq!(jobs.count("threadline_export_jobs").await?, 0, "it is not due");
    for times in 1..=3 {
        jobs.due().await?;
        futures::future::try_join_all(workers.iter().map(work)).await?;
        let completed = "threadline_export_jobs where schedule = 'nightly' and status = 'completed' and scheduled_for < started_at";
        assert_eq!(jobs.count(completed).await?, times);
        assert_eq!(jobs.count("threadline_export_jobs").await?, times);
        let next =
            "threadline_export_schedules where next_at > clock_timestamp() + interval '23 hours 59 minutes'
                    and next_at <= clock_timestamp() + interval '24 hours'";
        assert_eq!(jobs.count(next).await?, 1);
    }
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 3);
    Ok(())
}

/// In a time zone with summer time, and whatever the server's is: a day has 24 hours, counted from the first time.
#[tokio::test]
async fn times_that_were_missed_are_made_up_by_one_job_and_the_next_one_is_on_the_grid() -> anyhow::Result<()>
{
    let mut jobs = Jobs::after(TENANTS).await?;
    let name = jobs.database.name();
    jobs.execute(&format!("alter database {name} set timezone = 'America/New_York'")).await?;
    let pool = sqlx::PgPool::connect(&jobs.database.url).await?;
    jobs.timeline = threadline::Timeline::new(pool, threadline::StorageSchema::default());
    let first = OffsetDateTime::from_unix_timestamp(1_773_000_000)?;
    let odd = Duration::from_secs(100_003);
    for (name, every) in [("daily", DAY), ("odd", odd)] {
        jobs.schedule(name, first, every).await?;
    }
    assert_eq!(work(&jobs.worker("made")).await?.len(), 2);
    for (name, every) in [("daily", DAY), ("odd", odd)] {
        assert_eq!(jobs.count(&format!("threadline_export_jobs where schedule = '{name}'")).await?, 1);
        let next = format!("select next_at from threadline_export_schedules where name = '{name}'");
        let next: OffsetDateTime =
            sqlx::query_scalar(sqlx::AssertSqlSafe(next)).fetch_one(&mut jobs.connection).await?;
        let since = (next - first).whole_seconds();
        assert_eq!(since % i64::try_from(every.as_secs())?, 0, "{name}: {next}");
        let now = OffsetDateTime::now_utc();
        assert!(next > now && next <= now + every, "{name}: {next}");
    }
    assert_eq!(work(&jobs.worker("made")).await?, []);
    Ok(())
}

#[tokio::test]
async fn a_schedule_that_is_paused_makes_nothing_and_one_that_is_removed_can_be_added_again()
-> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let at = OffsetDateTime::now_utc() - DAY / 2;
    jobs.schedule("nightly", at, DAY).await?;
    let twice = jobs.schedule("nightly", at, DAY).await.unwrap_err();
    assert!(twice.to_string().starts_with("there is a schedule of this name"), "{twice}");
    assert!(!schedules::enable(&jobs.timeline, "nightly", false).await?.is_enabled);
    assert_eq!(work(&worker).await?, []);
    assert!(schedules::enable(&jobs.timeline, "nightly", true).await?.is_enabled);
    assert_eq!(work(&worker).await?.len(), 1);
    schedules::remove(&jobs.timeline, "nightly").await?;
    for missing in [
        schedules::remove(&jobs.timeline, "nightly").await,
        schedules::enable(&jobs.timeline, "nightly", true).await,
    ] {
        assert_eq!(missing.unwrap_err().term(), Some("schedule_missing"));
    }
    // Another schedule of the same name and time.
    jobs.schedule("nightly", at, DAY).await?;
    assert_eq!(work(&worker).await?.len(), 1);
    assert_eq!(jobs.count("threadline_export_jobs where schedule = 'nightly'").await?, 2);
    for every in [Duration::from_secs(59), DAY * 367, Duration::from_millis(60_001)] {
        let refused = jobs.schedule("other", at, every).await.unwrap_err();
        assert!(refused.to_string().contains("60 seconds to 366 days"), "{refused}");
    }
    for name in ["", "a\nb", &"x".repeat(129)] {
        assert!(jobs.schedule(name, at, DAY).await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn the_last_24_hours_of_a_schedule_are_those_before_each_export() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(
        "insert into audit_actions (name, actor_ref, status, inserted_at)
         select 'act', '{\"type\": \"system\", \"id\": \"s\"}', 'ok', now() - n * interval '10 hours' from generate_series(1, 5) n",
    )
    .await?;
    let worker = jobs.worker("made");
    let request =
        JobRequest { due_at: Some(OffsetDateTime::now_utc()), ..jobs.request("action:act last:24h") };
    let added = schedules::add(&jobs.timeline, &Scope::everything(), "daily", &request, DAY).await?;
    let stored: Value = serde_json::from_str(added.request.unwrap().get())?;
    assert!(stored["filter"].as_str().unwrap().contains("last:1d"), "{stored}");
    for rows in [2, 0] {
        jobs.due().await?;
        let ended = work(&worker).await?;
        assert!(
            matches!(ended[0].outcome, Outcome::Completed { rows: found, .. } if found == rows),
            "{ended:?}"
        );
        // A day later.
        jobs.execute("update audit_actions set inserted_at = inserted_at - interval '24 hours' where name = 'act' and inserted_at > now() - interval '24 hours'")
            .await?;
    }
    Ok(())
}
