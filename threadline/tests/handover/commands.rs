//! `threadline export run` as a person or a script runs it: what is written, said and recorded.

use std::{fs, path::Path};

use sandbox::rights::as_superuser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::evidence::PRODUCT;

use super::{
    Read, command, folder,
    tenants::TENANTS,
    threadline,
    verify::{KEY, PUBLIC_HEX},
};

fn lines(path: &Path) -> anyhow::Result<usize> {
    Ok(fs::read_to_string(path)?.lines().count())
}

#[tokio::test]
async fn an_export_ends_with_a_summary_for_people_or_for_programs() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""), "{ended:?}");
    let manifest: Value = serde_json::from_slice(&fs::read(path.join("a.csv.manifest.json"))?)?;
    let said: Vec<&str> = ended.out.lines().collect();
    assert!(said[0].starts_with("exported 80 rows, "), "{ended:?}");
    assert_eq!(said[1..3], ["file       a.csv", "manifest   a.csv.manifest.json"]);
    assert_eq!(said[3], format!("sha256     {}", manifest["sha256"].as_str().unwrap()));
    assert_eq!(said.len(), 4);
    let mut there: Vec<String> = fs::read_dir(&path)?
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<anyhow::Result<_>>()?;
    there.sort();
    assert_eq!(there, ["a.csv", "a.csv.manifest.json"]);
    let ended = threadline(
        &read.database,
        &path,
        &[
            "export",
            "run",
            "--output",
            "b.ndjson",
            "--profile",
            "full",
            "--json",
            "--max-rows",
            "100",
            "table:posts",
        ],
    )?;
    let mut summary: Value = serde_json::from_str(&ended.out)?;
    assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{summary}");
    assert_eq!(summary["bytes"], fs::metadata(path.join("b.ndjson"))?.len());
    for name in ["seconds", "bytes", "sha256"] {
        summary[name] = Value::Null;
    }
    let expected = json!({
        "file": "b.ndjson", "manifest": "b.ndjson.manifest.json", "signature": null, "rows": 80,
        "rows_by_kind": {"change": 80, "action": 0, "event": 0}, "truncated": false, "bytes": null, "sha256": null,
        "seconds": null, "purged": null, "recorded": true, "profile": "full", "format": "ndjson",
    });
    assert_eq!(summary, expected);
    Ok(())
}

#[tokio::test]
async fn an_export_is_an_act_in_the_timeline_with_evidence_of_what_was_handed_over() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    for arguments in [
        &["export", "run", "op:update", "-o", "a.csv"][..],
        &["export", "run", "-o", "b.json", "--actor", "admin:a1"],
        &["export", "run", "-o", "c.json", "--unrecorded"],
    ] {
        let ended = threadline(&read.database, &path, arguments)?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let is_silent = arguments.contains(&"--unrecorded");
        assert_eq!(ended.out.contains("not recorded"), is_silent, "{ended:?}");
    }
    let recorded: Vec<(Value, String, String, String, Value)> = sqlx::query_as(
        "select actor_ref, status, verb, category, comment::jsonb from audit_actions where name = 'audit.exported' order by inserted_at",
    )
    .fetch_all(&mut read.connection)
    .await?;
    let evidence: Vec<(Value, String, Value, Value, Value)> = sqlx::query_as(
        "select subject_ref, summary_status, actor_ref, provenance, detail from threadline_evidence_records
         where subject = 'export_delivery' order by recorded_at",
    )
    .fetch_all(&mut read.connection)
    .await?;
    let actors = [
        json!({"type": "service_account", "id": sandbox::rights::OWNER}),
        json!({"type": "admin", "id": "a1"}),
    ];
    assert_eq!((recorded.len(), evidence.len()), (2, 2));
    for (n, (name, actor)) in ["a.csv", "b.json"].into_iter().zip(actors).enumerate() {
        let bytes = fs::read(path.join(format!("{name}.manifest.json")))?;
        let manifest: Value = serde_json::from_slice(&bytes)?;
        assert_eq!(manifest["recorded"], true);
        let (of, status, verb, category, comment) = &recorded[n];
        assert_eq!(
            (of, status.as_str(), verb.as_str(), category.as_str()),
            (&actor, "ok", "export", "audit")
        );
        let rows = &manifest["rows"]["change"];
        assert_eq!(
            *comment,
            json!({
                "format": manifest["format"], "profile": "exact", "rows": rows, "sha256": manifest["sha256"],
                "filter": manifest["filter"],
            })
        );
        let (subject, status, of, provenance, detail) = &evidence[n];
        assert_eq!((subject, status.as_str()), (&json!({"sha256": manifest["sha256"]}), "completed"));
        let origin = json!({"writer": "threadline", "entrypoint": "export", "product": PRODUCT, "version": env!("CARGO_PKG_VERSION")});
        assert_eq!((of, provenance), (&actor, &origin));
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let digest = digest.as_ref().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!((&detail["manifest_sha256"], &detail["rows"]), (&json!(digest), &manifest["rows"]));
    }
    let silent: Value = serde_json::from_slice(&fs::read(path.join("c.json.manifest.json"))?)?;
    assert_eq!(silent["recorded"], false);
    Ok(())
}

