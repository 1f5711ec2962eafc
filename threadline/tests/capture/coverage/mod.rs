//! Coverage: which tables count as captured.

mod commands;
mod deployed;
mod drift;
mod findings;
mod keys;

use std::process::Command;

use sandbox::{fixture::TestDatabase, work_dir::WorkDir};
use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{HostTable, Policy},
    coverage::{Coverage, Expectations, Report, Source, read, verdict, verdict::Status},
};

use super::{capture, host};

/// A trigger as the Elixir library makes it.
const LIBRARY_TRIGGER: &str =
    "create trigger threadline_audit_posts after insert or update or delete on posts
     for each row execute function threadline_capture_changes('id')";

/// How a command ended, and what it printed.
struct Ended {
    status: Option<i32>,
    out: String,
    error: String,
}

/// Runs the binary on the database, with these settings and no others.
fn threadline(database: &TestDatabase, settings: &str, arguments: &[&str]) -> anyhow::Result<Ended> {
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

fn tables(names: &[&str]) -> Vec<HostTable> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// What settings expect that say this of captured tables.
fn expecting(policies: &[(&str, Value)]) -> Expectations {
    let policy = |(name, section): &(&str, Value)| {
        let table: HostTable = name.parse().unwrap();
        let policy = Policy::read(&table, section.as_object().unwrap()).unwrap();
        (table, policy)
    };
    Expectations { policies: policies.iter().map(policy).collect(), ..Expectations::default() }
}

async fn report(connection: &mut PgConnection, expectations: &Expectations) -> anyhow::Result<Report> {
    Ok(read(connection, &StorageSchema::default(), None, expectations).await?)
}

pub(super) async fn public(
    connection: &mut PgConnection,
    expectations: &Expectations,
) -> anyhow::Result<Coverage> {
    let one = ["public".to_owned()];
    let mut report = read(connection, &StorageSchema::default(), Some(&one), expectations).await?;
    assert_eq!(report.skipped, []);
    Ok(report.schemas.remove(0))
}

/// The library's answer for these tables, but for its four newer tables, which an older version of it listed as uncovered.
#[tokio::test]
async fn tables_are_in_the_elixir_librarys_buckets_and_the_timelines_own_in_none() -> anyhow::Result<()> {
    let (_database, mut connection) =
        host("create table posts (id int primary key); create table schema_migrations (version bigint)")
            .await?;
    connection.execute(LIBRARY_TRIGGER).await?;
    let coverage = public(&mut connection, &Expectations::default()).await?;
    assert_eq!(
        serde_json::to_value(&coverage)?,
        json!({
            "schema": "public", "covered": ["posts"], "uncovered": [],
            "expected_uncovered": [{"table": "schema_migrations", "source": "baseline"}], "findings": []
        })
    );
    Ok(())
}

#[tokio::test]
async fn only_a_trigger_that_fires_for_every_change_counts() -> anyhow::Result<()> {
    let never = "after insert or update or delete on posts for each row when (false) execute function threadline_capture_changes('id')";
    for (change, is_covered) in [
        ("select 1", true),
        ("alter table posts enable always trigger threadline_audit_posts", true),
        ("alter table posts disable trigger threadline_audit_posts", false),
        ("alter table posts enable replica trigger threadline_audit_posts", false),
        ("drop trigger threadline_audit_posts on posts", false),
        ("conditional", false),
        (
            "create or replace trigger threadline_audit_posts after insert or update on posts
          for each row execute function threadline_capture_changes('id')",
            false,
        ),
        (
            "create or replace trigger threadline_audit_posts after insert or update of v or delete on posts
          for each row execute function threadline_capture_changes('id')",
            false,
        ),
        (
            "create or replace trigger threadline_audit_posts after insert or update or delete on posts
          for each row execute function theirs()",
            false,
        ),
        (
            "create or replace trigger threadline_audit_posts before insert or update or delete on posts
          for each row execute function threadline_capture_changes('id')",
            false,
        ),
        (
            "create or replace trigger threadline_audit_posts after insert or update or delete on posts
          for each row execute function of_another_timeline.threadline_capture_changes('id')",
            false,
        ),
    ] {
        let (_database, mut connection) = host(
            "create table posts (id int primary key, v int); create schema of_another_timeline;
             create function theirs() returns trigger language plpgsql as 'begin return null; end';
             create function of_another_timeline.threadline_capture_changes() returns trigger language plpgsql as
                 'begin return null; end'",
        )
        .await?;
        connection.execute(LIBRARY_TRIGGER).await?;
        let change = match change {
            "conditional" => format!("create or replace trigger threadline_audit_posts {never}"),
            change => change.to_owned(),
        };
        connection.execute(sqlx::AssertSqlSafe(change.clone())).await?;
        let coverage = public(&mut connection, &Expectations::default()).await?;
        assert_eq!(coverage.covered == ["posts"], is_covered, "{change}");
        assert_eq!(coverage.uncovered == ["posts"], !is_covered, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_partitioned_table_counts_once_and_only_with_all_of_its_partitions() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create schema archive; create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10);
         create table archive.p2 partition of p for values from (10) to (20) partition by range (id);
         create table archive.p21 partition of archive.p2 for values from (10) to (20)",
    )
    .await?;
    let none = Expectations::default();
    assert_eq!(public(&mut connection, &none).await?.uncovered, ["p"]);
    capture(&mut connection, &[("p", json!({}))]).await?;
    let coverage = public(&mut connection, &none).await?;
    assert_eq!((coverage.covered, coverage.findings), (vec!["p".to_owned()], Vec::new()));
    connection.execute("alter table archive.p21 disable trigger threadline_audit_p").await?;
    assert_eq!(public(&mut connection, &none).await?.uncovered, ["p"]);
    let all: Vec<String> =
        report(&mut connection, &none).await?.schemas.into_iter().map(|one| one.schema).collect();
    assert_eq!(all, ["public"]);
    Ok(())
}

#[tokio::test]
async fn tables_of_the_timeline_of_its_rebuild_and_of_the_pipeline_are_not_the_hosts() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create schema outbox; create table outbox.entries (id int); create table outbox.rounds (id int);
         create table outbox.anything (id int); create table mine (id int)",
    )
    .await?;
    threadline::shadow::Shadow::of(&StorageSchema::default()).create(&mut connection).await?;
    connection.execute("create temp table passing (id int)").await?;
    let report = report(&mut connection, &Expectations::default()).await?;
    let listed: Vec<(&str, &[String])> =
        report.schemas.iter().map(|one| (one.schema.as_str(), &one.uncovered[..])).collect();
    assert_eq!(listed, [("public", &["mine".to_owned()][..])]);
    Ok(())
}

