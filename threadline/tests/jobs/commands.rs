//! The commands as a person or a script runs them.

use serde_json::Value;

use super::{Jobs, tenants::TENANTS};

#[tokio::test]
async fn a_job_is_made_in_the_same_process_or_waited_for() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let place = jobs.place().to_string();
    let add = ["export", "jobs", "add", "op:update", "--format", "ndjson", "--to", &place, "--json"];
    let ran = jobs.threadline(&[&add[..], &["--now", "--directory", "made"]].concat())?;
    assert_eq!((ran.status, ran.error.as_str()), (Some(0), ""), "{ran:?}");
    let job: Value = serde_json::from_str(&ran.out)?;
    assert_eq!((job["status"].as_str(), job["rows"].as_u64()), (Some("completed"), Some(40)), "{job}");
    // Nobody may bring it there but a worker that is told to.
    let mut waiting = jobs.command(&[&add[..], &["--wait"]].concat());
    let waiting = waiting.stdout(std::process::Stdio::piped()).spawn()?;
    let pending = "select id from threadline_export_jobs where status = 'pending'";
    sandbox::wait::until_some("the second job", super::DEADLINE, async || {
        let id: Option<uuid::Uuid> = sqlx::query_scalar(pending).fetch_optional(&mut jobs.connection).await?;
        Ok(id)
    })
    .await?;
    let ran = jobs.threadline(&["export", "jobs", "work", "--until-idle", "--directory", "made"])?;
    assert!(ran.status == Some(0) && ran.out.contains("failed, location_not_allowed: "), "{ran:?}");
    let waited = waiting.wait_with_output()?;
    assert_eq!(waited.status.code(), Some(1));
    let job: Value = serde_json::from_slice(&waited.stdout)?;
    assert!(job["status"] == "failed" && job["error_message"].as_str().unwrap().contains("--allow"), "{job}");
    // For people.
    let id = job["id"].as_str().unwrap();
    let ran = jobs.threadline(&["export", "jobs", "retry", id])?;
    assert!(ran.status == Some(0) && ran.out.contains("status     pending"), "{ran:?}");
    let work = ["export", "jobs", "work", "--until-idle", "--directory", "made", "--allow", &place];
    let ran = jobs.threadline(&work)?;
    assert!(ran.out.starts_with(&format!("{id} completed, 40 rows, ")), "{ran:?}");
    let ran = jobs.threadline(&["export", "jobs", "show", id])?;
    for line in
        ["status     completed", "filter     op:update", "format     ndjson", "rows       40", "attempts   1"]
    {
        assert!(ran.out.lines().any(|said| said == line), "{line}: {}", ran.out);
    }
    let ran = jobs.threadline(&["export", "jobs", "list"])?;
    let said: Vec<&str> = ran.out.lines().collect();
    assert_eq!(said.len(), 3, "{ran:?}");
    // All of the id and of the time: other commands take them.
    let line: Vec<&str> = said[1].split_whitespace().collect();
    assert!(line[0] == id && line[1].ends_with('Z') && said[1].contains("completed"), "{ran:?}");
    let ran = jobs.threadline(&["export", "jobs", "list", "--actor", "admin:a1"])?;
    assert_eq!(ran.out, "there are no jobs\n");
    Ok(())
}

