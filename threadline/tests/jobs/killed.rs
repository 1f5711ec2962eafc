//! Workers that are killed in the middle of a long export.

use std::{fs, path::Path};

use sandbox::{process::Process, wait};
use serde_json::Value;
use threadline::export::jobs::Outcome;
use uuid::Uuid;

use super::{DEADLINE, Jobs, names, work};

/// Changes of which 16 MiB are a part of all.
const WIDE: &str = "insert into audit_transactions (id, txid, occurred_at)
    select md5('t' || n)::uuid, 1000000 + n, timestamptz '2026-03-01Z' + n * interval '1 second' from generate_series(1, 6000) n;
    insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select md5('c' || n)::uuid, md5('t' || 1 + n / 10)::uuid, 'public', 'orders', jsonb_build_object('id', n::text), 'insert',
           jsonb_build_object('id', n, 'note', repeat('a text ', 90)), timestamptz '2026-03-01Z' + n * interval '100 milliseconds'
    from generate_series(1, 59989) n;
    analyze audit_transactions; analyze audit_changes";

fn parts(folder: &Path, id: Uuid) -> Option<usize> {
    let progress = fs::read(folder.join(format!("{id}.ndjson.progress.json"))).ok()?;
    let progress: Value = serde_json::from_slice(&progress).ok()?;
    Some(progress["parts"].as_array()?.len())
}

/// A worker that was killed when a part of the export was complete.
async fn killed(jobs: &Jobs, id: Uuid) -> anyhow::Result<()> {
    let place = jobs.place().to_string();
    let mut running = Process::start(
        &jobs.folder,
        &format!("worker-{id}"),
        "threadline",
        &["export", "jobs", "work", "--directory", "made", "--allow", &place],
        &[("THREADLINE_DATABASE_URL", &jobs.database.url)],
    )?;
    wait::until("the first part", DEADLINE, || parts(&jobs.path("made"), id) >= Some(1))?;
    running.kill()?;
    assert_eq!(jobs.job(id).await?.status, "running", "nobody knows yet");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_was_killed_is_followed_by_another_one_which_goes_on_or_begins_again()
-> anyhow::Result<()> {
    let mut jobs = Jobs::after(WIDE).await?;
    // In the same folder, and on another machine.
    for (folder, goes_on) in [("made", true), ("elsewhere", false)] {
        let id = jobs.add("table:orders").await?;
        killed(&jobs, id).await?;
        assert!(!jobs.path("stored").join(id.to_string()).exists(), "nothing of it is to be seen");
        let worker = jobs.worker(folder);
        assert_eq!(work(&worker).await?, [], "its lease lasts");
        jobs.time_passes().await?;
        let ended = work(&worker).await?;
        assert!(matches!(ended[0].outcome, Outcome::Completed { rows: 59_989, .. }), "{ended:?}");
        let ours: Vec<_> =
            jobs.stored()?.into_iter().filter(|name| name.starts_with(&id.to_string())).collect();
        assert_eq!(ours, names(id, 2));
        let manifest = fs::read(jobs.path("stored").join(&names(id, 2)[1]))?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        assert_eq!(manifest["resumed_at"].as_array().map(Vec::len), Some(usize::from(goes_on)));
        let output = format!("{id}.fetched");
        let ran = jobs.threadline(&["export", "jobs", "fetch", &id.to_string(), "-o", &output])?;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let run = format!("{id}.run.ndjson");
        let arguments = ["export", "run", "table:orders", "--profile", "full", "--unrecorded", "-o", &run];
        let ran = jobs.threadline(&arguments)?;
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert!(fs::read(jobs.path(&output))? == fs::read(jobs.path(&run))?, "{folder}: the bytes differ");
    }
    assert_eq!(jobs.count("audit_actions where name = 'audit.exported'").await?, 2);
    // What the first machine has left goes when its worker cleans up.
    assert!(!super::files(&jobs.path("made"))?.is_empty());
    jobs.worker("made").clean().await?;
    assert_eq!(super::files(&jobs.path("made"))?, Vec::<String>::new());
    Ok(())
}
