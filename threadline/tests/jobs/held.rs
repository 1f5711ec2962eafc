//! Who has a job: one worker at a time, until it ends, is killed, or is told that nobody wants it any longer.

use std::{fs, future, sync::Arc, time::Duration};

use sqlx::Executor as _;
use threadline::{
    StorageSchema, Timeline,
    export::jobs::{self, ATTEMPTS_MAX, Outcome, Worker},
};

use super::{DEADLINE, Jobs, attempt, names, tenants::TENANTS, work};

/// A worker that ends without a word, as one that is killed does, with its connections.
async fn dies(jobs: &Jobs, folder: &str, id: uuid::Uuid) -> anyhow::Result<()> {
    let pool = sqlx::PgPool::connect(&jobs.database.url).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let worker = Worker::new(timeline, jobs.path(folder)).allow(jobs.place());
    tokio::select! {
        ended = worker.work_one(Some(id), future::pending()) => anyhow::bail!("it has ended: {ended:?}"),
        running = jobs.until_status(id, "running") => running.map(drop),
    }
}

#[tokio::test]
async fn many_workers_make_each_job_once() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(jobs.add("op:update").await?);
    }
    let workers: Vec<_> = (0..4).map(|n| jobs.worker(&format!("made{}", n / 2))).collect();
    let ended = futures::future::try_join_all(workers.iter().map(work)).await?;
    let mut made: Vec<_> = ended
        .into_iter()
        .flatten()
        .map(|one| {
            assert!(matches!(one.outcome, Outcome::Completed { .. }), "{one:?}");
            one.job
        })
        .collect();
    made.sort();
    ids.sort();
    assert_eq!(made, ids);
    let mut expected: Vec<_> = ids.iter().flat_map(|id| names(*id, 1)).collect();
    expected.sort();
    assert_eq!(jobs.stored()?, expected);
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 12);
    Ok(())
}

#[tokio::test]
async fn a_job_that_waits_is_cancelled_and_made_after_all() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?;
    let job = jobs::cancel(&jobs.timeline, id).await?;
    assert_eq!(job.status, "cancelled");
    assert_eq!(work(&jobs.worker("made")).await?, []);
    let again = jobs::cancel(&jobs.timeline, id).await.unwrap_err();
    assert_eq!(
        (again.term(), again.to_string().as_str()),
        (Some("job_state"), "the job is cancelled: it has ended")
    );
    // It had stored nothing; it stays what it was.
    jobs.execute("update threadline_export_jobs set keep_until = now() - interval '1 second'").await?;
    assert_eq!(jobs.worker("made").clean().await?.deleted, 1);
    assert_eq!(jobs.job(id).await?.status, "cancelled");
    assert_eq!(jobs::retry(&jobs.timeline, id).await?.status, "pending");
    assert_eq!(jobs::retry(&jobs.timeline, id).await.unwrap_err().term(), Some("job_state"));
    assert_eq!(work(&jobs.worker("made")).await?.len(), 1);
    assert_eq!(jobs.job(id).await?.status, "completed");
    let none = jobs::cancel(&jobs.timeline, uuid::Uuid::nil()).await.unwrap_err();
    assert_eq!(none.term(), Some("job_missing"));
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_made_is_cancelled_and_nothing_of_it_stays() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let mut holder = jobs.readers_wait().await?;
    let id = jobs.add("op:update").await?;
    let worker = Arc::new(jobs.worker("made"));
    let made = attempt(&worker);
    let running = jobs.until_status(id, "running").await?;
    assert!(running.holder.unwrap().starts_with("process "));
    assert_eq!(jobs::cancel(&jobs.timeline, id).await?.status, "cancelled");
    // At the next renewal, long before anybody lets it read.
    assert_eq!(tokio::time::timeout(DEADLINE, made).await??, Outcome::Lost);
    holder.execute("commit").await?;
    assert_eq!(jobs.stored()?, Vec::<String>::new());
    assert_eq!(jobs.job(id).await?.status, "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_lease_that_has_run_out_is_anothers_and_the_first_worker_stores_nothing() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let mut holder = jobs.readers_wait().await?;
    let id = jobs.add("op:update").await?;
    let workers = [Arc::new(jobs.worker("made0")), Arc::new(jobs.worker("made1"))];
    let first = attempt(&workers[0]);
    let had = jobs.until_status(id, "running").await?.holder;
    assert!(work(&workers[1]).await?.is_empty(), "somebody has it");
    jobs.time_passes().await?;
    assert_eq!(jobs.job(id).await?.status, "interrupted");
    let second = attempt(&workers[1]);
    let has = jobs.until_status(id, "running").await?.holder;
    assert_ne!(had, has);
    holder.execute("commit").await?;
    assert_eq!(tokio::time::timeout(DEADLINE, first).await??, Outcome::Lost);
    let ended = tokio::time::timeout(DEADLINE, second).await??;
    assert!(matches!(&ended, Outcome::Completed { location, .. } if location.contains("/2/")), "{ended:?}");
    assert_eq!(jobs.stored()?, names(id, 2));
    assert_eq!(jobs.job(id).await?.attempts, Some(2));
    Ok(())
}

