//! The pages of verification: coverage, policies, retention, evidence, receipts.

use std::time::Duration;

use operator::Policies;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    Action, ActorRef, ActorType, StorageSchema,
    capture::{Capture, HostTable, Migration, Policy, plan},
    continuity::disable_capture,
    coverage::Expectations,
    evidence::{Record, Subject},
    receipts,
    retention::{self, Keep, PurgeOptions},
};

use super::{Console, DEADLINE, console::Setup, hostile::FORBIDDEN};

const TABLES: &str = "create table posts (id text primary key, title text, secret text); create table plain (id int primary key);
    create table schema_migrations (version int primary key)";

impl Console {
    /// Has `posts` captured, as a host would.
    async fn capture(&mut self) -> anyhow::Result<()> {
        let table: HostTable = "posts".parse()?;
        let policy = Policy::read(&table, json!({"mask": ["secret"]}).as_object().unwrap())?;
        let captures = plan(&mut self.connection, &StorageSchema::default(), &[(table, policy)]).await?;
        let migration = Migration::new(&captures, 1, Capture::is_rerun);
        self.connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
        Ok(())
    }
}

#[tokio::test]
async fn coverage_says_which_tables_are_captured_and_what_to_do_about_the_others() -> anyhow::Result<()> {
    let mut console = Console::built(TABLES, |operator| operator.policies(Policies::default())).await?;
    console.capture().await?;
    console.connection.execute("insert into posts values ('1', 'a', 'hidden')").await?;
    console.as_staff("everything+coverage");
    let seen = console.json("/coverage").await?;
    let table = |name: &str| {
        seen["tables"].as_array().unwrap().iter().find(|row| row["table"] == name).unwrap().clone()
    };
    let posts = table("posts");
    assert_eq!((&posts["state"], &posts["policy"]), (&json!("captured"), &json!("config_matches_deployed")));
    assert!(posts["bytes"].as_i64().unwrap() > 0 && posts["last_change"].is_string(), "{posts}");
    let by_day = posts["changes_by_day"].as_array().unwrap();
    let changes = |days: &[Value]| days.iter().filter_map(Value::as_i64).sum::<i64>();
    // A day may end meanwhile.
    assert_eq!((by_day.len(), changes(by_day), changes(&by_day[12..])), (14, 1, 1), "{posts}");
    assert_eq!(table("plain")["state"], "needs_capture");
    assert_eq!(table("plain")["command"], "threadline gen-triggers --tables public.plain --apply");
    assert_eq!(table("schema_migrations")["source"], "baseline");
    assert_eq!(
        (&seen["ready"], &seen["captured"], &seen["needs_capture"]),
        (&json!(false), &json!(1), &json!(1))
    );
    let html = console.page("/coverage?schema=public").await?;
    for said in [
        "not ready",
        "needs capture",
        "threadline gen-triggers --tables public.plain --apply",
        "left out",
        "Looked at",
        "<svg class=\"spark\" role=\"img\" aria-label=\"Changes by day, up to 1,000 on each: 0 · 0",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    let (status, html) = console.answer("/coverage?schema=none").await?;
    assert!(status == StatusCode::BAD_REQUEST && html.contains("schema_unknown"), "{html}");
    Ok(())
}

#[tokio::test]
async fn coverage_that_cannot_be_read_again_is_shown_with_its_age() -> anyhow::Result<()> {
    let mut console = Console::after(TABLES).await?;
    console.as_staff("everything+coverage+policies");
    assert!(!console.page("/coverage").await?.contains("This is old"));
    console
        .connection
        .execute("alter table threadline_capture_policies rename column off to elsewhere")
        .await?;
    for path in ["/coverage?refresh=1", "/policy/redaction?refresh=1"] {
        sandbox::wait::until_some("old coverage", DEADLINE, async || {
            Ok(console.page(path).await?.contains("This is old").then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_checks_are_those_of_the_doctor_with_what_to_do() -> anyhow::Result<()> {
    let mut console = Console::after(TABLES).await?;
    console.capture().await?;
    console.as_staff("everything+coverage");
    let seen = console.json("/coverage/checks").await?;
    let items = seen["items"].as_array().unwrap();
    assert_eq!(items.len(), threadline::doctor::checks().count());
    let html = console.page("/coverage/checks").await?;
    for item in items.iter().filter(|item| item["state"] == "attention" || item["state"] == "failed") {
        for remedy in item["remedy"].as_array().unwrap().iter().filter(|remedy| remedy["kind"] == "command") {
            let command = remedy["text"].as_str().unwrap();
            assert!(
                html.contains(&*command.replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")),
                "{command}"
            );
        }
    }
    assert!(html.contains("capture and triggers") && html.contains("threadline doctor"), "{html}");
    Ok(())
}

#[tokio::test]
async fn the_roles_that_are_shipped_may_do_what_the_pages_do() -> anyhow::Result<()> {
    let mut console = Setup::after(TABLES).await?.reader("audit_reader").start().await?;
    let mut superuser = console.database.superuser().await?;
    sandbox::rights::grant_timeline(&mut superuser, &StorageSchema::default()).await?;
    console.capture().await?;
    let timeline = console.timeline().await?;
    timeline.record(Action::new("a.b", ActorRef::anonymous())).await?;
    receipts::seal(&timeline, None, |_| ()).await?;
    console.as_staff("everything+coverage+policies+evidence+export+verify");
    for path in
        ["/coverage", "/coverage/checks", "/policy/redaction", "/policy/retention", "/evidence", "/exports"]
    {
        console.page(path).await?;
    }
    let response = console.post("/evidence/verify", "form=1").await?;
    assert_eq!((response.status(), response.text().await?.contains(">holds<")), (StatusCode::OK, true));
    let id = console.queue("as=csv&profile=full").await?;
    console.work().await?;
    console.page(&format!("/exports/file/{id}")).await?;
    console.page("/exports/now?as=ndjson&profile=full").await?;
    let id = console.queue("as=csv").await?;
    let cancelled = console.post(&format!("/exports/cancel/{id}"), "form=1").await?;
    assert_eq!(cancelled.status(), StatusCode::SEE_OTHER);
    Ok(())
}

#[tokio::test]
async fn what_was_switched_off_and_by_whom_is_said() -> anyhow::Result<()> {
    let mut console = Console::after(TABLES).await?;
    console.capture().await?;
    let actor = ActorRef::new(ActorType::Admin, Some("a1"))?;
    let tables = ["posts".parse()?];
    let storage = StorageSchema::default();
    disable_capture(&mut console.connection, &storage, &tables, &actor, "a bulk load").await?;
    console.as_staff("everything+coverage");
    let html = console.page("/coverage").await?;
    assert!(html.contains("capture is off") && html.contains("a bulk load"), "{html}");
    // Whoever looks at it is whoever runs it.
    let command = "threadline capture on --tables public.posts --actor admin:everything --reason TEXT";
    assert!(html.contains(command), "{html}");
    // It holds words to be replaced.
    assert!(html.contains("with your own in place of TEXT"), "{html}");
    assert!(!html.contains("data-copy=\"threadline capture on"), "{html}");
    Ok(())
}

#[tokio::test]
async fn configured_policies_are_compared_with_deployed_ones() -> anyhow::Result<()> {
    let table: HostTable = "posts".parse()?;
    let configured = Policy::read(&table, json!({"mask": ["secret", "title"]}).as_object().unwrap())?;
    let expectations = Expectations {
        expected: vec![table.clone()],
        policies: [(table, configured)].into(),
        ..Expectations::default()
    };
    let mut console =
        Console::built(TABLES, |operator| operator.policies(Policies::new(expectations))).await?;
    console.capture().await?;
    console.connection.execute("insert into posts values ('1', 'a', 'topsecret')").await?;
    console.as_staff("everything+policies+coverage");
    let seen = console.json("/policy/redaction").await?;
    assert_eq!(seen["tables"][0]["status"], "drift_detected");
    assert_eq!(seen["tables"][0]["diff"]["mask_only_in_config"], json!(["title"]));
    let html = console.page("/policy/redaction?table=public.posts").await?;
    assert!(html.contains("drift") && html.contains("differs") && html.contains("[REDACTED]"), "{html}");
    assert!(!html.contains("topsecret"));
    assert!(console.page("/coverage").await?.contains("Expected, and not captured as they should be"));
    Ok(())
}

#[tokio::test]
async fn retention_shows_windows_runs_and_what_is_gone() -> anyhow::Result<()> {
    let policy = || -> anyhow::Result<retention::Policy> {
        Ok(retention::Policy::new(Keep::days(10)?)?.table("sessions".parse()?, Keep::days(3)?))
    };
    let host = Policies::default().retention(policy()?).purges_every(Duration::from_secs(3_600));
    let mut console = Console::built(
        "create table sessions (id int primary key);
         with t as (insert into audit_transactions (txid, occurred_at) values (1, now() - interval '20 days') returning id)
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
         select id, 'public', 'posts', '{\"id\": 1}', 'insert', '{}', now() - interval '20 days' from t",
        |operator| operator.policies(host),
    )
    .await?;
    console.as_staff("everything+policies");
    let html = console.page("/policy/retention").await?;
    assert!(html.contains("the timeline is whole") && html.contains("No runs"), "{html}");
    console.timeline().await?.purge(&policy()?, &PurgeOptions::default()).await?;
    let run: uuid::Uuid = sqlx::query_scalar(
        "insert into threadline_archives (id, run, what, cutoff, rows, bytes, location, sha256, manifest_sha256, snapshot)
         select md5('1')::uuid, id, 'changes', now(), 1, 2048, 'file:///a/b.ndjson', repeat('ab', 32), repeat('cd', 32), '1:1:'
         from threadline_retention_runs returning run",
    )
    .fetch_one(&mut console.connection)
    .await?;
    let seen = console.json("/policy/retention").await?;
    assert_eq!(seen["policy"]["tables"]["public.sessions"], "3d");
    assert_eq!(
        (&seen["runs"][0]["status"], &seen["runs"][0]["deleted_changes"]),
        (&json!("completed"), &json!(1))
    );
    assert!(
        seen["next_run_not_before"].is_string() && seen["horizon"]["changes"]["cutoff"].is_string(),
        "{seen}"
    );
    let html = console.page(&format!("/policy/retention?run={run}")).await?;
    for said in [
        "older than",
        "10d",
        "completed",
        "threadline retention purge",
        "file:///a/b.ndjson",
        "archives verify",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    assert!(!html.contains("method=\"post\" action=\"../policy"), "nothing is deleted here");
    // They do nothing as they stand.
    assert!(
        !html.contains("data-copy=\"threadline erase")
            && !html.contains("data-copy=\"threadline retention purge"),
        "{html}"
    );
    Ok(())
}

#[tokio::test]
async fn evidence_is_shown_by_subject_with_its_worth_and_history() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let timeline = console.timeline().await?;
    for status in ["ok", "degraded"] {
        let record = Record::new(Subject::TriggerCoverage, json!({"schema": "public"}), status);
        timeline.record_evidence(record).await?;
    }
    let unsupported = json!({"claim_assessment": {"status": "unsupported", "reason": "no_policy"}});
    let record = Record::new(Subject::RetentionPolicy, json!({"name": "default"}), "ok").detail(unsupported);
    timeline.record_evidence(record).await?;
    console.as_staff("everything+evidence");
    let html = console.page("/evidence").await?;
    assert!(html.contains("proven") && html.contains("unsupported") && html.contains("no policy"), "{html}");
    assert!(html.contains("Not sealed") && html.contains("threadline receipts bundle"), "{html}");
    assert_eq!(console.json("/evidence").await?["records"].as_array().unwrap().len(), 2);
    let history =
        console.json("/evidence?subject=trigger_coverage&ref=%7B%22schema%22%3A%22public%22%7D").await?;
    let said: Vec<&str> = history["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["record"]["summary_status"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["degraded", "ok"]);
    for path in ["/evidence?subject=weather", "/evidence?subject=retention_policy&ref=1"] {
        assert_eq!(console.answer(path).await?.0, StatusCode::BAD_REQUEST, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn receipts_are_verified_now_once_in_a_while_and_that_is_recorded() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let timeline = console.timeline().await?;
    for name in ["a.b", "a.c"] {
        timeline.record(Action::new(name, ActorRef::anonymous())).await?;
        receipts::seal(&timeline, None, |_| ()).await?;
    }
    console.as_staff("everything+evidence+verify");
    let html = console.page("/evidence").await?;
    assert!(html.contains("follows") && html.contains("action=\"./evidence/verify\""), "{html}");
    let response = console.post("/evidence/verify", "form=1").await?;
    let (status, html) = (response.status(), response.text().await?);
    assert!(
        status == StatusCode::OK && html.contains(">holds<") && html.contains("1 to 2"),
        "{status}: {html}"
    );
    let act = html.split("../actions/").nth(1).unwrap()[..36].to_owned();
    assert_eq!(console.json(&format!("/actions/{act}")).await?["name"], "audit.verification_requested");
    let again = console.post("/evidence/verify", "form=1").await?;
    assert_eq!(again.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(again.text().await?.contains("too_soon"));
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_changed_after_it_was_sealed_is_found() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let timeline = console.timeline().await?;
    timeline.record(Action::new("a.b", ActorRef::anonymous())).await?;
    receipts::seal(&timeline, None, |_| ()).await?;
    console.connection.execute("update audit_actions set name = 'a.x'").await?;
    console.as_staff("everything+evidence+verify");
    let html = console.post("/evidence/verify", "form=1").await?.text().await?;
    assert!(html.contains("does not hold") && html.contains("row changed"), "{html}");
    Ok(())
}

#[tokio::test]
async fn what_is_about_everything_is_closed_for_a_limited_scope() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("MINE+coverage+policies+evidence+verify");
    for path in [
        "/coverage",
        "/coverage/checks",
        "/policy/redaction",
        "/policy/retention",
        "/evidence",
        "/exports",
        "/exports/now",
    ] {
        let (status, text) = console.answer(path).await?;
        assert!(status == StatusCode::FORBIDDEN && text.contains("capability_missing"), "{path}: {status}");
    }
    let response = console.post("/evidence/verify", "form=1").await?;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let html = console.page("/").await?;
    for link in ["coverage", "policy/", "evidence", "exports"] {
        assert!(!html.contains(&format!("href=\"./{link}")), "{link}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_of_these_pages_breaks_out_of_them() -> anyhow::Result<()> {
    const HOSTILE: &str = r#"
        create function pg_temp.hostile(n int) returns text language sql as $$
            select (array['<script>alert(1)</script><img src=x onerror=alert(1)>', '" onmouseover="alert(1)', E'\u001b[2J\u0007',
                          U&'\202Ereversed\200B', repeat('x', 1000000)])[1 + n % 5] $$;
        create table "<script>alert(1)</script>" (id int primary key);
        create schema "<img src=x onerror=alert(1)>";
        create table "<img src=x onerror=alert(1)>"."' onerror='x" (id int primary key);
        insert into threadline_evidence_records (id, subject, subject_ref, summary_status, recorded_at, actor_ref, provenance, detail, schema_version)
        select gen_random_uuid(), (array['trigger_coverage', 'retention_run'])[1 + n % 2], jsonb_build_object('n', left(h, 200)), left(h, 200), now(),
               jsonb_build_object('type', 'user', 'id', h), jsonb_build_object('writer', h),
               jsonb_build_object('claim_assessment', jsonb_build_object('status', 'unsupported', 'reason', h), 'h', h), 1
        from generate_series(0, 4) n, lateral (select pg_temp.hostile(n) h) h;
        insert into threadline_retention_runs (id, status, started_at, error_message)
        select gen_random_uuid(), 'failed', now(), h from generate_series(0, 4) n, lateral (select pg_temp.hostile(n) h) h;
        insert into threadline_archives (id, run, what, table_schema, table_name, cutoff, rows, bytes, location, sha256, manifest_sha256, snapshot)
        select gen_random_uuid(), (select id from threadline_retention_runs limit 1), 'changes', left(h, 60), left(h, 60), now(), 1, 1, h, left(h, 64), left(h, 64), '1:1:'
        from generate_series(0, 4) n, lateral (select pg_temp.hostile(n) h) h;"#;
    let mut console = Console::after("").await?;
    console.connection.execute(HOSTILE).await?;
    console.as_staff("everything+coverage+policies+evidence+export+verify");
    let id = console.queue("q=text%3A%22%3Cscript%3E%22&as=csv").await?;
    sqlx::query("update threadline_export_jobs set status = 'failed', error_message = '<script>alert(1)</script>' || repeat('y', 100000) where id = $1")
        .bind(id)
        .execute(&mut console.connection)
        .await?;
    let run: uuid::Uuid = sqlx::query_scalar("select run from threadline_archives limit 1")
        .fetch_one(&mut console.connection)
        .await?;
    for path in [
        "/coverage".to_owned(),
        "/coverage/checks".to_owned(),
        "/policy/redaction".to_owned(),
        format!("/policy/retention?run={run}"),
        "/evidence".to_owned(),
        "/evidence?subject=retention_run".to_owned(),
        "/exports?text=%3Cscript%3E".to_owned(),
    ] {
        let html = console.page(&path).await?;
        for forbidden in FORBIDDEN {
            assert!(!html.contains(forbidden), "{path} has {forbidden:?}");
        }
        assert!(html.len() < 3_000_000, "{path}: {} bytes", html.len());
    }
    Ok(())
}

#[tokio::test]
async fn a_surface_that_was_told_nothing_calls_nothing_as_it_should_be() -> anyhow::Result<()> {
    let mut console = Console::after(TABLES).await?;
    console.capture().await?;
    console.as_staff("everything+coverage+policies");
    let seen = console.json("/coverage").await?;
    assert_eq!((&seen["configured"], &seen["ready"]), (&json!(false), &Value::Null), "{seen}");
    let html = console.page("/coverage").await?;
    assert!(html.contains("was not told what is expected") && !html.contains(">ready<"), "{html}");
    for path in ["/coverage", "/policy/redaction"] {
        let html = console.page(path).await?;
        assert!(html.contains("deployed, nothing to compare with"), "{path}: {html}");
        assert!(!html.contains("as it should be"), "{path}: {html}");
    }
    let checks = console.json("/coverage/checks").await?;
    let items = checks["items"].as_array().unwrap();
    for id in
        ["capture.tables", "capture.undecided", "redaction.drift", "retention.tables", "brownfield.readiness"]
    {
        let item = items.iter().find(|item| item["id"] == id).unwrap();
        assert_eq!(item["state"], "unknown", "{item}");
        assert!(item["seen"].as_str().unwrap().contains("was not told"), "{item}");
    }
    assert!(!console.page("/coverage/checks").await?.contains("the settings expect"));
    Ok(())
}
