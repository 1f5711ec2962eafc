//! What cannot be exported, and is refused before anything is written.

use std::{fs, os::unix::fs::PermissionsExt as _};

use threadline::{export::Options, query::Scope};

use super::{Read, exported, folder, tenants::TENANTS, threadline};

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
        (&["-o", "a", "--format", "orc"], &["csv, json, ndjson, ocsf or parquet"]),
        (&["-o", "a", "--profile", "most"], &["compat, exact or full"]),
        (&["-o", "a", "--max-rows", "0"], &["--max-rows"]),
        (&["-o", "-", "--resume"], &["export_options: ", "-o"]),
        (&["-o", "-", "--json"], &["export_options: ", "-o"]),
        (&["-o", "a.csv", "--manifest", "m"], &["export_options: ", "--manifest"]),
        (&["-o", "there.csv"], &["file_exists: ", "--force"]),
        (&["-o", "."], &["file_exists: ", "folder"]),
        (&["-o", "-", "--manifest", "nowhere/m"], &["folder_missing: ", "the folder nowhere is not there"]),
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
async fn a_table_that_is_not_there_is_exported_by_nobody_and_leaves_no_record() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    for (arguments, named) in [
        (&["table:psots", "-o", "a.csv"][..], "is public.posts meant?"),
        (&["--table", "psots", "-o", "-"], "is public.posts meant?"),
        (&["table:public.post", "--dry-run"], "is public.posts meant?"),
        (&["table:nothing", "-o", "a.csv"], "SCHEMA.TABLE"),
    ] {
        let ended = threadline(&read.database, &path, &[&["export", "run"], arguments].concat())?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {ended:?}");
        assert!(
            ended.error.starts_with("error: table_unknown: ") && ended.error.contains(named),
            "{ended:?}"
        );
    }
    assert_eq!(fs::read_dir(&path)?.count(), 0);
    let recorded = "select count(*) from audit_actions where name = 'audit.exported'";
    assert_eq!(sqlx::query_scalar::<_, i64>(recorded).fetch_one(&mut read.connection).await?, 0);
    // Whoever sees a part is told no name.
    let scoped = read.timeline.reader(Scope::of_context("tenant", "MINE"));
    let refused = exported(&scoped, "table:psots", Options::default()).await.unwrap_err();
    assert!(refused.term() == Some("table_unknown") && !refused.to_string().contains("posts"), "{refused}");
    // A table without a change is one.
    sqlx::query("create table psots (id int primary key)").execute(&mut read.connection).await?;
    let ended = threadline(&read.database, &path, &["export", "run", "table:psots", "-o", "a.csv"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
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
async fn what_stands_beside_an_export_is_not_taken_unasked() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let run = |more: &[&str]| {
        threadline(&read.database, &path, &[&["export", "run", "-o", "a.csv"], more].concat())
    };
    // A manifest or a signature whose export is gone is somebody's only proof of it.
    for name in ["a.csv.manifest.json", "a.csv.manifest.sig"] {
        fs::write(path.join(name), "proof")?;
        let ended = run(&[])?;
        assert!(ended.status == Some(2) && ended.error.contains("file_exists: "), "{ended:?}");
        assert!(ended.error.contains(name), "{ended:?}");
        assert_eq!(fs::read_to_string(path.join(name))?, "proof");
        fs::remove_file(path.join(name))?;
    }
    // One that was stopped before it said how far it is: what the one command says to do, the other one takes.
    fs::write(path.join("a.csv.partial"), "half")?;
    fs::set_permissions(path.join("a.csv.partial"), fs::Permissions::from_mode(0o666))?;
    for (more, term) in [(&[][..], "export_unfinished: "), (&["--resume"], "nothing_to_resume: ")] {
        let ended = run(more)?;
        assert!(ended.status == Some(2) && ended.error.contains(term), "{ended:?}");
        assert!(
            ended.error.contains("--force begins again") && !ended.error.contains("--resume goes"),
            "{ended:?}"
        );
    }
    let ended = run(&["--force"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(fs::metadata(path.join("a.csv"))?.permissions().mode() & 0o777, 0o600);
    // Links lead to what somebody else chose.
    fs::write(path.join("theirs"), "theirs")?;
    std::os::unix::fs::symlink("theirs", path.join("b.csv.partial"))?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "b.csv", "--force"])?;
    assert!(ended.status == Some(1) && ended.error.contains("symbolic link"), "{ended:?}");
    fs::remove_file(path.join("b.csv.partial"))?;
    std::os::unix::fs::symlink("theirs", path.join("b.csv.manifest.json.partial"))?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "b.csv", "--force"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(fs::read_to_string(path.join("theirs"))?, "theirs");
    // What is no file is neither waited for nor read without end.
    let fifo = path.join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status()?.success());
    for name in ["fifo", "/dev/zero"] {
        for arguments in
            [&["export", "verify", name][..], &["export", "verify", "a.csv.manifest.json", "--file", name]]
        {
            let ended = threadline(&read.database, &path, arguments)?;
            assert!(ended.status == Some(1) && ended.out.contains("no regular file"), "{ended:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "nowhere/a.csv"])?;
    assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.error.contains("folder_missing: the folder nowhere is not there: make it"), "{ended:?}");
    // What is no folder cannot be written into, by root neither.
    fs::write(path.join("file"), "")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "file/a.csv"])?;
    assert!(ended.status == Some(1) && ended.error.contains("cannot open file/a.csv.partial"), "{ended:?}");
    Ok(())
}
