//! What others have put where workers look: files of their own, links, rows that nobody here writes, and copies of a database.

use std::{fs, os::unix::fs::symlink, process::Command, task::Poll};

use threadline::{
    StorageSchema, Timeline,
    export::jobs::{self, Cleaned, Outcome, Worker},
    storage::StorageSettings,
};
use uuid::Uuid;

use super::{Jobs, files, names, tenants::TENANTS, work};

/// Puts the row of a job into another database, as a copy of the whole database has it.
async fn copy(jobs: &mut Jobs, id: Uuid, other: &mut Jobs) -> anyhow::Result<()> {
    let row: String =
        sqlx::query_scalar("select to_jsonb(j)::text from threadline_export_jobs j where id = $1")
            .bind(id)
            .fetch_one(&mut jobs.connection)
            .await?;
    sqlx::query("insert into threadline_export_jobs select * from jsonb_populate_record(null::threadline_export_jobs, $1::jsonb)")
        .bind(row)
        .execute(&mut other.connection)
        .await?;
    Ok(())
}

#[tokio::test]
async fn only_files_that_a_worker_makes_are_removed_from_its_folder() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    let made = |suffix: &str| jobs.path("made").join(format!("{id}{suffix}"));
    let left =
        ["", ".partial", ".progress.json", ".manifest.json", ".manifest.sig", ".manifest.json.partial"];
    for suffix in left {
        fs::write(made(&format!(".ndjson{suffix}")), "left by a worker that was killed")?;
    }
    let others = ["-notes.txt", ".csv", ".csv.manifest.json", ".ndjson.bak", ".notes", ""];
    for suffix in others {
        fs::write(made(suffix), "somebody's")?;
    }
    symlink(jobs.path("stored"), made(".ndjson.progress.json.partial"))?;
    jobs.worker("made").clean().await?;
    let mut expected: Vec<_> = others.iter().map(|suffix| format!("{id}{suffix}")).collect();
    expected.sort();
    let stays: Vec<_> = files(&jobs.path("made"))?.into_iter().filter(|name| !name.contains('/')).collect();
    let stays: Vec<_> = stays.into_iter().filter(|name| !name.ends_with(".progress.json.partial")).collect();
    assert_eq!(stays, expected);
    assert!(made(".ndjson.progress.json.partial").is_symlink());
    Ok(())
}

#[tokio::test]
async fn a_manifest_or_a_signature_that_is_there_is_not_overwritten_by_a_fetched_one() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?.to_string();
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    let fetch = ["export", "jobs", "fetch", &id, "-o", "x"];
    for name in ["x.manifest.json", "x.manifest.sig"] {
        fs::write(jobs.path(name), "precious")?;
        let ran = jobs.threadline(&fetch)?;
        assert!(ran.status == Some(2) && ran.error.contains("file_exists: "), "{ran:?}");
        assert_eq!(fs::read_to_string(jobs.path(name))?, "precious");
        assert!(!jobs.path("x").exists());
        fs::remove_file(jobs.path(name))?;
    }
    symlink("nowhere", jobs.path("x"))?;
    let ran = jobs.threadline(&fetch)?;
    assert!(ran.status == Some(2) && ran.error.contains("file_exists: "), "{ran:?}");
    fs::write(jobs.path("x.manifest.sig"), "of another one")?;
    assert_eq!(jobs.threadline(&[&fetch[..], &["--force"]].concat())?.status, Some(0));
    assert!(jobs.path("x").exists() && !jobs.path("x.manifest.sig").exists());
    Ok(())
}