#[tokio::test]
async fn whoever_may_not_record_is_refused_before_anything_is_written() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let mut superuser = PgConnection::connect(&as_superuser(&read.database.url)).await?;
    let role = format!("exporter_{}", uuid::Uuid::new_v4().simple());
    superuser.execute(AssertSqlSafe(format!("create role {role} login"))).await?;
    read.connection
        .execute(AssertSqlSafe(format!(
            "grant select on audit_changes, audit_transactions, audit_actions, threadline_migrations to {role}"
        )))
        .await?;
    let run = |arguments: &[&str]| -> anyhow::Result<(Option<i32>, String)> {
        let url = sandbox::rights::as_role(&read.database.url, &role);
        let ran = command(&read.database, &path, arguments).env("THREADLINE_DATABASE_URL", url).output()?;
        Ok((ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned()))
    };
    let (status, error) = run(&["export", "run", "-o", "a.csv"])?;
    assert_eq!(status, Some(2), "{error}");
    for words in ["not_recordable: ", &role, "audit_exporter", "--unrecorded"] {
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(fs::read_dir(&path)?.count(), 0);
    assert_eq!(run(&["export", "run", "-o", "a.csv", "--unrecorded"])?, (Some(0), String::new()));
    read.connection
        .execute(AssertSqlSafe(format!(
            "grant insert on audit_actions, threadline_evidence_records to {role}"
        )))
        .await?;
    assert_eq!(run(&["export", "run", "-o", "b.csv"])?, (Some(0), String::new()));
    read.connection.execute(AssertSqlSafe(format!("drop owned by {role}"))).await.ok();
    superuser.execute(AssertSqlSafe(format!("drop owned by {role}; drop role {role}"))).await?;
    Ok(())
}

