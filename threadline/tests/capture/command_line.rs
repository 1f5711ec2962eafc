//! The commands, as a person or a script runs them.

use std::process::Command;

use sandbox::{fixture::TestDatabase, work_dir::WorkDir};
use serde_json::{Value, json};
use sqlx::{Executor as _, migrate::Migrator};

use super::{changes, host};

/// How it ended, and what it printed.
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

/// Runs the binary in a folder of its own: no settings file is there but the one that is named.
fn threadline(database: &TestDatabase, folder: &WorkDir, arguments: &[&str]) -> anyhow::Result<Ended> {
    let ran = Command::new(env!("CARGO_BIN_EXE_threadline"))
        .args(arguments)
        .current_dir(folder.path())
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG")
        .output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { status: ran.status.code(), out: text(&ran.stdout), error: text(&ran.stderr) })
}

const TABLES: &str = "create schema billing; create table users (id int primary key, email text, ssn text);
     create table billing.invoices (id int primary key, total numeric); create table keyless (v int)";

const SETTINGS: &str = r#"
    [capture.tables."users"]
    mask = ["email"]
    [capture.tables."billing.invoices"]
    level = "row"
"#;

#[tokio::test]
async fn a_dry_run_says_what_would_be_captured_and_changes_nothing() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    std::fs::write(folder.path().join("audit.toml"), SETTINGS)?;
    let ended = threadline(&database, &folder, &["gen-triggers", "--dry-run"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("table=billing.invoices level=row key=id "), "{}", lines[0]);
    assert!(
        lines[1].starts_with("table=public.users level=statement key=id exclude= mask=email "),
        "{}",
        lines[1]
    );
    let ended = threadline(
        &database,
        &folder,
        &["gen-triggers", "--dry-run", "--json", "--tables", "users", "--mask", "ssn"],
    )?;
    let described: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(described["tables"][0]["table"], "public.users");
    assert_eq!(described["tables"][0]["policy"]["mask"], json!(["email", "ssn"]));
    assert_eq!(described["files"], json!([]));
    let made: i64 = sqlx::query_scalar("select count(*) from pg_trigger where tgname like 'threadline%'")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(made, 0);
    Ok(())
}

