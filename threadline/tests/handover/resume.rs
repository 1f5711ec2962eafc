//! Exports that were killed, and are gone on with.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::wait;
use serde_json::Value;
use sqlx::Executor as _;

use super::{Ended, Read, command, folder, threadline};

/// Changes of which 16 MiB are a part of all, and actions between them. Their transactions have numbers that this cluster has not given
/// out, as after a restore; some actions have none.
const WIDE: &str = "insert into audit_actions (id, name, actor_ref, status, comment, inserted_at, txid)
    select md5('a' || n)::uuid, 'act', '{\"type\": \"system\", \"id\": \"s\"}', 'ok', repeat('some text ', 40), timestamptz '2026-03-01Z' + n * interval '1 second',
           case when n % 2 = 0 then 1000000 + n end
    from generate_series(1, 6000) n;
    insert into audit_transactions (id, txid, occurred_at, action_id)
    select md5('t' || n)::uuid, 1000000 + n, timestamptz '2026-03-01Z' + n * interval '1 second', case when n % 3 = 0 then md5('a' || n)::uuid end
    from generate_series(1, 6000) n;
    insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select md5('c' || n)::uuid, md5('t' || 1 + n / 10)::uuid, 'public', 'orders', jsonb_build_object('id', n::text), 'insert',
           jsonb_build_object('id', n, 'note', repeat('a text ', 90)), timestamptz '2026-03-01Z' + n * interval '100 milliseconds'
    from generate_series(1, 59989) n;
    analyze audit_transactions; analyze audit_changes; analyze audit_actions";

/// What is written meanwhile, at times all over those that are exported: by transactions that commit, and in one that began before.
const MEANWHILE: &str = "insert into audit_actions (name, actor_ref, status, inserted_at)
    select 'meanwhile', '{\"type\": \"system\", \"id\": \"s\"}', 'ok', timestamptz '2026-03-01Z' + n * interval '61 seconds' from generate_series(1, 98) n;
    with t as (insert into audit_transactions (txid, occurred_at) values (txid_current(), timestamptz '2026-03-01 00:10Z') returning id)
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select t.id, 'public', 'meanwhile', '{}', 'insert', '{}', timestamptz '2026-03-01Z' + n * interval '61 seconds' from t, generate_series(1, 98) n";

fn progress(path: &Path, name: &str) -> Option<Value> {
    serde_json::from_slice(&fs::read(path.join(format!("{name}.progress.json"))).ok()?).ok()
}

fn parts(progress: &Value) -> usize {
    progress["parts"].as_array().map_or(0, Vec::len)
}

/// Begins an export, and kills it once its progress says so.
fn killed(
    read: &Read,
    path: &Path,
    name: &str,
    more: &[&str],
    until: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    let arguments = [&["export", "run", "-o", name], more].concat();
    let mut running = command(&read.database, path, &arguments).stdout(Stdio::null()).spawn()?;
    let ready = wait::until("the export to be on its way", Duration::from_secs(120), || {
        progress(path, name).is_some_and(|progress| until(&progress))
    });
    running.kill()?;
    assert!(!running.wait()?.success(), "it was killed before its end");
    ready
}

fn resumed(read: &Read, path: &Path, name: &str, more: &[&str]) -> anyhow::Result<Ended> {
    threadline(&read.database, path, &[&["export", "run", "--resume", "-o", name], more].concat())
}