#[tokio::test]
async fn a_dry_run_counts_exactly_and_writes_nothing() -> anyhow::Result<()> {
    const MANY: &str = "insert into audit_transactions (id, txid) values ('b0000000-0000-4000-8000-000000000001', 1);
        insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
        select 'b0000000-0000-4000-8000-000000000001', 'public', 'posts', '{}', 'insert' from generate_series(1, 12001) n;
        insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')";
    let read = Read::after(MANY).await?;
    let (_folder, path) = folder()?;
    for (more, expected) in [
        (&[][..], "matching_rows: 12001\n"),
        (&["--profile", "full"], "matching_rows: 12002\n"),
        (&["--max-rows", "5"], "matching_rows: 5\n"),
        (&["op:delete"], "matching_rows: 0\n"),
        (
            &["--json", "-o", "a.ndjson"],
            "{\"dry_run\":true,\"matching_rows\":12001,\"profile\":\"exact\",\"format\":\"ndjson\"}\n",
        ),
    ] {
        let ended = threadline(&read.database, &path, &[&["export", "run", "--dry-run"], more].concat())?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(0), expected), "{ended:?}");
    }
    assert_eq!(fs::read_dir(&path)?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn the_flags_of_the_elixir_librarys_task_work() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    fs::write(path.join("actor.json"), r#"{"type": "user", "id": "u1"}"#)?;
    for (arguments, name, rows) in [
        (&["--format", "json", "--output", "a"][..], "a", None),
        (&["--format", "json", "--json-format", "ndjson", "--output", "b"], "b", Some(80)),
        (&["--json-format", "ndjson", "--table", "posts", "--max-rows", "9", "--output", "c"], "c", Some(9)),
        (&["--format", "ndjson", "--table", "posts", "--to", "2026-02-01", "--output", "d"], "d", Some(0)),
        (
            &["--from", "2026-03-01T00:00:10Z", "--to", "2026-03-01T00:00:19Z", "--output", "e.ndjson"],
            "e.ndjson",
            Some(10),
        ),
        (&["--actor-json", "actor.json", "--output", "f.ndjson"], "f.ndjson", Some(80)),
    ] {
        let ended = threadline(&read.database, &path, &[&["export", "run"], arguments].concat())?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        match rows {
            Some(rows) => assert_eq!(lines(&path.join(name))?, rows, "{name}"),
            None => assert!(fs::read_to_string(path.join(name))?.starts_with("{\"changes\":[{")),
        }
    }
    let manifest: Value = serde_json::from_slice(&fs::read(path.join("e.ndjson.manifest.json"))?)?;
    assert_eq!(
        manifest["window"],
        json!({"from": "2026-03-01T00:00:10.000000Z", "to": "2026-03-01T00:00:19.000000Z"})
    );
    let twice = ["export", "run", "table:posts", "--table", "posts", "-o", "g"];
    let ended = threadline(&read.database, &path, &twice)?;
    assert!(ended.status == Some(2) && ended.error.contains("filter_twice"), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn a_window_that_moves_is_fixed_when_the_export_begins() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    read.connection.execute("update audit_changes set captured_at = now() - interval '30 minutes'").await?;
    let (_folder, path) = folder()?;
    let ended = threadline(&read.database, &path, &["export", "run", "last:1h", "-o", "a.ndjson"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(lines(&path.join("a.ndjson"))?, 80);
    let manifest: Value = serde_json::from_slice(&fs::read(path.join("a.ndjson.manifest.json"))?)?;
    assert_eq!(manifest["filter"], "last:1h");
    let hour: f64 = sqlx::query_scalar(
        "select extract(epoch from $1::text::timestamptz - $2::text::timestamptz)::float8",
    )
    .bind(manifest["generated_at"].as_str())
    .bind(manifest["window"]["from"].as_str())
    .fetch_one(&mut read.connection)
    .await?;
    assert!((hour - 3_600.0).abs() < 0.001, "{hour}");
    Ok(())
}

#[tokio::test]
async fn an_export_to_standard_output_is_the_file_and_nothing_else() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv"])?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let arguments = ["export", "run", "-o", "-", "--manifest", "m.json"];
    let ended = threadline(&read.database, &path, &arguments)?;
    assert_eq!(
        (ended.status, &ended.out),
        (Some(0), &fs::read_to_string(path.join("a.csv"))?),
        "{}",
        ended.error
    );
    assert!(ended.error.starts_with("exported 80 rows, "), "{}", ended.error);
    fs::write(path.join("out"), &ended.out)?;
    let verified = threadline(&read.database, &path, &["export", "verify", "m.json", "--file", "out"])?;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "-", "--format", "ndjson"])?;
    assert_eq!((ended.status, ended.out.lines().count()), (Some(0), 80));
    Ok(())
}

#[tokio::test]
async fn the_key_of_the_settings_file_signs() -> anyhow::Result<()> {
    let read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    fs::write(path.join("audit.toml"), "[export]\nkey = \"missing.pem\"\n[capture.tables.posts]\n")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv"])?;
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(ended.error.contains("cannot use missing.pem as a key that signs"), "{ended:?}");
    fs::write(path.join("audit.toml"), "[export]\nkeys = \"missing.pem\"\n")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv"])?;
    assert!(ended.status == Some(2) && ended.error.contains("unknown field `keys`"), "{ended:?}");
    fs::write(path.join("key.pem"), KEY)?;
    fs::write(path.join("audit.toml"), "[export]\nkey = \"key.pem\"\n")?;
    let ended = threadline(&read.database, &path, &["export", "run", "-o", "a.csv"])?;
    assert!(ended.status == Some(0) && ended.out.contains("signature  a.csv.manifest.sig\n"), "{ended:?}");
    let arguments = ["export", "verify", "a.csv.manifest.json", "--public-key", PUBLIC_HEX];
    let ended = threadline(&read.database, &path, &arguments)?;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test]
async fn an_export_and_its_manifest_say_what_was_purged_of_what_was_asked_for() -> anyhow::Result<()> {
    let mut read = Read::after(TENANTS).await?;
    let (_folder, path) = folder()?;
    let run = "d0000000-0000-4000-8000-000000000001";
    let ran = "insert into threadline_retention_runs (id, status, deleted_count, deleted_changes, deleted_tables, started_at, completed_at, holder, windows)
         values ('d0000000-0000-4000-8000-000000000001', 'completed', 5, 5, '{\"public.posts\": 5, \"public.notes\": 0}', now(), now(), 'p',
                 '{\"default\": \"2026-01-03T00:00:00.000000Z\", \"tables\": {}, \"actions\": null}');
         create table notes (id int primary key)";
    read.connection.execute(ran).await?;
    let said = format!("older than 2026-01-03T00:00:00Z: purged by run {run}\n");
    let purged = json!({"before": "2026-01-03T00:00:00.000000Z", "run": run, "tables": ["public.posts"]});
    for (number, (filter, expected)) in [
        ("op:update", Some(&purged)),
        ("table:posts", Some(&purged)),
        // Nothing of this table was deleted, and nothing of this window.
        ("table:notes", None),
        ("from:2026-02-01", None),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.ndjson");
        let said = if expected.is_some() { said.as_str() } else { "" };
        let ended = threadline(&read.database, &path, &["export", "run", filter, "--dry-run"])?;
        assert_eq!((ended.status, ended.error.as_str()), (Some(0), said), "{filter}");
        let ended = threadline(&read.database, &path, &["export", "run", filter, "-o", &name, "--json"])?;
        assert_eq!((ended.status, ended.error.as_str()), (Some(0), said), "{filter}");
        let summary: Value = serde_json::from_str(&ended.out)?;
        assert_eq!(summary["purged"], json!(expected), "{filter}");
        let manifest = format!("{name}.manifest.json");
        let document: Value = serde_json::from_slice(&fs::read(path.join(&manifest))?)?;
        assert_eq!(document.get("purged"), expected, "{filter}");
        assert_eq!(threadline(&read.database, &path, &["export", "verify", &manifest])?.status, Some(0));
    }
    // Whoever sees a part is not told of which tables there were changes.
    let scoped = read.timeline.reader(threadline::query::Scope::of_context("tenant", "MINE"));
    let (_, exported) = super::exported(&scoped, "", super::Options::default()).await?;
    let purged = exported.manifest.purged.unwrap();
    assert_eq!((purged.run.as_str(), purged.tables), (run, None));
    Ok(())
}
