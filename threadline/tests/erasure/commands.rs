//! The command, as a person runs it.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use sandbox::{
    fixture::{TestDatabase, shared},
    wait,
};
use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::retention::{Keep, Policy, PurgeOptions};

use super::host;

const SETTINGS: &str = "[erasure]\nactor = \"user\"\n[erasure.tables]\n\"public.users\" = { subject = \"id\", columns = [\"email\", \"name\"] }\n";

/// `threadline` with these settings.
pub(super) fn command(
    database: &TestDatabase,
    settings: &str,
    arguments: &[&str],
) -> anyhow::Result<Command> {
    let file = shared().work_dir.path().join(format!("erasure-{}.toml", database.name()));
    fs::write(&file, settings)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
    command
        .args(arguments)
        .arg("--config")
        .arg(file)
        .current_dir(std::env::temp_dir())
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG");
    Ok(command)
}

/// How it ended, and what it printed.
fn ended(database: &TestDatabase, arguments: &[&str], input: &str) -> anyhow::Result<(i32, String, String)> {
    let mut command = command(database, SETTINGS, arguments)?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().unwrap().write_all(input.as_bytes())?;
    let ran = child.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((ran.status.code().unwrap_or(-1), text(&ran.stdout), text(&ran.stderr)))
}

#[tokio::test]
async fn an_erasure_is_asked_for_and_says_what_it_did() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.as_actor(
        &json!({"type": "user", "id": "7712"}),
        &json!({}),
        "insert into users values (7712, 'jane-marker@x', 'Jane', 3)",
    )
    .await?;
    let database = host.database.clone();
    let (status, out, error) = ended(&database, &["erase", "person", "7712"], "")?;
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(error.starts_with("error: execute_missing: "), "{error}");
    let (status, _, error) = ended(&database, &["erase", "person", "7712", "--execute"], "")?;
    assert_eq!(status, 2);
    assert!(error.starts_with("error: reason_missing: "), "{error}");
    let (status, out, error) = ended(&database, &["erase", "person", "--subject-file", "-", "-d"], "7712\n")?;
    let expected = "would erase 3 values of 2 rows\n  audit_transactions.actor_ref: 1 value\n  public.users.email: 1 value\n  public.users.name: 1 value\n";
    assert_eq!((status, out.as_str(), error.as_str()), (0, expected, ""));
    assert_eq!(ended(&database, &["erase", "runs"], "")?.1, "nothing was erased yet\n");
    let execute = [
        "erase",
        "person",
        "--subject-file",
        "-",
        "--execute",
        "--reason",
        "request R-98765",
        "--actor",
        "admin:a1",
        "--json",
    ];
    let (status, out, error) = ended(&database, &execute, "7712")?;
    assert_eq!((status, error.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&out)?;
    assert_eq!(said["values"]["public.users"], json!({"email": 1, "name": 1}));
    assert_eq!((&said["dry_run"], &said["is_complete"]), (&false.into(), &true.into()));
    let (_, out, _) = ended(&database, &["erase", "runs", "--json"], "")?;
    let run: Value = serde_json::from_str(&out)?;
    assert_eq!(
        (&run["id"], &run["status"], &run["kind"]),
        (&said["run"], &"completed".into(), &"person".into())
    );
    assert_eq!((&run["reason"], &run["actor_ref"]["id"]), (&"request R-98765".into(), &"a1".into()));
    assert!(run.get("salt").is_none() && run.get("subject_hash").is_none(), "{run}");
    assert!(ended(&database, &["erase", "runs"], "")?.1.contains("request R-98765"));
    // The action that stands for it, and evidence.
    let action = host.texts("select row(actor_ref, status, verb, category, reason, comment)::text from audit_actions where name = 'audit.erased'").await?;
    assert_eq!(action.len(), 1);
    assert!(action[0].contains("a1") && action[0].contains("erase,audit,\"request R-98765\""), "{action:?}");
    let evidence = "threadline_evidence_records where subject = 'retention_run' and provenance ->> 'entrypoint' = 'erase'";
    assert_eq!(host.count(evidence).await?, 1);
    for text in ["jane-marker", "Jane"] {
        assert!(host.tables_with(text).await?.is_empty(), "{text}");
    }
    // The key of the row stays, and nothing else says the id.
    assert_eq!(host.tables_with("\"7712\"").await?, ["audit_changes"]);
    Ok(())
}

