//! A purge that is killed while it archives and deletes: whatever is gone is in an archive, and the next one goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Stdio,
};

use serde_json::Value;
use threadline::retention::{self, RecordedArchive};

use super::{
    Host,
    archive::{entries, files},
    archive_faults::{Process, expire, forty, purging},
    commands::ended,
};

/// Runs a purge until it is held by a trigger at this event, and kills it there.
async fn killed_at(host: &mut Host, event: &str) -> anyhow::Result<()> {
    let held = host.hold(event).await?;
    let purge = purging(host, &["retention", "purge", "--execute", "--batch-size", "4", "--sleep", "0ms"])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut purge = Process(purge);
    host.until_held().await?;
    purge.0.kill()?;
    purge.0.wait()?;
    // Its session finds nobody to answer to, and is rolled back: what it has locked is free then.
    drop(held);
    expire(&mut host.connection).await
}

fn ids(entries: &[Value]) -> BTreeSet<String> {
    entries.iter().filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
}

/// That a row that is gone is in an archive that is recorded.
async fn nothing_is_lost(
    host: &mut Host,
    before: &BTreeMap<String, Value>,
) -> anyhow::Result<Vec<RecordedArchive>> {
    let left = host.rows("audit_changes").await?;
    let archives = host.archives().await?;
    let held = ids(&entries(&archives)?);
    let lost: Vec<&String> =
        before.keys().filter(|id| !left.contains_key(*id) && !held.contains(*id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    Ok(archives)
}

/// Where, how many rows are gone then, and how many archives are recorded.
const PLACES: [(&str, i64, usize); 4] = [
    ("before insert on threadline_archives for each row", 0, 0),
    ("before delete on audit_changes for each row", 0, 1),
    // The oldest go first: of the forty the last ten are held.
    (
        "before delete on audit_changes for each row when (old.captured_at > now() - interval '29.5 days')",
        28,
        1,
    ),
    ("before update of deleted_at on threadline_archives for each row", 40, 1),
];

#[tokio::test]
async fn wherever_a_purge_is_killed_what_it_deleted_is_archived_and_the_next_one_goes_on()
-> anyhow::Result<()> {
    for (event, gone, recorded) in PLACES {
        let mut host = forty().await?;
        let before = host.rows("audit_changes").await?;
        killed_at(&mut host, event).await?;
        let archives = nothing_is_lost(&mut host, &before).await?;
        assert_eq!(archives.len(), recorded, "{event}");
        assert!(archives.iter().all(|archive| archive.deleted_at.is_none()), "{event}");
        assert_eq!(40 - host.count("audit_changes").await?, gone, "{event}");
        let table = event.split_whitespace().skip_while(|word| *word != "on").nth(1).unwrap();
        host.run(&format!("drop trigger wait on {table}")).await?;
        let next = ended(purging(&host, &["retention", "purge", "--execute", "--json"])?)?;
        assert_eq!(next.status, Some(0), "{}", next.error);
        let purged: Value = serde_json::from_str(&next.out)?;
        assert_eq!(purged["deleted_changes"], 40 - gone, "{event}");
        assert_eq!(host.count("audit_changes").await?, 0);
        let archives = nothing_is_lost(&mut host, &before).await?;
        // One of the run that was killed, and one of what was left.
        let rows: Vec<(i64, bool)> =
            archives.iter().map(|archive| (archive.rows, archive.deleted_at.is_some())).collect();
        let expected = [(40, false), (40 - gone, true)];
        assert_eq!(rows, expected[..if gone == 40 { 1 } else { 2 }], "{event}");
        let locations: BTreeSet<&str> = archives.iter().map(|archive| &*archive.location).collect();
        assert_eq!(locations.len(), archives.len(), "no file counts twice");
        let names = files(&host.archives_in()?)?;
        assert_eq!(names.len(), 2 * archives.len(), "a file and its manifest: {names:?}");
        let states: Vec<String> = retention::runs(&mut host.connection, host.timeline.schema(), 5)
            .await?
            .into_iter()
            .map(|run| run.status)
            .collect();
        assert_eq!(states, ["completed", "failed"], "{event}");
        // And a third one has nothing left to do, or to record.
        let third = ended(purging(&host, &["retention", "purge", "--execute"])?)?;
        assert_eq!(
            (third.status, host.archives().await?.len()),
            (Some(0), archives.len()),
            "{}",
            third.error
        );
    }
    Ok(())
}

/// The last step of an export is that it gets its name.
#[tokio::test]
async fn an_archive_without_its_name_goes_and_one_that_does_not_hold_stays_and_counts_nowhere()
-> anyhow::Result<()> {
    for is_whole in [false, true] {
        let mut host = forty().await?;
        let before = host.rows("audit_changes").await?;
        killed_at(&mut host, PLACES[0].0).await?;
        let folder = host.archives_in()?;
        let run = fs::read_dir(&folder)?.next().unwrap()?.path();
        let path = run.join("0001-changes.ndjson");
        let mut left = Vec::new();
        if is_whole {
            let mut bytes = fs::read(&path)?;
            bytes[100] ^= 1;
            fs::write(&path, bytes)?;
            left.extend(["0001-changes.ndjson", "0001-changes.ndjson.manifest.json"]);
        } else {
            fs::rename(&path, run.join("0001-changes.ndjson.partial"))?;
        }
        host.run("drop trigger wait on threadline_archives").await?;
        let next = ended(purging(&host, &["retention", "purge", "--execute"])?)?;
        assert_eq!(next.status, Some(0), "{}", next.error);
        assert_eq!((host.archives().await?.len(), host.count("audit_changes").await?), (1, 0));
        nothing_is_lost(&mut host, &before).await?;
        let found = if run.exists() {
            let mut names = Vec::new();
            for file in fs::read_dir(&run)? {
                names.push(file?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            names
        } else {
            Vec::new()
        };
        assert_eq!(found, left);
    }
    Ok(())
}