#[tokio::test]
async fn a_fetch_that_is_interrupted_leaves_nothing() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    let to = jobs.folder.path().join("fetched/x");
    fs::create_dir(jobs.path("fetched"))?;
    let is_begun = || fs::read_dir(jobs.path("fetched")).is_ok_and(|found| found.count() > 0);
    let settings = StorageSettings::default();
    let mut fetching = Box::pin(jobs::fetch(&jobs.timeline, id, &settings, &to, false));
    // It is polled until it has begun, and then no longer.
    std::future::poll_fn(|context| match fetching.as_mut().poll(context) {
        _ if is_begun() => Poll::Ready(Ok(())),
        Poll::Ready(ended) => Poll::Ready(Err(anyhow::anyhow!("it has ended: {ended:?}"))),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    assert!(!to.exists());
    drop(fetching);
    assert!(!is_begun());
    Ok(())
}

/// Nothing is fetched that is longer than it may be, and nothing is waited for that never ends.
#[tokio::test]
async fn what_is_fetched_is_bounded_whatever_the_store_holds() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("op:update").await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    let fetch = ["export", "jobs", "fetch", &id.to_string(), "-o", "x"];
    for name in names(id, 1) {
        let path = jobs.path("stored").join(&name);
        let bytes = fs::read(&path)?;
        fs::File::options().write(true).open(&path)?.set_len(1 << 40)?;
        let ran = jobs.threadline(&fetch)?;
        assert!(ran.status == Some(1) && ran.error.starts_with("error: fetch_differs: "), "{ran:?}");
        assert!(ran.error.contains(" has more than "), "{ran:?}");
        for other in ["zero", "fifo"] {
            fs::remove_file(&path)?;
            if other == "zero" {
                symlink("/dev/zero", &path)?;
            } else {
                assert!(Command::new("mkfifo").arg(&path).status()?.success());
            }
            let ran = jobs.threadline(&fetch)?;
            assert!(ran.status == Some(1) && ran.error.contains("no regular file"), "{ran:?}");
        }
        fs::remove_file(&path)?;
        fs::write(&path, bytes)?;
    }
    assert_eq!(jobs.threadline(&fetch)?.status, Some(0));
    Ok(())
}

#[tokio::test]
async fn an_export_that_lies_ready_is_not_that_of_a_copy_of_its_database() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let mut other = Jobs::after("select 1").await?;
    let id = jobs.add("op:update").await?;
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::PutOff { .. }));
    assert!(jobs.path("made").join(format!("{id}.ndjson")).exists());
    copy(&mut jobs, id, &mut other).await?;
    fs::rename(jobs.path("away"), jobs.path("stored"))?;
    other.time_passes().await?;
    let worker = Worker::new(other.timeline.clone(), jobs.path("made")).allow(jobs.place());
    let ended = work(&worker).await?;
    assert!(matches!(ended[0].outcome, Outcome::Completed { rows: 0, .. }), "{ended:?}");
    assert_eq!(other.count("audit_actions where name = 'audit.exported'").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_link_in_a_store_is_neither_written_nor_deleted_through() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let (worker, stored) = (jobs.worker("made"), jobs.path("stored"));
    let victim = jobs.path("victim");
    fs::write(&victim, "precious")?;
    let id = jobs.add("op:update").await?;
    let [export, manifest] = names(id, 1).try_into().unwrap();
    fs::create_dir_all(stored.join(id.to_string()).join("1"))?;
    symlink(&victim, stored.join(format!("{export}.partial")))?;
    symlink(&victim, stored.join(&manifest))?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::Completed { .. }));
    assert_eq!(fs::read_to_string(&victim)?, "precious");
    for name in [export, manifest] {
        assert!(fs::symlink_metadata(stored.join(name))?.is_file());
    }
    // The folder of a job that leads elsewhere.
    let elsewhere = jobs.path("elsewhere");
    fs::rename(stored.join(id.to_string()), &elsewhere)?;
    symlink(&elsewhere, stored.join(id.to_string()))?;
    let there = files(&elsewhere)?;
    jobs.execute("update threadline_export_jobs set keep_until = now() - interval '1 second'").await?;
    assert_eq!(worker.clean().await?, Cleaned { deleted: 0, kept: 1 });
    let why = jobs.job(id).await?.error_message.unwrap();
    assert!(why.starts_with("not deleted: storage_file: ") && why.contains("symbolic link"), "{why}");
    let next = jobs.add("op:update").await?;
    fs::create_dir(jobs.path("another"))?;
    symlink(jobs.path("another"), stored.join(next.to_string()))?;
    let ended = work(&worker).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    assert!(error.starts_with("storage_file: ") && error.contains("symbolic link"), "{error}");
    assert_eq!(files(&jobs.path("another"))?, Vec::<String>::new());
    assert_eq!(files(&elsewhere)?, there);
    Ok(())
}

