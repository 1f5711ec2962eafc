//! `threadline doctor`, as a person or a script runs it.

use std::path::PathBuf;

use sandbox::fixture::empty_database;
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::Host;

/// The whole answer for a host of which nothing is wrong. `UPDATE_ANSWERS=1` writes the file; the difference is to be read then.
#[tokio::test]
async fn a_healthy_host_has_this_answer() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    let ended = host.threadline(&["doctor"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/doctor/healthy.txt");
    // Rows that nobody has vacuumed are the server's business.
    let is_of_the_server =
        |line: &&str| !line.contains("observability.vacuum") && !line.contains("observability.slots");
    let answer: String =
        ended.out.lines().filter(is_of_the_server).fold(String::new(), |text, line| text + line + "\n");
    if std::env::var_os("UPDATE_ANSWERS").is_some() {
        std::fs::write(&path, &answer)?;
    }
    assert_eq!(answer, std::fs::read_to_string(&path)?, "{}", path.display());
    Ok(())
}

#[tokio::test]
async fn the_exit_status_says_whether_something_failed_and_strict_is_stricter() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    for (arguments, status) in [(&["doctor"][..], 0), (&["doctor", "--strict"], 0)] {
        assert_eq!(host.threadline(arguments)?.status, Some(status), "{arguments:?}");
    }
    host.connection.execute("create table notes (id int primary key)").await?;
    for (arguments, status) in
        [(&["doctor"][..], 0), (&["doctor", "--strict"], 1), (&["doctor", "--strict", "--json"], 1)]
    {
        let ended = host.threadline(arguments)?;
        assert_eq!((ended.status, ended.error.as_str()), (Some(status), ""), "{arguments:?}");
    }
    host.connection.execute("alter table users disable trigger threadline_audit_users").await?;
    for arguments in [&["doctor"][..], &["doctor", "--json"]] {
        assert_eq!(host.threadline(arguments)?.status, Some(1), "{arguments:?}");
    }
    for (settings, arguments, said) in [
        ("[coverage]\nexpected = [\"a\", \"a\"]\n", &["doctor"][..], "table_twice: "),
        ("[coverage]\nexpected = []\n[coverage]\n", &["doctor"], "audit.toml, line 3, column 2: "),
        ("[capture.tables.\"a\"]\nmasks = []\n", &["doctor"], "option_unknown: "),
        ("", &["doctor", "extra"], "unexpected argument"),
    ] {
        settings.clone_into(&mut host.settings);
        let ended = host.threadline(arguments)?;
        assert_eq!(ended.status, Some(2), "{arguments:?}");
        assert!(ended.error.contains(said), "{arguments:?}: {}", ended.error);
    }
    Ok(())
}

#[tokio::test]
async fn programs_get_every_item_with_its_remedy_and_a_sum() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    host.connection
        .execute("alter table audit_transactions disable trigger audit_transactions_delete_changes")
        .await?;
    let ended = host.threadline(&["doctor", "--json"])?;
    let answer: Value = serde_json::from_str(&ended.out)?;
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), threadline::doctor::checks().count());
    let item = items.iter().find(|item| item["id"] == "capture.own_triggers").unwrap();
    assert_eq!(
        *item,
        json!({
            "id": "capture.own_triggers", "section": "capture", "state": "failed",
            "expectation": "The triggers of the timeline's own tables fire.",
            "seen": "do not fire: audit_transactions_delete_changes on public.audit_transactions",
            "remedy": [{"kind": "sql", "text": "alter table public.audit_transactions enable trigger audit_transactions_delete_changes"}]
        })
    );
    let sum: i64 = answer["summary"].as_object().unwrap().values().filter_map(Value::as_i64).sum();
    assert_eq!(usize::try_from(sum)?, items.len());
    assert_eq!(answer["summary"]["failed"], 1);
    Ok(())
}

#[tokio::test]
async fn without_a_timeline_the_doctor_says_so_and_nothing_else() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let connection = database.connect().await?;
    let host = Host { database, connection, settings: String::new() };
    let report = host.doctor()?;
    assert_eq!(report.state("capture.schema"), "failed");
    assert_eq!(report.count("failed"), &json!(1));
    assert_eq!(report.count("unknown"), &json!(threadline::doctor::checks().count() - 1));
    assert_eq!(host.threadline(&["doctor"])?.status, Some(1));
    Ok(())
}

#[tokio::test]
async fn a_timeline_that_the_pipeline_alone_writes_expects_no_table_to_be_captured() -> anyhow::Result<()> {
    let database = sandbox::fixture::timeline_database().await?;
    let connection = database.connect().await?;
    let mut host = Host { database, connection, settings: String::new() };
    assert_eq!(host.doctor()?.state("capture.tables"), "attention");
    let step = host.doctor()?.item("capture.tables")["remedy"][0].clone();
    assert_eq!(step["text"], "in [coverage]: expected = []");
    host.follow(&step).await?;
    let report = host.doctor()?;
    assert_eq!(report.state("capture.tables"), "ok");
    assert_eq!(report.item("capture.tables")["seen"], "none is captured, as the settings expect");
    Ok(())
}

#[tokio::test]
async fn capture_that_is_off_is_switched_on_and_not_generated_again() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    let off = ["capture", "off", "--tables", "public.users", "--actor", "admin:a1", "--reason", "load"];
    assert_eq!(host.threadline(&off)?.status, Some(0));
    let report = host.doctor()?;
    let on = "threadline capture on --tables public.users --actor TYPE:ID --reason TEXT";
    for id in ["capture.tables", "capture.off", "brownfield.readiness"] {
        assert_eq!(report.item(id)["remedy"], json!([{"kind": "command", "text": on}]), "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn names_that_would_act_on_a_terminal_are_made_harmless() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    host.connection.execute("create table \"a\u{1b}[2J\u{202e}\nforged\" (id int primary key)").await?;
    for form in [&["doctor"][..], &["doctor", "--json"]] {
        let ended = host.threadline(form)?;
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ended.out.chars().any(acts), "{:?}", ended.out);
        assert!(!ended.out.lines().any(|line| line.trim_start().starts_with("forged")), "{}", ended.out);
        assert!(ended.out.contains("forged"), "{}", ended.out);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_changed() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    let state = "select jsonb_build_object('changes', (select count(*) from audit_changes), 'actions', (select count(*) from audit_actions),
                    'evidence', (select count(*) from threadline_evidence_records))";
    let before: Value = sqlx::query_scalar(state).fetch_one(&mut host.connection).await?;
    host.doctor()?;
    let after: Value = sqlx::query_scalar(state).fetch_one(&mut host.connection).await?;
    assert_eq!(before, after);
    Ok(())
}
