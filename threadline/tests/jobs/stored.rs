//! A job from being asked for to being fetched, and what becomes of what it has stored.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use threadline::{
    export::jobs::{self, Cleaned, JobRequest, Outcome, Worker},
    query::Scope,
};

use super::{Jobs, KEY, PUBLIC_HEX, names, tenants::TENANTS, work};

#[tokio::test]
async fn a_job_stores_what_export_run_writes_and_fetch_brings_it_here_verified() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    fs::write(jobs.path("key.pem"), KEY)?;
    let place = jobs.place();
    let settings =
        format!("[export]\nkey = \"key.pem\"\nkeep = \"2days\"\n[export.storage]\nlocation = \"{place}\"\n");
    fs::write(jobs.path("audit.toml"), settings)?;
    let ran = jobs.threadline(&["export", "run", "op:update", "-o", "run.csv", "--unrecorded"])?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let ran = jobs.threadline(&["export", "jobs", "add", "op:update", "--actor", "admin:a1"])?;
    assert_eq!((ran.status, ran.error.as_str()), (Some(0), ""), "{ran:?}");
    let id: uuid::Uuid = ran.out.trim().parse()?;
    let ran =
        jobs.threadline(&["export", "jobs", "work", "--until-idle", "--json", "--directory", "made"])?;
    assert_eq!((ran.status, ran.error.as_str()), (Some(0), ""), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.out)?;
    let export = format!("{id}/1/{id}.csv");
    let bytes = fs::read(jobs.path("run.csv"))?;
    let location = format!("{place}/{export}");
    let expected =
        json!({"job": id, "outcome": "completed", "location": location, "rows": 40, "bytes": bytes.len()});
    assert_eq!(said, expected);
    assert_eq!(
        jobs.stored()?,
        [export.clone(), format!("{export}.manifest.json"), format!("{export}.manifest.sig")]
    );
    assert_eq!(super::files(&jobs.path("made"))?, Vec::<String>::new());
    let ran = jobs.threadline(&["export", "jobs", "show", &id.to_string(), "--json"])?;
    let shown: Value = serde_json::from_str(&ran.out)?;
    let run: Value = serde_json::from_slice(&fs::read(jobs.path("run.csv.manifest.json"))?)?;
    assert_eq!((&shown["status"], &shown["sha256"]), (&json!("completed"), &run["sha256"]), "{shown}");
    assert_eq!((&shown["rows"], &shown["location"]), (&json!(40), &json!(location)));
    assert_eq!(shown["actor_ref"], json!({"type": "admin", "id": "a1"}));
    // The file is the same to the byte, and verifies anywhere.
    let ran = jobs.threadline(&["export", "jobs", "fetch", &id.to_string(), "-o", "fetched.csv"])?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("fetched and verified: 40 rows, "), "{ran:?}");
    assert_eq!(fs::read(jobs.path("fetched.csv"))?, bytes);
    let arguments = ["export", "verify", "fetched.csv.manifest.json"];
    let ran = jobs.threadline(&[&arguments[..], &["--public-key", PUBLIC_HEX]].concat())?;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    // It stands in the timeline once, in the name of whoever asked.
    let of_a1 = "where name = 'audit.exported' and actor_ref = '{\"type\": \"admin\", \"id\": \"a1\"}'";
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 1);
    assert_eq!(jobs.count(&format!("audit_actions {of_a1}")).await?, 1);
    assert_eq!(jobs.count("threadline_evidence_records where subject = 'export_delivery'").await?, 1);
    let kept = "threadline_export_jobs where keep_until between now() + interval '47 hours' and now() + interval '48 hours'";
    assert_eq!(jobs.count(kept).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_was_changed_where_it_is_stored_is_not_fetched() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let id = jobs.add("").await?;
    assert!(matches!(work(&jobs.worker("made")).await?[0].outcome, Outcome::Completed { rows: 160, .. }));
    let fetch = ["export", "jobs", "fetch", &id.to_string(), "-o", "fetched"];
    for name in names(id, 1) {
        let path = jobs.path("stored").join(name);
        let bytes = fs::read(&path)?;
        let mut changed = bytes.clone();
        changed[100] ^= 1;
        for other in [changed, bytes[..bytes.len() - 1].to_vec()] {
            fs::write(&path, other)?;
            let ran = jobs.threadline(&fetch)?;
            assert_eq!(ran.status, Some(1), "{ran:?}");
            assert!(ran.error.starts_with("error: fetch_differs: "), "{ran:?}");
        }
        fs::remove_file(&path)?;
        let ran = jobs.threadline(&fetch)?;
        assert!(ran.status == Some(1) && ran.error.starts_with("error: storage_missing: "), "{ran:?}");
        fs::write(&path, bytes)?;
    }
    let left: Vec<_> =
        super::files(jobs.folder.path())?.into_iter().filter(|name| name.starts_with("fetched")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(jobs.threadline(&fetch)?.status, Some(0));
    // One that is there stays.
    let ran = jobs.threadline(&fetch)?;
    assert!(ran.status == Some(2) && ran.error.contains("file_exists: "), "{ran:?}");
    assert_eq!(jobs.threadline(&[&fetch[..], &["--force"]].concat())?.status, Some(0));
    Ok(())
}

#[tokio::test]
async fn what_was_kept_long_enough_is_deleted_and_its_job_says_so() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made").keep_for(Duration::from_secs(3600));
    let (gone, stays) = (jobs.add("op:update").await?, jobs.add("op:insert").await?);
    assert_eq!(work(&worker).await?.len(), 2);
    assert_eq!(worker.clean().await?, Cleaned::default());
    jobs.execute(&format!(
        "update threadline_export_jobs set keep_until = now() - interval '1 second' where id = '{gone}'"
    ))
    .await?;
    // What is not there needs no deletion.
    fs::remove_file(jobs.path("stored").join(&names(gone, 1)[1]))?;
    // A worker that may not do it leaves it, and says so.
    let other = Worker::new(jobs.timeline.clone(), jobs.path("made"));
    assert_eq!(other.clean().await?, Cleaned { deleted: 0, kept: 1 });
    let why = jobs.job(gone).await?.error_message.unwrap();
    assert!(why.starts_with("not deleted: location_not_allowed: "), "{why}");
    let allow = ["export", "jobs", "clean", "--allow", &jobs.place().to_string()];
    let ran = jobs.threadline(&allow)?;
    assert_eq!(
        (ran.status, ran.out.as_str()),
        (Some(0), "deleted what 1 jobs had stored; 0 could not be deleted\n")
    );
    assert_eq!(jobs.stored()?, names(stays, 1));
    assert!(!jobs.path("stored").join(gone.to_string()).exists());
    let job = jobs.job(gone).await?;
    assert_eq!((job.status.as_str(), job.error_message, job.keep_until), ("expired", None, None));
    let ran = jobs.threadline(&["export", "jobs", "fetch", &gone.to_string(), "-o", "fetched"])?;
    assert!(
        ran.status == Some(1) && ran.error.contains("job_state: ") && ran.error.contains("add"),
        "{ran:?}"
    );
    for change in [jobs::cancel(&jobs.timeline, gone).await, jobs::retry(&jobs.timeline, gone).await] {
        assert_eq!(change.unwrap_err().term(), Some("job_state"));
    }
    assert_eq!(jobs.job(stays).await?.status, "completed");
    Ok(())
}