/// Files may not grow beyond 8 KiB, as if there were no more room.
#[tokio::test]
async fn an_attempt_for_which_a_store_has_no_room_leaves_nothing_in_it() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("").await?;
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::PutOff { .. }));
    fs::rename(jobs.path("away"), jobs.path("stored"))?;
    jobs.time_passes().await?;
    let place = jobs.place().to_string();
    let program = env!("CARGO_BIN_EXE_threadline");
    let mut worker = Command::new("sh");
    worker
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"", program, "export", "jobs", "work"])
        .args(["--until-idle", "--directory", "made", "--allow", &place])
        .current_dir(jobs.folder.path())
        .env("THREADLINE_DATABASE_URL", &jobs.database.url)
        .env_remove("AUDIT_CONFIG");
    let ran = sandbox::process::complete(&mut worker)?;
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("put off, storage_file: "), "{ran:?}");
    assert!(!jobs.path("stored").join(id.to_string()).exists(), "{:?}", jobs.stored()?);
    jobs.time_passes().await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { .. }));
    assert_eq!(jobs.stored()?, names(id, 3));
    Ok(())
}

#[tokio::test]
async fn a_row_that_cannot_be_reckoned_with_is_in_no_other_ones_way() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(jobs.add("op:update").await?);
    }
    let [most, generations, fewest, plain] = ids.try_into().unwrap();
    jobs.execute(&format!(
        "update threadline_export_jobs set attempts = 2147483647 where id = '{most}';
         update threadline_export_jobs set generation = 2147483647 where id = '{generations}';
         update threadline_export_jobs set attempts = -2147483648 where id = '{fewest}';
         insert into threadline_export_schedules (name, request, query_params, every_seconds, next_at)
         select name, request, query_params, every, at::timestamptz from threadline_export_jobs,
             (values ('never', 60, '-infinity'), ('always', 60, 'infinity'), ('seldom', 9223372036854775807, '4713-01-01 BC'),
                     ('plain', 60, '2026-01-01Z')) s (name, every, at) where id = '{plain}'"
    ))
    .await?;
    let ended = work(&worker).await?;
    assert_eq!(ended.len(), 6, "{ended:?}");
    for job in [generations, fewest] {
        let why = jobs.job(job).await?.error_message.unwrap_or_default();
        assert!(why.starts_with("attempts_invalid: "), "{why}");
    }
    for job in [most, plain] {
        assert_eq!(jobs.job(job).await?.status, "completed");
    }
    let fired = "threadline_export_jobs where schedule in ('plain', 'seldom')";
    assert_eq!((jobs.count(fired).await?, jobs.count("threadline_export_jobs").await?), (2, 6));
    let next = "threadline_export_schedules where isfinite(next_at) and next_at > now()";
    assert_eq!(jobs.count(next).await?, 2);
    jobs.execute(&format!(
        "update threadline_export_jobs set keep_until = now() - interval '1 second' where id in ('{most}', '{plain}');
         update threadline_export_jobs set generation = 2147483647 where id = '{most}'"
    ))
    .await?;
    assert_eq!(worker.clean().await?, Cleaned { deleted: 1, kept: 1 });
    Ok(())
}

#[tokio::test]
async fn workers_that_undo_one_another_where_transactions_are_serializable_all_go_on() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let name = jobs.database.name();
    jobs.execute(&format!("alter database {name} set default_transaction_isolation = 'serializable'"))
        .await?;
    let mut workers = Vec::new();
    for n in 0..4 {
        let pool = sqlx::PgPool::connect(&jobs.database.url).await?;
        let timeline = Timeline::new(pool, StorageSchema::default());
        workers.push(Worker::new(timeline, jobs.path(&format!("made{n}"))).allow(jobs.place()));
    }
    for _ in 0..12 {
        jobs.add("op:update").await?;
    }
    let completed = "threadline_export_jobs where status = 'completed'";
    let mut rounds = 0;
    while jobs.count(completed).await? < 12 {
        rounds += 1;
        assert!(rounds <= jobs::ATTEMPTS_MAX, "a job has failed");
        jobs.execute("update threadline_export_jobs set due_at = clock_timestamp() where status = 'pending'")
            .await?;
        futures::future::try_join_all(workers.iter().map(work)).await?;
        assert_eq!(jobs.count("threadline_export_jobs where status = 'running'").await?, 0);
    }
    Ok(())
}