#[tokio::test]
async fn migrations_sort_after_those_that_are_there_and_reruns_are_numbered() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    let migrations = folder.path().join("migrations");
    std::fs::create_dir(&migrations)?;
    std::fs::write(migrations.join("20991231235959_of_the_future.sql"), "select 1")?;
    std::fs::write(migrations.join("README.md"), "no migration")?;
    let generate = ["gen-triggers", "--tables", "users,billing.invoices", "--out", "migrations"];
    let ended = threadline(&database, &folder, &generate)?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let files = [
        "migrations/20991231235960_threadline_triggers_users_billing_invoices.up.sql",
        "migrations/20991231235960_threadline_triggers_users_billing_invoices.down.sql",
    ];
    assert_eq!(ended.out.lines().collect::<Vec<_>>(), files);
    let ended = threadline(&database, &folder, &[&generate[..], &["--json"]].concat())?;
    let described: Value = serde_json::from_str(&ended.out)?;
    let again = [
        "migrations/20991231235961_threadline_triggers_users_billing_invoices_2.up.sql",
        "migrations/20991231235961_threadline_triggers_users_billing_invoices_2.down.sql",
    ];
    assert_eq!(described["files"], json!(again));
    // As sqlx reads and runs them, and takes them back one by one.
    let migrator = Migrator::new(migrations).await?;
    migrator.run(&mut connection).await?;
    connection
        .execute("insert into users (id) values (1); insert into billing.invoices (id) values (1)")
        .await?;
    assert_eq!(changes(&mut connection).await?.len(), 2);
    migrator.undo(&mut connection, 20_991_231_235_960).await?;
    connection.execute("insert into users (id) values (2)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 3, "the first migration still stands");
    migrator.undo(&mut connection, 20_991_231_235_959).await?;
    connection.execute("insert into users (id) values (3)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn triggers_are_made_at_once_and_a_program_is_told_of_them_in_json() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    let ended = threadline(&database, &folder, &["gen-triggers", "--tables", "users", "--apply", "--json"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let described: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(
        (&described["tables"][0]["level"], &described["tables"][0]["key"]),
        (&json!("statement"), &json!(["id"]))
    );
    connection.execute("insert into users (id) values (1)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    let ended = threadline(&database, &folder, &["gen-triggers", "--tables", "users"])?;
    assert!(
        ended.out.starts_with("-- Threadline captures public.users."),
        "without a target, SQL is printed: {}",
        ended.out
    );
    Ok(())
}

#[tokio::test]
async fn triggers_that_are_made_while_capture_is_off_are_not_called_captured() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    let make = ["gen-triggers", "--tables", "users", "--apply"];
    let ended = threadline(&database, &folder, &make)?;
    assert!(ended.out.starts_with("captured: table=public.users "), "{}", ended.out);
    let switch = |way| ["capture", way, "--tables", "users", "--actor", "admin:a1", "--reason", "load"];
    assert_eq!(threadline(&database, &folder, &switch("off"))?.status, Some(0));
    let ended = threadline(&database, &folder, &make)?;
    assert!(
        ended.out.starts_with("capture is off, and the triggers stay disabled: table=public.users ")
            && ended.out.contains("threadline capture on --tables public.users "),
        "{}",
        ended.out
    );
    connection.execute("insert into users (id) values (1)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 0);
    assert_eq!(threadline(&database, &folder, &switch("on"))?.status, Some(0));
    connection.execute("insert into users (id) values (2)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_used_ends_with_status_2_and_a_term_and_what_fails_with_1() -> anyhow::Result<()> {
    let (database, _connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    for (arguments, term) in [
        (&["gen-triggers"][..], "no_tables: "),
        (&["gen-triggers", "--tables", "nowhere"], "table_missing: "),
        (&["gen-triggers", "--tables", "users,users"], "table_twice: "),
        (&["gen-triggers", "--tables", "a.b.c"], "table_name_invalid: "),
        (&["gen-triggers", "--tables", "keyless"], "primary_key_missing: "),
        (&["gen-triggers", "--tables", "users", "--mask", "id"], "key_redacted: "),
        (&["gen-triggers", "--tables", "users", "--mask", "nothing"], "column_unknown: "),
        (&["gen-triggers", "--tables", "users", "--level", "weird"], "option_invalid: "),
        (&["gen-triggers", "--tables", "audit_changes"], "own_table: "),
        (&["gen-triggers", "--tables", "users", "--out", "a", "--apply"], "cannot be used with"),
        (&["gen-triggers", "--nonsense"], "unexpected argument"),
    ] {
        let ended = threadline(&database, &folder, arguments)?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(term), "{arguments:?}: {}", ended.error);
    }
    let out = |folder_named| ["gen-triggers", "--tables", "users", "--out", folder_named];
    let ended = threadline(&database, &folder, &out("made/deeper"))?;
    assert!(ended.status == Some(1) && ended.error.contains("the folder made/deeper"), "{}", ended.error);
    let ended = threadline(&database, &folder, &out("made"))?;
    assert!(ended.status == Some(0) && ended.out.starts_with("made/"), "{}", ended.error);
    let away = TestDatabase { url: "postgres://nobody@127.0.0.1:1/nothing".to_owned() };
    let ended = threadline(&away, &folder, &["gen-triggers", "--tables", "users", "--dry-run"])?;
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    assert!(ended.error.contains("cannot connect to the timeline database"), "{}", ended.error);
    Ok(())
}

#[tokio::test]
async fn continuity_prints_the_steps_and_asserts_that_a_table_is_ready() -> anyhow::Result<()> {
    let (database, _connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    // No database is asked for the steps.
    let away = TestDatabase { url: "postgres://nobody@127.0.0.1:1/nothing".to_owned() };
    let ended = threadline(&away, &folder, &["continuity"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    assert!(ended.out.starts_with("1. install: "), "{}", ended.out);
    let ended =
        threadline(&away, &folder, &["continuity", "--table", "billing.invoices", "--dry-run", "--json"])?;
    let steps: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(
        steps["steps"][2]["command"],
        "threadline gen-triggers --tables billing.invoices --out migrations"
    );
    assert_eq!(threadline(&away, &folder, &["continuity", "--table", "users"])?.status, Some(1));
    let ended = threadline(&database, &folder, &["continuity", "--table", "users"])?;
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    assert!(ended.out.starts_with("not_captured: public.users: "), "{}", ended.out);
    let ended = threadline(&database, &folder, &["continuity", "--table", "users", "--json"])?;
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    let said: Value = serde_json::from_str(&ended.out)?;
    assert_eq!((&said["ready"], &said["problems"][0]["term"]), (&json!(false), &json!("not_captured")));
    threadline(&database, &folder, &["gen-triggers", "--tables", "users", "--apply"])?;
    let ended = threadline(&database, &folder, &["continuity", "--table", "users"])?;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), "ready: public.users level=statement key=id\n"),
        "{}",
        ended.error
    );
    let ended = threadline(&database, &folder, &["continuity", "--table", "a.b.c"])?;
    assert_eq!(ended.status, Some(2), "{}", ended.error);
    Ok(())
}

#[tokio::test]
async fn capture_is_switched_off_and_on_by_somebody_for_a_reason() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    threadline(&database, &folder, &["gen-triggers", "--tables", "users", "--apply"])?;
    let off = ["capture", "off", "--tables", "users", "--actor", "admin:a1", "--reason", "import"];
    for (arguments, term) in [
        (&off[..6], "--reason"),
        (&["capture", "off", "--tables", "users", "--reason", "import"], "--actor"),
        (&["capture", "off", "--actor", "admin:a1", "--reason", "import"], "--tables"),
        (
            &["capture", "off", "--tables", "users", "--actor", "robot:a1", "--reason", "import"],
            "unknown_actor_type",
        ),
        (
            &["capture", "off", "--tables", "users", "--actor", "admin:", "--reason", "import"],
            "missing_actor_id",
        ),
        (
            &["capture", "off", "--tables", "users", "--actor", "anonymous:", "--reason", "import"],
            "actor_missing: ",
        ),
        (
            &["capture", "off", "--tables", "users", "--actor", "admin:a1", "--reason", " "],
            "reason_missing: ",
        ),
        (&["capture", "on", "--tables", "users", "--actor", "admin:a1", "--reason", "done"], "not_off: "),
    ] {
        let ended = threadline(&database, &folder, arguments)?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.error);
        assert!(ended.error.contains(term), "{arguments:?}: {}", ended.error);
    }
    let ended = threadline(&database, &folder, &off)?;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), "capture off: public.users\n"),
        "{}",
        ended.error
    );
    connection.execute("insert into users (id) values (1)").await?;
    let ended = threadline(&database, &folder, &["continuity", "--table", "users"])?;
    assert!(ended.out.starts_with("capture_trigger_disabled: "), "{}", ended.out);
    let on = ["capture", "on", "--tables", "users", "--actor", "admin:a1", "--reason", "done"];
    let ended = threadline(&database, &folder, &on)?;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), "capture on: public.users\n"),
        "{}",
        ended.error
    );
    connection.execute("insert into users (id) values (2)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_lock_that_somebody_holds_fails_the_switch_and_changes_nothing() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    threadline(&database, &folder, &["gen-triggers", "--tables", "users", "--apply"])?;
    connection.execute("begin; insert into users (id) values (1)").await?;
    let ended = threadline(
        &database,
        &folder,
        &["capture", "off", "--tables", "users", "--actor", "admin:a1", "--reason", "import"],
    )?;
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    assert!(ended.error.contains("lock timeout"), "{}", ended.error);
    connection.execute("commit").await?;
    let state: (i64, i64) = sqlx::query_as(
        "select (select count(*) from pg_trigger where tgname like 'threadline%' and tgenabled <> 'O'), (select count(*) from audit_actions)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(state, (0, 0));
    Ok(())
}

#[tokio::test]
async fn old_changes_are_given_their_keys_from_the_command_line() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    let ended = threadline(&database, &folder, &["backfill-keys"])?;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (Some(0), "no change is without a key\n"),
        "{}",
        ended.error
    );
    connection
        .execute(
            "insert into audit_transactions (id, txid) values ('00000000-0000-0000-0000-000000000001', 1);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
             select '00000000-0000-0000-0000-000000000001', 'public', 'users', '{\"id\": null}', 'insert', jsonb_build_object('id', n)
             from generate_series(1, 5) n",
        )
        .await?;
    let ended = threadline(&database, &folder, &["backfill-keys", "--dry-run"])?;
    assert_eq!(ended.out, "public.users: key=id recoverable=5\n", "{}", ended.error);
    let ended = threadline(
        &database,
        &folder,
        &["backfill-keys", "--tables", "users", "--batch-size", "2", "--json"],
    )?;
    let said: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(
        said,
        json!({"dry_run": false, "tables": [{"table": "public.users", "key": ["id"], "recovered": 5, "left": {}}]})
    );
    // Into a file or a pipe goes no progress.
    assert_eq!(ended.error, "");
    let ended = threadline(&database, &folder, &["backfill-keys", "--batch-size", "0"])?;
    assert_eq!(ended.status, Some(2), "{}", ended.error);
    Ok(())
}

