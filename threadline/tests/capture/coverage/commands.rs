//! The commands, as they are run: exit statuses, JSON, and what people read.

use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{Ended, capture, host, threadline};

const TABLES: &str = "create schema billing; create table users (id int primary key, email text);
     create table billing.invoices (id int primary key); create table notes (id int primary key);
     create table schema_migrations (version bigint)";

const SETTINGS: &str =
    "[capture.tables.\"users\"]\nmask = [\"email\"]\n[capture.tables.\"billing.invoices\"]\n";

fn json_of(ended: &Ended) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&ended.out)?)
}

#[tokio::test]
async fn verify_coverage_fails_until_every_expected_table_is_captured_without_an_error() -> anyhow::Result<()>
{
    let (database, mut connection) = host(TABLES).await?;
    let ended = threadline(&database, SETTINGS, &["verify-coverage"])?;
    assert_eq!(ended.status, Some(1), "{}", ended.error);
    assert!(ended.out.ends_with("summary: 0/2 expected tables covered (2 violated)\n"), "{}", ended.out);
    assert!(
        ended
            .out
            .contains("public.users: not captured: threadline gen-triggers --tables public.users --apply\n")
    );
    capture(&mut connection, &[("users", json!({"mask": ["email"]})), ("billing.invoices", json!({}))])
        .await?;
    let ended = threadline(&database, SETTINGS, &["verify-coverage"])?;
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (
            Some(0),
            "TABLE                     STATUS\n\
             billing.invoices          covered\n\
             public.notes              uncovered (not in the list of expected tables)\n\
             public.schema_migrations  expected_uncovered (not in the list of expected tables)\n\
             public.users              covered\n\
             summary: 2/2 expected tables covered (0 violated)\n"
        )
    );
    connection.execute("drop trigger threadline_truncate_users on users").await?;
    let ended = threadline(&database, SETTINGS, &["verify-coverage", "--json"])?;
    assert_eq!(ended.status, Some(1));
    let answer = json_of(&ended)?;
    assert_eq!(answer["summary"], json!({"expected": 2, "covered": 1, "violated": 1}));
    assert_eq!(
        answer["violations"],
        json!([{"table": "public.users", "status": "error", "expected": true, "errors": ["missing_trigger"]}])
    );
    let ended = threadline(&database, SETTINGS, &["verify-coverage", "--schema", "billing"])?;
    assert_eq!(ended.status, Some(0));
    assert!(ended.out.ends_with("summary: 1/1 expected tables covered (0 violated)\n"), "{}", ended.out);
    let named = "[coverage]\nexpected = [\"notes\", \"gone\"]\n";
    let ended = threadline(&database, named, &["verify-coverage"])?;
    assert_eq!(ended.status, Some(1));
    assert!(ended.out.contains("public.gone               missing\n"), "{}", ended.out);
    Ok(())
}

#[tokio::test]
async fn settings_and_arguments_that_cannot_be_used_are_refused_with_a_term() -> anyhow::Result<()> {
    let (database, _connection) = host(TABLES).await?;
    let verify: &[&str] = &["verify-coverage"];
    for (settings, arguments, said) in [
        ("", verify, "nothing_expected: "),
        (SETTINGS, &["verify-coverage", "--schema", "elsewhere"][..], "nothing_expected: "),
        (
            "[coverage]\nexpected = [\"elsewhere.a\"]\n",
            &["verify-coverage", "--schema", "elsewhere"],
            "schema_missing: ",
        ),
        ("[coverage]\nexpected = []\n", verify, "nothing_expected: "),
        ("[coverage]\nexpected = [\"users\", \"public.users\"]\n", verify, "table_twice: "),
        (
            "[coverage]\nexpected = [\"users\"]\nexpected_uncovered = [\"users\"]\n",
            verify,
            "expectations_contradict: ",
        ),
        ("[coverage]\nexpected = [\"no name\"]\n", verify, "table_name_invalid: "),
        ("[coverage]\nexpected = \"users\"\n", verify, "invalid type"),
        ("[coverage]\nexpected_tables = [\"users\"]\n", verify, "unknown field `expected_tables`"),
        ("[capture.tables.\"users\"]\nmasks = []\n", verify, "option_unknown: "),
        ("", &["health", "coverage", "--schema", "elsewhere"], "schema_missing: "),
        ("", &["health", "coverage", "--schema", "Public"], "lower-case letters"),
        ("", &["health", "coverage", "--schema", "public", "--all-schemas"], "cannot be used with"),
        ("", &["health", "coverage", "extra"], "unexpected argument"),
        ("", &["policy", "show", "--schema", "elsewhere"], "schema_missing: "),
    ] {
        let ended = threadline(&database, settings, arguments)?;
        assert_eq!(ended.status, Some(2), "{arguments:?} {settings}");
        assert!(ended.error.contains(said), "{arguments:?} {settings}: {}", ended.error);
    }
    Ok(())
}