#[tokio::test]
async fn a_schema_of_the_hosts_that_is_called_outbox_counts() -> anyhow::Result<()> {
    let (_database, mut connection) =
        host("create schema outbox; create table outbox.messages (id int)").await?;
    let report = report(&mut connection, &Expectations::default()).await?;
    assert_eq!(report.schemas[0].uncovered, ["messages"]);
    Ok(())
}

#[tokio::test]
async fn settings_say_which_tables_are_not_captured_on_purpose() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create schema billing; create table notes (id int); create table billing.notes (id int);
         create table _sqlx_migrations (id int); create table billing.flyway_schema_history (id int)",
    )
    .await?;
    let expectations = Expectations {
        expected_uncovered: tables(&["notes"]),
        audit_anyway: tables(&["_sqlx_migrations"]),
        ..Expectations::default()
    };
    let report = report(&mut connection, &expectations).await?;
    let gaps = |n: usize| -> Vec<(&str, Source)> {
        report.schemas[n].expected_uncovered.iter().map(|gap| (gap.table.as_str(), gap.source)).collect()
    };
    assert_eq!(report.schemas[0].uncovered, ["notes"]);
    assert_eq!(gaps(0), [("flyway_schema_history", Source::Baseline)]);
    assert_eq!(report.schemas[1].uncovered, ["_sqlx_migrations"]);
    assert_eq!(gaps(1), [("notes", Source::Config)]);
    Ok(())
}

#[tokio::test]
async fn missing_tables_are_the_first_violations_then_uncovered_ones_then_those_with_errors()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table good (id int primary key); create table bad (id int primary key); create table b (id int primary key);
         create table a (id int primary key); create table schema_migrations (id int); create table other (id int)",
    )
    .await?;
    capture(&mut connection, &[("good", json!({})), ("bad", json!({})), ("a", json!({}))]).await?;
    connection
        .execute(
            "drop trigger threadline_truncate_bad on bad; alter table a disable trigger threadline_audit_a",
        )
        .await?;
    let expected = tables(&["b", "good", "z", "bad", "gone", "a", "schema_migrations"]);
    let verdict = verdict(&report(&mut connection, &Expectations::default()).await?, &expected);
    let violations: Vec<(&str, Status)> =
        verdict.violations.iter().map(|one| (one.table.as_str(), one.status)).collect();
    assert_eq!(
        violations,
        [
            ("public.gone", Status::Missing),
            ("public.z", Status::Missing),
            ("public.a", Status::Uncovered),
            ("public.b", Status::Uncovered),
            ("public.schema_migrations", Status::Uncovered),
            ("public.bad", Status::Error),
        ]
    );
    assert_eq!((verdict.expected, verdict.covered), (7, 1));
    let other = verdict.tables.iter().find(|one| one.table == "public.other").unwrap();
    assert!(!other.expected && other.status == Status::Uncovered);
    Ok(())
}