#[tokio::test]
async fn a_table_is_left_to_the_elixir_library_by_a_migration() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    std::fs::create_dir(folder.path().join("migrations"))?;
    for more in [&["--out", "migrations"][..], &["--to-library", "--out", "migrations"]] {
        let ended = threadline(&database, &folder, &[&["gen-triggers", "--tables", "users"], more].concat())?;
        assert_eq!(ended.status, Some(0), "{}", ended.error);
    }
    let migrator = Migrator::new(folder.path().join("migrations")).await?;
    migrator.run(&mut connection).await?;
    let triggers = "select string_agg(tgname || ' ' || (tgtype & 1), ', ' order by tgname) from pg_trigger where tgname like 'threadline%'";
    let found: String = sqlx::query_scalar(triggers).fetch_one(&mut connection).await?;
    assert_eq!(found, "threadline_audit_users 1");
    let first = migrator.iter().map(|migration| migration.version).min().unwrap_or_default();
    migrator.undo(&mut connection, first).await?;
    let found: String = sqlx::query_scalar(triggers).fetch_one(&mut connection).await?;
    assert_eq!(found.split(", ").count(), 4, "{found}");
    let ended = threadline(
        &database,
        &folder,
        &["gen-triggers", "--tables", "users", "--to-library", "--level", "row"],
    )?;
    assert_eq!(ended.status, Some(2), "{}", ended.error);
    Ok(())
}

/// A shell's `<(…)`: what was read of it is gone.
#[tokio::test]
async fn settings_from_a_pipe_are_those_that_are_applied() -> anyhow::Result<()> {
    let (database, _connection) = host(TABLES).await?;
    let folder = WorkDir::create()?;
    std::fs::write(folder.path().join("piped.toml"), SETTINGS)?;
    let script = "exec \"$0\" gen-triggers -c <(cat piped.toml) --tables users --dry-run";
    let ran = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_threadline")])
        .current_dir(folder.path())
        .env("THREADLINE_DATABASE_URL", &database.url)
        .env_remove("AUDIT_CONFIG")
        .output()?;
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(out.contains(" mask=email "), "{out}{}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}