#[tokio::test]
async fn schedules_are_added_listed_paused_resumed_and_removed() -> anyhow::Result<()> {
    let jobs = Jobs::after(TENANTS).await?;
    let place = jobs.place().to_string();
    let ran = jobs.threadline(&["export", "schedules", "list"])?;
    assert_eq!(ran.out, "there are no schedules\n");
    let add =
        ["export", "schedules", "add", "nightly", "op:update", "last:1d", "--every", "1d", "--to", &place];
    let ran = jobs.threadline(&[&add[..], &["--at", "2026-05-15T02:00:00Z", "--json"]].concat())?;
    assert_eq!((ran.status, ran.error.as_str()), (Some(0), ""), "{ran:?}");
    let added: Value = serde_json::from_str(&ran.out)?;
    assert_eq!((&added["every_seconds"], &added["is_enabled"]), (&Value::from(86_400), &Value::from(true)));
    assert_eq!(added["next_at"], "2026-05-15T02:00:00.000000Z");
    assert_eq!(jobs.threadline(&["export", "schedules", "pause", "nightly"])?.status, Some(0));
    let work = ["export", "jobs", "work", "--until-idle", "--directory", "made", "--allow", &place];
    assert_eq!(jobs.threadline(&work)?.out, "");
    assert!(jobs.threadline(&["export", "schedules", "list"])?.out.contains("paused"));
    assert_eq!(jobs.threadline(&["export", "schedules", "resume", "nightly"])?.status, Some(0));
    assert!(jobs.threadline(&work)?.out.contains(" completed, 0 rows, "));
    let ran = jobs.threadline(&["export", "jobs", "list", "--json"])?;
    let job: Value = serde_json::from_str(&ran.out)?;
    assert_eq!(job["schedule"], "nightly");
    assert_eq!(jobs.threadline(&["export", "schedules", "remove", "nightly"])?.status, Some(0));
    let ran = jobs.threadline(&["export", "schedules", "remove", "nightly"])?;
    assert!(ran.status == Some(2) && ran.error.contains("schedule_missing: "), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_not_there_is_asked_for_by_no_job_and_no_schedule() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let place = jobs.place().to_string();
    for ask in [&["jobs", "add"][..], &["schedules", "add", "nightly", "--every", "1d"]] {
        let ran = jobs.threadline(&[&["export"], ask, &["table:psots", "--to", &place]].concat())?;
        assert!(ran.status == Some(1) && ran.error.starts_with("error: table_unknown: "), "{ran:?}");
        assert!(ran.error.contains("is public.posts meant?"), "{ran:?}");
    }
    let asked = "select (select count(*) from threadline_export_jobs) + (select count(*) from threadline_export_schedules)";
    assert_eq!(sqlx::query_scalar::<_, i64>(asked).fetch_one(&mut jobs.connection).await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_a_term_and_a_remedy() -> anyhow::Result<()> {
    let jobs = Jobs::after("select 1").await?;
    let place = jobs.place().to_string();
    let nobody = uuid::Uuid::nil().to_string();
    let cases: &[(&[&str], &str)] = &[
        (&["jobs", "add"], "location_missing: "),
        (&["jobs", "add", "--to", "/srv/exports"], "location_invalid: "),
        (&["jobs", "add", "--to", "file:///srv/../etc"], "location_invalid: "),
        (&["jobs", "add", "--to", "ftp://somewhere"], "location_invalid: "),
        (&["jobs", "add", "nonsense:1", "--to", &place], "nonsense"),
        (&["jobs", "add", "--to", &place, "--actor", "anonymous:"], "TYPE:ID"),
        (&["jobs", "add", "--to", &place, "--format", "ocsf", "--profile", "compat"], "export_options: "),
        (&["jobs", "add", "--to", &place, "--at", "tomorrow"], "2026-05-15"),
        (&["jobs", "add", "--to", &place, "--now", "--wait"], "cannot be used with"),
        (&["jobs", "show", &nobody], "job_missing: "),
        (&["jobs", "cancel", &nobody], "job_missing: "),
        (&["jobs", "retry", "1"], "invalid value '1'"),
        (&["jobs", "fetch", &nobody, "-o", "x"], "job_missing: "),
        (&["jobs", "work", "--allow", "s3://"], "location_invalid: "),
        (&["schedules", "add", "a", "--to", &place, "--every", "5s"], "schedule_invalid: "),
        (&["schedules", "add", "a", "--to", &place, "--every", "often"], "--every"),
    ];
    for (arguments, words) in cases {
        let ran = jobs.threadline(&[&["export"], *arguments].concat())?;
        assert_eq!((ran.status, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.error.contains(words), "{arguments:?}: {ran:?}");
    }
    for keep in ["1s", "36526days", "long"] {
        std::fs::write(jobs.path("audit.toml"), format!("[export]\nkeep = \"{keep}\"\n"))?;
        let ran = jobs.threadline(&["export", "jobs", "list"])?;
        assert!(ran.status == Some(2) && ran.error.contains("export.keep"), "{ran:?}");
    }
    std::fs::remove_file(jobs.path("audit.toml"))?;
    // What may be a secret is not repeated, wherever it stands.
    for location in ["s3://key:hunter2@bucket/a", "s3://bucket/a?secret=hunter2"] {
        for arguments in [
            &["jobs", "add", "--to", location][..],
            &["jobs", "work", "--allow", location],
            &["jobs", "clean", "--allow", location],
            &["schedules", "add", "a", "--every", "1d", "--to", location],
        ] {
            let ran = jobs.threadline(&[&["export"], arguments].concat())?;
            assert_eq!(ran.status, Some(2), "{ran:?}");
            assert!(
                ran.error.contains("location_credentials: ") && !ran.error.contains("hunter2"),
                "{ran:?}"
            );
        }
        std::fs::write(jobs.path("audit.toml"), format!("[export.storage]\nlocation = \"{location}\"\n"))?;
        let ran = jobs.threadline(&["export", "jobs", "list"])?;
        assert!(ran.status == Some(2) && !ran.error.contains("hunter2"), "{ran:?}");
        std::fs::remove_file(jobs.path("audit.toml"))?;
    }
    Ok(())
}
