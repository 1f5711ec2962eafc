//! `threadline evidence`, as a person or a script runs it.

use std::process::Command;

use sandbox::{fixture::TestDatabase, work_dir::WorkDir};
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{Recorded, ends};

/// How it ended, and what it printed.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

/// Runs the binary on the database, with these settings and no others.
pub(crate) fn threadline(
    database: &TestDatabase,
    settings: &str,
    arguments: &[&str],
) -> anyhow::Result<Ended> {
    let folder = WorkDir::create()?;
    std::fs::write(folder.path().join("audit.toml"), settings)?;
    let ran = Command::new(env!("CARGO_BIN_EXE_threadline"))
        .args(arguments)
        .current_dir(folder.path())
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG")
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

fn show(recorded: &Recorded, arguments: &[&str]) -> anyhow::Result<Ended> {
    threadline(&recorded.database, "", &[&["evidence", "show"], arguments].concat())
}

fn shown(recorded: &Recorded, arguments: &[&str]) -> anyhow::Result<Value> {
    let ended = show(recorded, &[arguments, &["--json"]].concat())?;
    assert_eq!(ended.status, Some(0), "{arguments:?}: {}", ended.error);
    Ok(serde_json::from_str(&ended.out)?)
}

#[tokio::test]
async fn show_prints_the_document_that_is_asked_for_and_never_fails_for_what_it_says() -> anyhow::Result<()> {
    let recorded = Recorded::by_the_library().await?;
    let coverage = ["--subject", "trigger_coverage"];
    let of = |more: &[&'static str]| -> Vec<&'static str> { [&coverage[..], more].concat() };
    for (arguments, mode, found) in [
        (vec![], "latest", &["05", "04", "03", "02"][..]),
        (vec!["--latest"], "latest", &["05", "04", "03", "02"]),
        (vec!["--history"], "history", &["05", "04", "03", "02", "01"]),
        (of(&[]), "latest", &["02"]),
        (of(&["--history"]), "history", &["02", "01"]),
        (of(&["--subject-ref-json", r#"{"schema": "public"}"#]), "latest", &["02"]),
        (of(&["--subject-ref-json", r#"{"schema":"x"}"#]), "latest", &[]),
        (vec!["--from", "2026-03-02T00:00:00Z", "--to", "2026-03-03T00:00:00Z"], "history", &["03", "02"]),
        (vec!["--from", "2026-03-04"], "history", &["05", "04"]),
        (vec!["--to", "2026-03-02"], "history", &["02", "01"]),
        (vec!["--history", "--limit", "2"], "history", &["05", "04"]),
    ] {
        let proof = shown(&recorded, &arguments)?;
        assert_eq!(
            (&proof["mode"], ends(&proof["records"])),
            (&json!(mode), found.iter().map(|one| (*one).to_owned()).collect()),
            "{arguments:?}"
        );
    }
    let strict = shown(&recorded, &[&coverage[..], &["--strict"]].concat())?;
    assert_eq!(strict["claim_assessment"]["status"], "inferred_posture");
    let limited = show(&recorded, &["--history", "--limit", "2"])?;
    assert!(limited.error.contains("there are more than these 2"), "{}", limited.error);
    Ok(())
}

#[tokio::test]
async fn people_see_the_verdict_first_and_then_the_records() -> anyhow::Result<()> {
    let recorded = Recorded::by_the_library().await?;
    let ended = show(&recorded, &["--subject", "trigger_coverage", "--history"])?;
    assert_eq!(
        ended.out,
        "proven (direct_fact); records: 2, subjects: 1\n\
         TIME                  SUBJECT           STATUS    CLAIM   MADE BY  WHO        REF               DETAIL\n\
         2026-03-02T00:00:00Z  trigger_coverage  degraded  proven  host     admin:a-9  schema: \"public\"  covered: 2\n\
         2026-03-01T00:00:00Z  trigger_coverage  ok        proven  host                schema: \"public\"  covered: 3, uncovered: …\n"
    );
    let nothing = show(&recorded, &["--subject", "retention_run"])?;
    assert_eq!(
        (nothing.status, nothing.out.as_str()),
        (Some(0), "unsupported (unsupported_claim): no_records; records: 0, subjects: 0\n")
    );
    let tabs = show(&recorded, &["--subject", "retention_policy", "--tsv"])?;
    let lines: Vec<Vec<&str>> = tabs.out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0][..2], ["id", "subject"]);
    assert_eq!(lines[1][10..], ["false", "proven", "checked"]);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_ends_with_status_2() -> anyhow::Result<()> {
    let recorded = Recorded::nothing().await?;
    let record = ["evidence", "record", "retention_run"];
    for (arguments, said) in [
        (&["evidence", "show", "--latest", "--history"][..], "cannot be used with"),
        (&["evidence", "show", "--latest", "--from", "2026-03-01"], "cannot be used with"),
        (&["evidence", "show", "--subject-ref-json", "{}"], "--subject"),
        (&["evidence", "show", "--subject", "foo"], "unsupported_subject: "),
        (&["evidence", "show", "--subject", "retention_run", "--subject-ref-json", "{"], "invalid_json: "),
        (
            &["evidence", "show", "--subject", "retention_run", "--subject-ref-json", "7"],
            "invalid_subject_ref: ",
        ),
        (&["evidence", "show", "--from", "yesterday"], "filter_value: "),
        (&["evidence", "show", "--to", "2026-13-01"], "filter_value: "),
        (&["evidence", "show", "--limit", "0"], "--limit"),
        (&["evidence", "show", "--limit", "10001"], "--limit"),
        (&["evidence", "show", "extra"], "unexpected argument"),
        (&["evidence", "show", "--json", "--tsv"], "cannot be used with"),
        (
            &["evidence", "record", "foo", "--subject-ref-json", "{}", "--status", "ok"],
            "unsupported_subject: ",
        ),
        (&[&record[..], &["--subject-ref-json", "x", "--status", "ok"]].concat(), "invalid_json: "),
        (&[&record[..], &["--subject-ref-json", "[]", "--status", "ok"]].concat(), "invalid_subject_ref: "),
        (&[&record[..], &["--subject-ref-json", "{}", "--status", " "]].concat(), "summary_status_blank: "),
        (
            &[&record[..], &["--subject-ref-json", "{}", "--status", "ok", "--detail-json", "1"]].concat(),
            "invalid_detail: ",
        ),
        (
            &[&record[..], &["--subject-ref-json", "{}", "--status", "ok", "--actor", "robot:1"]].concat(),
            "unknown_actor_type",
        ),
        (
            &[&record[..], &["--subject-ref-json", r#"{"a": "\u0000"}"#, "--status", "ok"]].concat(),
            "invalid_value: ",
        ),
        (&[&record[..], &["--status", "ok"]].concat(), "--subject-ref-json"),
    ] {
        let ended = threadline(&recorded.database, "", arguments)?;
        assert_eq!(ended.status, Some(2), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(said), "{arguments:?}: {}", ended.error);
    }
    assert!(recorded.evidence().list_overview(None).await?.records.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_host_without_the_library_records_on_the_command_line() -> anyhow::Result<()> {
    let recorded = Recorded::nothing().await?;
    let ended = threadline(
        &recorded.database,
        "",
        &[
            "evidence",
            "record",
            "export_delivery",
            "--subject-ref-json",
            r#"{"job": 12345678901234567890123}"#,
            "--status",
            "delivered",
            "--detail-json",
            r#"{"claim_assessment": {"status": "unsupported", "reason": "no_file"}}"#,
            "--actor",
            "admin:a1",
            "--json",
        ],
    )?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    assert!(ended.out.contains("12345678901234567890123"), "{}", ended.out);
    let stored: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(
        (&stored["actor_ref"], &stored["provenance"]["entrypoint"], &stored["machine_made"]),
        (&json!({"type": "admin", "id": "a1"}), &json!("record_export_delivery"), &json!(false))
    );
    let plain = threadline(
        &recorded.database,
        "",
        &["evidence", "record", "retention_run", "--subject-ref-json", "{}", "--status", "ok"],
    )?;
    assert!(plain.out.starts_with("recorded retention_run as "), "{}", plain.out);
    let proof = shown(&recorded, &[])?;
    assert_eq!(proof["summary"], json!({"record_count": 2, "subject_count": 2}));
    assert_eq!(proof["claim_assessment"]["reason"], "no_file");
    Ok(())
}

#[tokio::test]
async fn nothing_that_is_stored_acts_on_a_terminal_or_forges_a_line() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    recorded
        .connection
        .execute(
            r"insert into threadline_evidence_records (subject, subject_ref, summary_status, recorded_at, actor_ref, detail)
               select h, jsonb_build_object(h, h), h, '2026-01-01Z', jsonb_build_object('type', h, 'id', h),
                      jsonb_build_object('claim_assessment', jsonb_build_object('status', 'unsupported', 'reason', h), h, h)
               from (select E'a\x1b[2J\u009b2J\u202e\nforged\tb\u200b\r' as h) hostile",
        )
        .await?;
    let acts = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{200b}' | '\u{202e}');
    for form in [&[][..], &["--json"], &["--tsv"], &["--history"]] {
        let ended = show(&recorded, form)?;
        assert_eq!(ended.status, Some(0), "{}", ended.error);
        let is_tabs = form.contains(&"--tsv");
        let found: String = ended.out.chars().filter(|c| acts(*c) && !(is_tabs && *c == '\t')).collect();
        assert!(found.is_empty(), "{form:?}: {found:?}");
        assert!(!ended.out.lines().any(|line| line.starts_with("forged")), "{form:?}: {}", ended.out);
        assert!(ended.out.contains("forged"), "{form:?}: {}", ended.out);
    }
    Ok(())
}
