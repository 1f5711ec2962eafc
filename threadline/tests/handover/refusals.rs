//! What cannot be exported, and is refused before anything is written.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Read, folder, tenants::TENANTS, threadline};

#[tokio::test]
async fn what_cannot_be_used_ends_with_status_2_a_term_and_a_remedy() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    fs::write(path.join("there.csv"), "something")?;
    for (arguments, words) in [
        (&["kind:event", "-o", "a.csv"][..], &["profile_kind: ", "--profile full"][..]),
        (&["kind:recorded", "-o", "a.csv", "--profile", "compat"], &["profile_kind: ", "--profile full"]),
        (&["-o", "a.csv", "--profile", "full", "--include-action-metadata"], &["export_options: "]),
        (&["-o", "a.json", "--spreadsheet-safe"], &["export_options: ", "--spreadsheet-safe"]),
        (&["-o", "a", "--format", "csv", "--json-format", "ndjson"], &["export_options: ", "--json-format"]),
        (&["-o", "a", "--format", "parquet"], &["csv, json or ndjson"]),
        (&["-o", "a", "--profile", "most"], &["compat, exact or full"]),
        (&["-o", "a", "--max-rows", "0"], &["--max-rows"]),
        (&["-o", "-", "--resume"], &["export_options: ", "-o"]),
        (&["-o", "-", "--json"], &["export_options: ", "-o"]),
        (&["-o", "a.csv", "--manifest", "m"], &["export_options: ", "--manifest"]),
        (&["-o", "there.csv"], &["file_exists: ", "--force"]),
        (&["-o", "."], &["file_exists: ", "folder"]),
        (&["-o", "nothing.csv", "--resume"], &["nothing_to_resume: ", "--resume"]),
        (&["-o", "there.csv", "--resume"], &["nothing_to_resume: ", "complete"]),
        (&["-o", "-", "--manifest", "there.csv"], &["file_exists: ", "manifest"]),
        (&["-o", "a.csv", "--actor", "anonymous:x"], &["actor_missing: ", "--actor"]),
        (&["op:upsert", "-o", "a.csv"], &["filter_value: "]),
        (&[], &["--output"]),
    ] {
        let ended = threadline(&read.database, &path, &[&["export", "run"], arguments].concat())?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(words.iter().all(|word| ended.error.contains(word)), "{arguments:?}: {ended:?}");
    }
    assert_eq!(fs::read_dir(&path)?.count(), 1);
    assert_eq!(fs::read_to_string(path.join("there.csv"))?, "something");
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_there_is_replaced_by_force_alone_and_as_a_whole() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    fs::write(path.join("a.csv"), "something")?;
    fs::write(path.join("a.csv.manifest.sig"), "of another one")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv", "--force"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(fs::read_to_string(path.join("a.csv"))?.lines().count(), 81);
    assert!(!path.join("a.csv.manifest.sig").exists());
    for name in ["a.csv", "a.csv.manifest.json"] {
        assert_eq!(fs::metadata(path.join(name))?.permissions().mode() & 0o777, 0o600, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "nowhere/a.csv"])?;
    assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.error.contains("cannot open nowhere/a.csv.partial: No such file"), "{ended:?}");
    // What is no folder cannot be written into, by root neither.
    fs::write(path.join("file"), "")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "file/a.csv"])?;
    assert!(ended.status == Some(1) && ended.error.contains("cannot open file/a.csv.partial"), "{ended:?}");
    Ok(())
}