/// As of a mount that is away, whose point is empty.
#[tokio::test]
async fn a_folder_that_is_not_there_is_never_made_and_what_was_in_it_does_not_count_as_deleted()
-> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let first = jobs.add("op:update").await?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::Completed { .. }));
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    let below = JobRequest { storage: jobs.place().join("below/it")?, ..jobs.request("op:insert") };
    let second = jobs::add(&jobs.timeline, &Scope::everything(), &below).await?.id;
    let ended = work(&worker).await?;
    let Outcome::PutOff { error } = &ended[0].outcome else { panic!("{ended:?}") };
    let stored = jobs.path("stored");
    let expected = format!("storage_missing: cannot use {}: the folder is not there", stored.display());
    assert!(error.starts_with(&expected) && error.contains("mount the disk"), "{error}");
    jobs.execute(&format!(
        "update threadline_export_jobs set keep_until = now() - interval '1 second' where id = '{first}'"
    ))
    .await?;
    assert_eq!(worker.clean().await?, Cleaned { deleted: 0, kept: 1 });
    let job = jobs.job(first).await?;
    assert!(job.error_message.unwrap().starts_with("not deleted: storage_missing: "), "{}", job.status);
    assert!(!stored.exists());
    // With the disk everything goes on, also in a folder below it that there never was.
    fs::rename(jobs.path("away"), &stored)?;
    jobs.time_passes().await?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::Completed { .. }));
    assert_eq!(jobs.job(first).await?.status, "expired");
    let expected: Vec<String> = names(second, 2).iter().map(|name| format!("below/it/{name}")).collect();
    assert_eq!(jobs.stored()?, expected);
    Ok(())
}

/// Its rows are the Elixir library's business, whatever their state.
#[tokio::test]
async fn a_job_of_the_elixir_library_is_left_alone() -> anyhow::Result<()> {
    const LIBRARYS: &str = "select coalesce(string_agg(to_jsonb(j)::text, '; ' order by id), '') from threadline_export_jobs j where request is null";
    let mut jobs = Jobs::after(TENANTS).await?;
    jobs.execute(
        "insert into threadline_export_jobs (status, query_params, file_path, started_at, completed_at, expires_at)
         select status, '{\"table\": \"posts\"}', '/exports/1.csv', now() - interval '3 days', now() - interval '2 days', now() - interval '1 day'
         from unnest(array['pending', 'running', 'completed', 'failed']) status",
    )
    .await?;
    let before: String = sqlx::query_scalar(LIBRARYS).fetch_one(&mut jobs.connection).await?;
    let ours = jobs.add("").await?;
    let ended = work(&jobs.worker("made")).await?;
    assert_eq!(ended.iter().map(|one| one.job).collect::<Vec<_>>(), [ours]);
    let listed = jobs::list(&jobs.timeline, None, 20).await?;
    assert_eq!(listed.len(), 5);
    for job in listed.iter().filter(|job| !job.is_ours()) {
        for change in [jobs::cancel(&jobs.timeline, job.id).await, jobs::retry(&jobs.timeline, job.id).await]
        {
            assert_eq!(change.unwrap_err().term(), Some("job_of_library"));
        }
        let ran = jobs.threadline(&["export", "jobs", "fetch", &job.id.to_string(), "-o", "fetched"])?;
        assert!(ran.status == Some(2) && ran.error.contains("job_of_library: "), "{ran:?}");
    }
    let ran = jobs.threadline(&["export", "jobs", "list"])?;
    assert_eq!(ran.out.matches("(library)").count(), 4, "{ran:?}");
    let after: String = sqlx::query_scalar(LIBRARYS).fetch_one(&mut jobs.connection).await?;
    assert_eq!(before, after);
    // Nor does the library's own clean-up find ours.
    let found = "threadline_export_jobs where request is not null and (file_path is not null or expires_at is not null)";
    assert_eq!(jobs.count(found).await?, 0);
    Ok(())
}