#[tokio::test]
async fn health_coverage_reports_and_fails_only_when_it_is_strict() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("users", json!({}))]).await?;
    let healthy = threadline(&database, "", &["health", "coverage", "--strict", "--json"])?;
    assert_eq!(healthy.status, Some(0), "{}", healthy.error);
    assert_eq!(
        json_of(&healthy)?,
        json!({
            "schema": "public", "covered": ["users"], "uncovered": ["notes"],
            "expected_uncovered": [{"table": "schema_migrations", "source": "baseline"}], "findings": [], "skipped": []
        })
    );
    connection.execute("alter table users disable trigger threadline_audit_users").await?;
    for (arguments, status) in [
        (&["health", "coverage"][..], 0),
        (&["health", "coverage", "--json"], 0),
        (&["health", "coverage", "--strict"], 1),
        (&["health", "coverage", "--all-schemas", "--strict"], 1),
        (&["health", "coverage", "--schema", "billing", "--strict"], 0),
    ] {
        assert_eq!(threadline(&database, "", arguments)?.status, Some(status), "{arguments:?}");
    }
    let all = json_of(&threadline(&database, "", &["health", "coverage", "--all-schemas", "--json"])?)?;
    assert_eq!(all["schemas"]["billing"]["uncovered"], json!(["invoices"]));
    assert_eq!(
        all["summary"],
        json!({"schemas": 2, "covered": 0, "uncovered": 3, "expected_uncovered": 1, "findings": 1, "errors": 1})
    );
    let told = threadline(&database, "", &["health", "coverage"])?.out;
    assert_eq!(
        told,
        "schema public: 0 covered, 2 uncovered, 1 expected uncovered\n  uncovered           notes\n  uncovered           users\n  \
         expected_uncovered  schema_migrations (baseline)\nerror: capture_trigger_disabled of public.users: 1 of its triggers does not \
         fire in ordinary sessions: threadline_audit_users on public.users\n    alter table only \"public\".\"users\" enable trigger \
         \"threadline_audit_users\"\n"
    );
    Ok(())
}

#[tokio::test]
async fn policy_show_compares_and_never_fails() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("users", json!({"exclude": ["email"]})), ("billing.invoices", json!({}))])
        .await?;
    connection.execute("insert into users values (1, 'a secret')").await?;
    let ended = threadline(&database, SETTINGS, &["policy", "show", "--json"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let answer = json_of(&ended)?;
    let counts = ["total_tables", "drift_detected", "could_not_introspect", "config_matches_deployed"];
    assert_eq!(counts.map(|key| answer[key].as_i64()), [Some(2), Some(1), Some(0), Some(1)]);
    let users = &answer["tables"][1];
    assert_eq!((&users["table"], &users["status"]), (&json!("public.users"), &json!("drift_detected")));
    assert_eq!(
        (&users["configured"]["mask"], &users["deployed"]["exclude"]),
        (&json!(["email"]), &json!(["email"]))
    );
    assert_eq!(users["diff"]["mask_only_in_config"], json!(["email"]));
    assert_eq!(users["hint"], "threadline gen-triggers --tables public.users --apply");
    assert!(!ended.out.contains("a secret"));
    let told = threadline(&database, SETTINGS, &["policy", "show"])?;
    assert_eq!(told.status, Some(0));
    assert!(
        told.out.starts_with(
            "2 tables: 1 drift detected, 0 could not introspect, 1 config matches deployed\nTABLE"
        ),
        "{}",
        told.out
    );
    assert!(told.out.contains("    mask_only_in_config: email\n"), "{}", told.out);
    let one =
        json_of(&threadline(&database, SETTINGS, &["policy", "show", "--schema", "billing", "--json"])?)?;
    assert_eq!((&one["schema"], &one["total_tables"]), (&json!("billing"), &json!(1)));
    Ok(())
}

#[tokio::test]
async fn coverage_is_reported_of_a_database_that_has_no_timeline() -> anyhow::Result<()> {
    let database = sandbox::fixture::empty_database().await?;
    database.connect().await?.execute("create table users (id int primary key)").await?;
    let ended = threadline(&database, "", &["health", "coverage", "--json"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    assert_eq!(json_of(&ended)?["uncovered"], json!(["users"]));
    Ok(())
}