#[tokio::test]
async fn an_export_that_was_killed_goes_on_to_the_same_bytes_whatever_is_written_meanwhile()
-> anyhow::Result<()> {
    let mut read = Read::after(WIDE).await?;
    let (_folder, path) = folder()?;
    let forms = [
        ("exact.csv", &["--unrecorded"][..]),
        ("full.ndjson", &["--profile", "full", "--unrecorded"]),
        ("full.json", &["--profile", "full", "--unrecorded"]),
    ];
    for (name, more) in forms {
        let whole = format!("whole.{name}");
        let ended = threadline(&read.database, &path, &[&["export", "run", "-o", &whole], more].concat())?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    let mut late = read.database.connect().await?;
    late.execute("begin").await?;
    late.execute(MEANWHILE).await?;
    for (name, more) in forms {
        killed(&read, &path, name, more, |progress| parts(progress) == 1)?;
    }
    late.execute("commit").await?;
    read.connection.execute(MEANWHILE).await?;
    for (name, more) in forms {
        let began = progress(&path, name).unwrap();
        read.connection.execute(MEANWHILE).await?;
        let ended = resumed(&read, &path, name, more)?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let whole = fs::read_to_string(path.join(format!("whole.{name}")))?;
        let ours = fs::read_to_string(path.join(name))?;
        let manifest = |name: &str| -> anyhow::Result<Value> {
            Ok(serde_json::from_slice(&fs::read(path.join(format!("{name}.manifest.json")))?)?)
        };
        let (of_whole, of_ours) = (manifest(&format!("whole.{name}"))?, manifest(name)?);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let ours = ours.replace(&text(&of_ours["generated_at"]), &text(&of_whole["generated_at"]));
        assert!(whole == ours, "{name}: {} and {} bytes", whole.len(), ours.len());
        assert!(!whole.contains("meanwhile"));
        // The parts are cut at the same places.
        let ends = |manifest: &Value| -> Vec<Value> {
            manifest["parts"].as_array().unwrap().iter().map(|part| part["bytes"].clone()).collect()
        };
        assert_eq!(ends(&of_whole), ends(&of_ours), "{name}");
        assert!(ends(&of_whole).len() > 2, "{name}");
        assert_eq!(of_ours["resumed_at"].as_array().map(Vec::len), Some(1));
        assert_eq!(of_whole["resumed_at"], serde_json::json!([]));
        assert_eq!(of_ours["snapshot"], began["origin"]["snapshot"]);
        assert!(!path.join(format!("{name}.partial")).exists() && progress(&path, name).is_none());
        let verified =
            threadline(&read.database, &path, &["export", "verify", &format!("{name}.manifest.json")])?;
        assert_eq!(verified.status, Some(0), "{verified:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_exported_before_is_compared_before_an_export_goes_on() -> anyhow::Result<()> {
    let read = Read::after(WIDE).await?;
    let (_folder, path) = folder()?;
    killed(&read, &path, "some.csv", &[], |progress| parts(progress) == 1)?;
    for (more, term, words) in [
        (&["--profile", "compat"][..], "resume_differs", "--profile exact --format csv"),
        (&["table:orders"], "resume_differs", "no filter"),
        (&["--max-rows", "5"], "resume_differs", "--profile exact"),
    ] {
        let ended = resumed(&read, &path, "some.csv", more)?;
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.error.contains(term) && ended.error.contains(words), "{ended:?}");
    }
    let again = threadline(&read.database, &path, &["export", "run", "-o", "some.csv"])?;
    assert_eq!(again.status, Some(2), "{again:?}");
    assert!(again.error.contains("export_unfinished: ") && again.error.contains("--resume"), "{again:?}");
    let partial = OpenOptions::new().read(true).write(true).open(path.join("some.csv.partial"))?;
    let mut byte = [0];
    partial.read_exact_at(&mut byte, 5_000)?;
    partial.write_all_at(&[byte[0] ^ 1], 5_000)?;
    let ended = resumed(&read, &path, "some.csv", &[])?;
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.error.contains("resume_changed: part 1 of "), "{ended:?}");
    partial.write_all_at(&byte, 5_000)?;
    let length = partial.metadata()?.len();
    partial.set_len(5_000)?;
    let ended = resumed(&read, &path, "some.csv", &[])?;
    assert!(ended.status == Some(1) && ended.error.contains("resume_changed: part 1 of "), "{ended:?}");
    assert!(length > 16 << 20);
    // From the beginning it works whatever is there.
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "some.csv", "--force"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_export_that_was_killed_before_its_first_part_begins_again_from_its_snapshot() -> anyhow::Result<()>
{
    let mut read = Read::after(WIDE).await?;
    let (_folder, path) = folder()?;
    killed(&read, &path, "some.ndjson", &["--unrecorded"], |progress| parts(progress) == 0)?;
    read.connection.execute(MEANWHILE).await?;
    let ended = resumed(&read, &path, "some.ndjson", &["--unrecorded", "--json"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let summary: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(summary["rows"], 59_989);
    assert!(!fs::read_to_string(path.join("some.ndjson"))?.contains("meanwhile"));
    let ended = resumed(&read, &path, "some.ndjson", &[])?;
    assert!(ended.status == Some(2) && ended.error.contains("nothing_to_resume: "), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_export_that_is_interrupted_says_how_to_go_on() -> anyhow::Result<()> {
    let read = Read::after(WIDE).await?;
    let (_folder, path) = folder()?;
    let running = command(&read.database, &path, &["export", "run", "-o", "some.csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = || progress(&path, "some.csv").is_some();
    wait::until("the export to begin", Duration::from_secs(60), begun)?;
    kill(Pid::from_raw(i32::try_from(running.id())?), Signal::SIGINT)?;
    let ended = running.wait_with_output()?;
    let said = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: interrupted before the export was complete") && said.contains("--resume"),
        "{said}"
    );
    let ended = resumed(&read, &path, "some.csv", &[])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn two_do_not_export_to_the_same_file() -> anyhow::Result<()> {
    let read = Read::after(WIDE).await?;
    let (_folder, path) = folder()?;
    let mut running =
        command(&read.database, &path, &["export", "run", "-o", "some.csv"]).stdout(Stdio::null()).spawn()?;
    wait::until("the export to begin", Duration::from_secs(60), || progress(&path, "some.csv").is_some())?;
    let other = threadline(&read.database, &path, &["export", "run", "-o", "some.csv", "--force"])?;
    assert!(running.wait()?.success());
    assert!(other.status == Some(1) && other.error.contains("export_in_use: "), "{other:?}");
    Ok(())
}