/// After a failover the server's clock may be hours behind the one that the lease was written by.
#[tokio::test]
async fn a_lease_that_a_wrong_clock_has_written_does_not_last() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let holder = jobs.readers_wait().await?;
    let id = jobs.add("").await?;
    dies(&jobs, "made", id).await?;
    drop(holder);
    jobs.execute("update threadline_export_jobs set lease_until = clock_timestamp() + interval '50 seconds'")
        .await?;
    assert_eq!(work(&jobs.worker("made")).await?, []);
    jobs.execute("update threadline_export_jobs set lease_until = clock_timestamp() + interval '5 hours'")
        .await?;
    assert_eq!(jobs.job(id).await?.status, "interrupted");
    assert_eq!(work(&jobs.worker("made")).await?.len(), 1);
    assert_eq!(jobs.job(id).await?.status, "completed");
    Ok(())
}

#[tokio::test]
async fn a_job_whose_workers_all_die_fails_and_says_so() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let holder = jobs.readers_wait().await?;
    let id = jobs.add("op:update").await?;
    for attempts in 1..=ATTEMPTS_MAX {
        dies(&jobs, "made", id).await?;
        assert_eq!(jobs.job(id).await?.attempts, Some(i32::from(attempts)));
        jobs.time_passes().await?;
    }
    assert_eq!(work(&jobs.worker("made")).await?, []);
    let job = jobs.job(id).await?;
    let why = job.error_message.unwrap();
    assert!(job.status == "failed" && why.starts_with("interrupted: ") && why.contains("retry"), "{why}");
    drop(holder);
    jobs::retry(&jobs.timeline, id).await?;
    assert_eq!(work(&jobs.worker("made")).await?.len(), 1);
    assert_eq!(jobs.job(id).await?.attempts, Some(1));
    assert_eq!(jobs.stored()?, names(id, i32::from(ATTEMPTS_MAX) + 1));
    Ok(())
}

/// The Elixir library marks what has been running for a day as failed when it starts.
#[tokio::test]
async fn a_job_that_the_library_marks_as_failed_is_completed_all_the_same() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let mut holder = jobs.readers_wait().await?;
    let id = jobs.add("op:update").await?;
    let worker = Arc::new(jobs.worker("made"));
    let made = attempt(&worker);
    jobs.until_status(id, "running").await?;
    let marked = "update threadline_export_jobs set status = 'failed', error_message = 'Abandoned', completed_at = now() where status = 'running'";
    jobs.execute(marked).await?;
    assert_eq!(jobs.job(id).await?.status, "running");
    assert_eq!(jobs::retry(&jobs.timeline, id).await.unwrap_err().term(), Some("job_state"));
    holder.execute("commit").await?;
    assert!(matches!(tokio::time::timeout(DEADLINE, made).await??, Outcome::Completed { .. }));
    let job = jobs.job(id).await?;
    assert_eq!((job.status.as_str(), job.error_message), ("completed", None));
    Ok(())
}