#[tokio::test]
async fn a_subject_that_cannot_be_read_is_not_repeated() -> anyhow::Result<()> {
    let host = host().await?;
    for (arguments, input, term) in [
        (&["erase", "actor", "--subject-file", "-", "-d"][..], "jane-marker", "subject_invalid"),
        (
            &["erase", "row", "users", "--subject-file", "-", "-d"],
            "{\"jane-marker\": [7]}",
            "subject_invalid",
        ),
        (&["erase", "row", "users", "--subject-file", "-", "-d"], "{\"jane-marker\": 7}", "key_mismatch"),
        (&["erase", "person", "--subject-file", "-", "-d"], "", "subject_invalid"),
    ] {
        let (status, out, error) = ended(&host.database, arguments, input)?;
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {error}");
        assert!(error.starts_with(&format!("error: {term}: ")) && !error.contains("jane-marker"), "{error}");
    }
    // A longer one would be another subject, which begins alike.
    let longest = "a".repeat(64 << 10);
    for (more, expected) in [("", 0), ("\r\n", 0), ("a", 2), ("aa\n", 2), ("\n\nb", 2)] {
        let arguments = ["erase", "row", "users", "--subject-file", "-", "-d"];
        let (status, _, error) = ended(&host.database, &arguments, &format!("{longest}{more}"))?;
        assert_eq!(status, expected, "{more:?}: {error}");
        assert!(status == 0 || error.starts_with("error: subject_invalid: "), "{error}");
    }
    let missing = ended(&host.database, &["erase", "person", "--subject-file", "/nowhere", "-d"], "")?;
    assert_eq!(missing.0, 2, "{}", missing.2);
    assert_eq!(ended(&host.database, &["erase", "person", "-d"], "")?.0, 2);
    Ok(())
}

#[tokio::test]
async fn a_purge_that_is_on_is_said_since_its_archive_may_hold_the_values() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (1, 'marker@x', 'marker', 0), (2, 'b@x', 'B', 0)").await?;
    host.run("update audit_changes set captured_at = now() - interval '30 days'").await?;
    let mut other = host.database.connect().await?;
    // A row that is locked would be passed over.
    other.execute("begin; lock table audit_transactions in share mode").await?;
    let timeline = host.timeline.clone();
    let purges = tokio::spawn(async move {
        timeline.purge(&Policy::new(Keep::days(10)?)?, &PurgeOptions::default()).await
    });
    wait::until_some("the purge has begun, which cannot end", Duration::from_secs(60), async || {
        let leases = host.count("threadline_leases where name = 'retention'").await?;
        Ok((leases > 0).then_some(()))
    })
    .await?;
    let line = "a purge is on, or was interrupted: ";
    let (status, out, error) = ended(&host.database, &["erase", "row", "users", "3", "--dry-run"], "")?;
    assert_eq!(status, 0, "{error}");
    assert!(out.contains(line), "{out}");
    assert_eq!(host.erase(&super::row("users", 3)).await?.purges, Some(1));
    other.execute("rollback").await?;
    assert_eq!(purges.await??.deleted_changes, 2);
    assert_eq!(host.erase(&super::row("users", 3)).await?.purges, Some(0));
    let (_, out, _) = ended(&host.database, &["erase", "row", "users", "3", "--dry-run"], "")?;
    assert!(!out.contains(line), "{out}");
    Ok(())
}
