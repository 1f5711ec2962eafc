//! The command, as a person or a timer runs it.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use sandbox::fixture::{TestDatabase, shared};
use serde_json::Value;

use super::{DAY, host};

pub(super) const SETTINGS: &str = "[retention]\nenabled = true\nkeep_days = 10\n[retention.tables]\n\"billing.invoices\" = { keep = \"forever\" }\n";

/// How it ended, and what it printed.
pub(super) struct Ended {
    pub(super) status: Option<i32>,
    pub(super) out: String,
    pub(super) error: String,
}

/// `threadline` with these settings.
pub(super) fn command(
    database: &TestDatabase,
    settings: &str,
    arguments: &[&str],
) -> anyhow::Result<Command> {
    let file = shared().work_dir.path().join(format!("retention-{}.toml", database.name()));
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

/// `threadline retention purge`, which keeps ten days.
pub(super) fn purging(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Command> {
    command(database, SETTINGS, &[&["retention", "purge"], arguments].concat())
}

pub(super) fn ended(mut command: Command) -> anyhow::Result<Ended> {
    let ran = command.output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

/// That commands answer what the file says, one after another. `UPDATE_ANSWERS=1` writes the file; the difference is to be read then.
pub(super) fn assert_answers(
    database: &TestDatabase,
    file: &str,
    commands: &[&[&str]],
) -> anyhow::Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/retention/answers").join(file);
    let mut answers = String::new();
    for arguments in commands {
        let ended = ended(command(database, "", arguments)?)?;
        let _ = write!(answers, "$ threadline {}\n{}", arguments.join(" "), ended.out);
        answers = ended.error.lines().fold(answers, |answers, line| answers + "stderr: " + line + "\n");
        let _ = write!(answers, "status {}\n\n", ended.status.unwrap_or(-1));
    }
    // How a list goes on names the settings file, which has another name each time.
    let answers = answers.lines().map(|line| line.split(" --config ").next().unwrap_or_default());
    let answers = answers.collect::<Vec<_>>().join("\n") + "\n";
    if std::env::var_os("UPDATE_ANSWERS").is_some() {
        fs::create_dir_all(path.parent().unwrap())?;
        fs::write(&path, &answers)?;
    }
    assert_eq!(answers, fs::read_to_string(&path)?, "{}", path.display());
    Ok(())
}

#[tokio::test]
async fn a_purge_is_asked_for_and_says_what_it_did() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[
        (1, "public.posts", 20 * DAY),
        (1, "public.users", 20 * DAY),
        (2, "billing.invoices", 20 * DAY),
    ])
    .await?;
    let neither = ended(purging(&host.database, &[])?)?;
    assert_eq!((neither.status, neither.out.as_str()), (Some(2), ""));
    assert!(
        neither.error.starts_with("error: execute_missing: ")
            && neither.error.contains("--dry-run")
            && neither.error.contains("--execute"),
        "{}",
        neither.error
    );
    let both = ended(purging(&host.database, &["-d", "--execute"])?)?;
    assert_eq!(both.status, Some(2), "{}", both.error);
    let dry = ended(purging(&host.database, &["-d"])?)?;
    let expected = "would delete 2 changes, 1 transaction and 0 actions\n  public.posts: 1 change\n  public.users: 1 change\n";
    assert_eq!((dry.status, dry.out.as_str(), dry.error.as_str()), (Some(0), expected, ""));
    assert_eq!(host.count("audit_changes").await?, 3);
    let first = ended(purging(&host.database, &["--execute", "--batch-size", "1", "--max-batches", "1"])?)?;
    assert_eq!(first.status, Some(0), "{}", first.error);
    assert!(
        first.out.starts_with("deleted 1 change, 0 transactions and 0 actions in 1 batch and "),
        "{}",
        first.out
    );
    assert!(first.out.contains("there may be more"), "{}", first.out);
    let second = ended(purging(&host.database, &["--execute", "--json"])?)?;
    let said: Value = serde_json::from_str(&second.out)?;
    assert_eq!((&said["deleted_changes"], &said["deleted_transactions"]), (&1.into(), &1.into()));
    assert_eq!((&said["is_complete"], &said["dry_run"]), (&true.into(), &false.into()));
    assert_eq!(said["windows"]["tables"]["billing.invoices"], Value::Null);
    assert_eq!(host.count("audit_changes").await?, 1);
    Ok(())
}