#[tokio::test]
async fn a_storage_that_is_away_is_tried_again_later_and_the_export_is_made_once() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let id = jobs.add("op:update").await?;
    // Nobody makes it in the meantime: it may be on a disk that is not mounted.
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    let mut pauses = Vec::new();
    for attempt in 1..ATTEMPTS_MAX {
        let ended = work(&worker).await?;
        assert!(
            matches!(&ended[0].outcome, Outcome::PutOff { error } if error.starts_with("storage_missing: ")),
            "{ended:?}"
        );
        let job = jobs.job(id).await?;
        assert_eq!((job.status.as_str(), job.attempts), ("pending", Some(attempt.into())));
        let seconds = "select extract(epoch from due_at - updated_at)::float8 from threadline_export_jobs";
        pauses.push(sqlx::query_scalar::<_, f64>(seconds).fetch_one(&mut jobs.connection).await?.round());
        assert_eq!(work(&worker).await?, [], "it is not due yet");
        jobs.time_passes().await?;
    }
    assert_eq!(pauses, [10.0, 20.0, 40.0, 80.0]);
    // What was made is kept for the next attempt.
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 1);
    let ended = work(&worker).await?;
    assert!(matches!(&ended[0].outcome, Outcome::Failed { .. }), "{ended:?}");
    let job = jobs.job(id).await?;
    assert!(job.status == "failed" && job.error_message.unwrap().starts_with("storage_missing: "));
    assert_eq!(super::files(&jobs.path("made"))?, Vec::<String>::new());
    assert!(!jobs.path("stored").exists());
    fs::rename(jobs.path("away"), jobs.path("stored"))?;
    jobs::retry(&jobs.timeline, id).await?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::Completed { .. }));
    assert_eq!(jobs.stored()?, names(id, 6));
    Ok(())
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_gives_its_job_back() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let holder = jobs.readers_wait().await?;
    let id = jobs.add("op:update").await?;
    let place = jobs.place().to_string();
    let mut running = sandbox::process::Process::start(
        &jobs.folder,
        "worker",
        "threadline",
        &["export", "jobs", "work", "--directory", "made", "--allow", &place],
        &[("THREADLINE_DATABASE_URL", &jobs.database.url)],
    )?;
    jobs.until_status(id, "running").await?;
    let status = running.terminate(Duration::from_secs(30))?;
    assert!(status.success(), "{status}: {}", running.log());
    let job = jobs.job(id).await?;
    assert_eq!((job.status.as_str(), job.attempts, job.holder), ("pending", Some(0), None));
    drop(holder);
    assert_eq!(work(&jobs.worker("made")).await?.len(), 1);
    Ok(())
}

/// Whatever the export was doing when it was left: beginning, reading, writing, storing.
#[tokio::test]
async fn a_connection_that_a_cancelled_export_has_used_is_in_nobodys_way() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&jobs.database.url).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let worker = Worker::new(timeline.clone(), jobs.path("made")).allow(jobs.place());
    let holder = jobs.readers_wait().await?;
    // More often than the pool has connections, a little later each time.
    for polls in 0..40 {
        let id = jobs.add("op:update").await?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stopping = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            jobs.until_status(id, "running").await.map(|_| drop(stop))
        };
        let (ended, stopping) = tokio::join!(
            worker.work_one(Some(id), async {
                let _ = stopped.await;
            }),
            stopping
        );
        stopping?;
        assert_eq!(ended?.unwrap().outcome, Outcome::GivenBack);
        jobs::cancel(&timeline, id).await?;
    }
    drop(holder);
    let id = jobs.add("op:update").await?;
    assert_eq!(work(&worker).await?.len(), 1);
    assert_eq!(jobs.stored()?, names(id, 1));
    Ok(())
}
