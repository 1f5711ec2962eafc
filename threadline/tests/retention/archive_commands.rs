//! The commands, as a person runs them.

use std::fs;

use serde_json::Value;

use super::{
    DAY, Host,
    commands::{Ended, SETTINGS, command, ended},
    host,
};

fn run(host: &Host, arguments: &[&str]) -> anyhow::Result<Ended> {
    let settings = format!(
        "{SETTINGS}[retention.archive]\ndirectory = \"{}\"\nformat = \"ndjson\"\n",
        host.archives_in()?.display()
    );
    ended(command(&host.database, &settings, arguments)?)
}

#[tokio::test]
async fn archives_are_announced_listed_and_verified() -> anyhow::Result<()> {
    let mut host = host().await?;
    let folder = host.archives_in()?;
    assert_eq!(run(&host, &["retention", "archives"])?.out, "nothing was archived yet\n");
    host.record(&[
        (1, "public.posts", 20 * DAY),
        (2, "public.posts", 30 * DAY),
        (3, "billing.invoices", 30 * DAY),
    ])
    .await?;
    let dry = run(&host, &["retention", "purge", "--dry-run"])?;
    let announced = format!("before that it would be archived in file://{}/RUN\n", folder.display());
    assert!(dry.out.contains(&announced), "{}", dry.out);
    assert_eq!((fs::read_dir(&folder)?.count(), host.count("audit_changes").await?), (0, 3));
    let purged = run(&host, &["retention", "purge", "--execute"])?;
    assert_eq!(purged.status, Some(0), "{}", purged.error);
    assert!(purged.out.contains("archived before: 2 rows, "), "{}", purged.out);
    let listed = run(&host, &["retention", "archives", "--json"])?;
    let archive: Value = serde_json::from_str(&listed.out)?;
    let (name, id) = (archive["table_name"].as_str(), archive["run"].as_str().unwrap().to_owned());
    assert_eq!((name, &archive["rows"], archive["deleted_at"].is_string()), (Some("posts"), &2.into(), true));
    let location = archive["location"].as_str().unwrap();
    assert!(location.ends_with(&format!("{id}/0001-changes-public.posts.ndjson")), "{location}");
    let listed = run(&host, &["retention", "archives"])?.out;
    assert!(listed.contains(&id) && listed.contains("changes of public."), "{listed}");
    let runs = run(&host, &["retention", "runs"])?.out;
    assert!(
        runs.contains(&format!("archived by {id}: 2 rows in 1 files in file://{}/{id}\n", folder.display())),
        "{runs}"
    );
    let timeline = run(&host, &["timeline"])?;
    assert!(
        timeline.error.contains(&format!(": archived in file://{}/{id}", folder.display())),
        "{}",
        timeline.error
    );
    for arguments in [["verify", "--all"], ["verify", &id]] {
        let verified = run(&host, &[&["retention", "archives"], &arguments[..]].concat())?;
        assert_eq!(
            (verified.status, verified.out.as_str()),
            (Some(0), &*format!("ok: {location}, 2 rows\n"))
        );
    }
    let path = location.trim_start_matches("file://");
    let intact = fs::read(path)?;
    let mut changed = intact.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(path, changed)?;
    let found = run(&host, &["retention", "archives", "verify", "--all"])?;
    assert_eq!(found.status, Some(1));
    assert!(found.out.contains("digest: file://"), "{}", found.out);
    fs::write(path, intact)?;
    // A manifest that somebody has made again holds by itself, and is not the one that was recorded.
    let manifest = format!("{path}.manifest.json");
    let text = fs::read_to_string(&manifest)?;
    let remade = text.replace("\"recorded\":false", "\"recorded\":true");
    assert_ne!(remade, text);
    fs::write(&manifest, remade)?;
    let found = run(&host, &["retention", "archives", "verify", "--all", "--json"])?;
    assert_eq!(found.status, Some(1));
    let found: Value = serde_json::from_str(&found.out)?;
    assert_eq!(found["faults"][0]["term"], "recorded", "{found}");
    fs::remove_file(&manifest)?;
    let found = run(&host, &["retention", "archives", "verify", &id])?;
    assert!(found.status == Some(1) && found.out.starts_with("manifest: "), "{}", found.out);
    let none = run(&host, &["retention", "archives", "verify", "00000000-0000-4000-8000-000000000000"])?;
    assert!(none.status == Some(1) && none.error.contains("has archived nothing"), "{}", none.error);
    Ok(())
}

#[tokio::test]
async fn settings_that_would_not_archive_everything_are_refused() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    for (section, said) in [
        ("directory = \"/tmp\"\nformat = \"csv\"", "archive_format: "),
        ("directory = \"tmp\"", "archive_directory: "),
        ("directory = \"/tmp\"\nkey = \"/nowhere.pem\"", "archive_key: "),
        ("directory = \"/tmp\"\nskip = true", "option_unknown: "),
    ] {
        let settings = format!("{SETTINGS}[retention.archive]\n{section}\n");
        let refused = ended(command(&host.database, &settings, &["retention", "purge", "--execute"])?)?;
        assert_eq!(refused.status, Some(2), "{}", refused.error);
        assert!(refused.error.contains(said), "{}", refused.error);
    }
    assert_eq!(host.count("audit_changes").await?, 1);
    Ok(())
}