#[tokio::test]
async fn runs_are_listed_the_newest_first() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let mut host = host().await?;
    let runs = |arguments: &[&str]| -> anyhow::Result<Ended> {
        ended(command(&host.database, "", &[&["retention", "runs"], arguments].concat())?)
    };
    assert_eq!(runs(&[])?.out, "nothing was purged yet\n");
    // A message is the library's, and a time may be anything.
    host.connection
        .execute(
            "insert into threadline_retention_runs (id, status, deleted_count, duration_ms, error_message, started_at, inserted_at, holder,
                 lease_until, deleted_changes, deleted_transactions, deleted_actions, windows) values
             ('d0000000-0000-4000-8000-000000000001', 'completed', 9, 1234, null, '2026-05-15 12:00:00Z', '2026-05-15 12:00:00Z', null, null,
                 null, null, null, null),
             ('d0000000-0000-4000-8000-000000000002', 'running', null, null, null, '2026-05-16 12:00:00Z', now(), 'process 7 on web-1', '2026-05-16 12:00:30Z',
                 500, 12, 0, '{\"default\": \"2026-01-01T00:00:00.000000Z\"}'),
             ('d0000000-0000-4000-8000-000000000003', 'failed', 0, null, E'odd:\\n\\x1b[2J', 'infinity', now(), null, null, null, null, null, '7')",
        )
        .await?;
    let listed = runs(&[])?;
    let lines: Vec<Vec<&str>> = listed.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["RUN", "TIME", "STATUS", "CHANGES", "TRANSACTIONS", "ACTIONS", "SECONDS", "WHY"]);
    assert!(lines[1].contains(&"failed") && listed.out.contains(r"odd:\u{a}\u{1b}…"), "{}", listed.out);
    assert_eq!(
        lines[2],
        ["d0000000-0000-4000-8000-000000000002", "2026-05-16T12:00:00Z", "interrupted", "500", "12", "0"]
    );
    assert_eq!(
        lines[3],
        [
            "d0000000-0000-4000-8000-000000000001",
            "2026-05-15T12:00:00Z",
            "completed",
            "9",
            "together",
            "1.234"
        ]
    );
    let json = runs(&["--json", "--limit", "2"])?;
    let documents: Vec<Value> = json.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(documents.len(), 2, "{}", json.out);
    assert_eq!(documents[0]["started_at"], "9999-12-31T23:59:59.999999Z");
    assert_eq!(documents[1]["windows"]["default"], "2026-01-01T00:00:00.000000Z");
    Ok(())
}

#[tokio::test]
async fn settings_and_arguments_that_cannot_be_used_end_with_status_2_and_a_term() -> anyhow::Result<()> {
    let host = host().await?;
    for (settings, arguments, term) in [
        ("", &["--execute"][..], "disabled: "),
        ("[retention]\nkeep_days = 10", &["--execute"], "disabled: "),
        ("[retention]\nkeep_days = 10", &["--dry-run"], "disabled: "),
        ("[retention]\nenabled = true", &["--execute"], "window_missing: "),
        ("[retention]\nkeep_days = 10\ncolour = 1", &["--execute"], "option_unknown: "),
        (SETTINGS, &["--execute", "--cutoff", "9999-01-01"], "cutoff: "),
        (SETTINGS, &["--execute", "--cutoff", "yesterday"], "--cutoff"),
        (SETTINGS, &["--execute", "--cutoff", "yesterday"], "or so long ago, such as 2h"),
        (SETTINGS, &["--execute", "--cutoff", "1h"], "cutoff: "),
        (SETTINGS, &["--execute", "--sleep", "soon"], "--sleep"),
        (SETTINGS, &["--execute", "--sleep", "1h"], "option_invalid: "),
        (SETTINGS, &["--execute", "--batch-size", "0"], "--batch-size"),
        (SETTINGS, &["--execute", "--max-batches", "0"], "--max-batches"),
        (SETTINGS, &["--execute", "--actor", "nobody"], "--actor"),
    ] {
        let arguments = [&["retention", "purge"], arguments].concat();
        let ended = ended(command(&host.database, settings, &arguments)?)?;
        assert_eq!(
            (ended.status, ended.out.as_str()),
            (Some(2), ""),
            "{settings} {arguments:?}: {}",
            ended.error
        );
        assert!(ended.error.contains(term), "{settings} {arguments:?}: {}", ended.error);
    }
    Ok(())
}

#[tokio::test]
async fn tables_of_an_older_version_are_told_from_a_server_that_is_away() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let mut host = host().await?;
    host.connection.execute("alter table threadline_retention_runs drop column holder").await?;
    let old = ended(purging(&host.database, &["--execute"])?)?;
    assert_eq!(old.status, Some(1));
    assert!(
        old.error.starts_with("error: timeline_incomplete: ") && old.error.contains("`threadline install`"),
        "{}",
        old.error
    );
    let away = TestDatabase { url: "postgres://nobody@127.0.0.1:1/nothing".to_owned() };
    let ended = ended(purging(&away, &["--execute"])?)?;
    assert_eq!(ended.status, Some(1));
    assert!(ended.error.contains("cannot connect to the timeline database"), "{}", ended.error);
    Ok(())
}
