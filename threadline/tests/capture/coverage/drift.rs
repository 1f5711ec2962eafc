//! Settings, stored policies, functions and columns compared.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    coverage::{Expectations, Finding, FindingCode, PolicyStatus, Severity, policies, policy_status::Status},
};

use super::{LIBRARY_TRIGGER, capture, expecting, findings::apply, host, public};

const TABLE: &str = "create table a (id int primary key, email text, ssn text, name text, document jsonb)";

fn policy() -> Value {
    json!({"mask": ["email"], "hash": ["ssn"], "paths": ["document.token"], "except": ["name"]})
}

async fn status(connection: &mut PgConnection, expectations: &Expectations) -> anyhow::Result<PolicyStatus> {
    let mut all = policies(connection, &StorageSchema::default(), expectations).await?;
    assert_eq!(all.len(), 1);
    Ok(all.remove(0))
}

async fn finding(
    connection: &mut PgConnection,
    expectations: &Expectations,
) -> anyhow::Result<Option<Finding>> {
    let coverage = public(connection, expectations).await?;
    Ok(coverage.findings.into_iter().find(|one| one.code == FindingCode::PolicyDrift))
}

#[tokio::test]
async fn what_was_generated_from_the_settings_has_no_drift() -> anyhow::Result<()> {
    for level in [json!("row"), json!("statement"), Value::Null] {
        let (_database, mut connection) = host(TABLE).await?;
        let mut policy = policy();
        if !level.is_null() {
            policy["level"] = level;
        }
        capture(&mut connection, &[("a", policy.clone())]).await?;
        for expectations in [expecting(&[("a", policy)]), Expectations::default()] {
            let status = status(&mut connection, &expectations).await?;
            assert_eq!(
                (status.status, status.drift, status.warning),
                (Status::ConfigMatchesDeployed, vec![], None)
            );
            assert_eq!(finding(&mut connection, &expectations).await?, None);
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_option_that_the_settings_change_is_named_on_both_sides() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("a", policy())]).await?;
    let changed = json!({
        "exclude": ["email"], "mask": ["ssn"], "mask_placeholder": "***", "except": ["document"],
        "store_changed_from": false, "level": "row"
    });
    let expectations = expecting(&[("a", changed)]);
    let found = finding(&mut connection, &expectations).await?.unwrap();
    assert_eq!((found.severity, &found.details["reasons"]), (Severity::Error, &json!(["settings_differ"])));
    let status = status(&mut connection, &expectations).await?;
    assert_eq!(status.status, Status::DriftDetected);
    assert_eq!(
        Value::from(status.diff),
        json!({
            "exclude_only_in_config": ["email"], "exclude_only_in_deployed": [],
            "mask_only_in_config": ["ssn"], "mask_only_in_deployed": ["email"],
            "hash_only_in_config": [], "hash_only_in_deployed": ["ssn"],
            "paths_only_in_config": [], "paths_only_in_deployed": ["document.token"],
            "except_only_in_config": ["document"], "except_only_in_deployed": ["name"],
            "primary_key_only_in_config": [], "primary_key_only_in_deployed": [],
            "placeholder_mismatch": {"config": "***", "deployed": "[REDACTED]"},
            "hash_key_mismatch": {"config": null, "deployed": "default"},
            "level_mismatch": {"config": "row", "deployed": "statement"},
            "strict_mismatch": null,
            "store_changed_from_mismatch": {"config": false, "deployed": true}
        })
    );
    drop(database);
    Ok(())
}

#[tokio::test]
async fn a_table_that_the_settings_do_not_name_is_one_of_which_they_hide_nothing() -> anyhow::Result<()> {
    let (_database, mut connection) =
        host("create table a (id int primary key, email text); create table b (id int primary key)").await?;
    capture(&mut connection, &[("a", json!({"mask": ["email"]})), ("b", json!({}))]).await?;
    let all = policies(&mut connection, &StorageSchema::default(), &expecting(&[("b", json!({}))])).await?;
    let statuses: Vec<Status> = all.iter().map(|one| one.status).collect();
    assert_eq!(statuses, [Status::DriftDetected, Status::ConfigMatchesDeployed]);
    assert_eq!(all[0].diff["mask_only_in_deployed"], json!(["email"]));
    Ok(())
}

/// A redacted column that is renamed, a key column, and one that the policy does not name.
#[tokio::test]
async fn a_column_of_the_policy_that_is_renamed_or_dropped_is_an_error() -> anyhow::Result<()> {
    for (change, reasons, severity) in [
        ("alter table a rename email to mail", json!(["column_renamed", "columns_changed"]), Severity::Error),
        ("alter table a rename id to ident", json!(["column_renamed", "columns_changed"]), Severity::Error),
        ("alter table a rename name to label", json!(["column_renamed", "columns_changed"]), Severity::Error),
        ("alter table a drop column email", json!(["column_missing", "columns_changed"]), Severity::Error),
        ("alter table a rename document to paper", json!(["columns_changed"]), Severity::Warning),
        ("alter table a add column more text", json!(["columns_changed"]), Severity::Warning),
        ("alter table a alter column document type json", json!(["columns_changed"]), Severity::Warning),
    ] {
        let (database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("a", json!({"mask": ["email"], "except": ["name"], "level": "row"}))])
            .await?;
        connection.execute(change).await?;
        let none = Expectations::default();
        let found = finding(&mut connection, &none).await?.unwrap();
        assert_eq!((&found.details["reasons"], found.severity), (&reasons, severity), "{change}");
        apply(&database, &mut connection, &found).await?;
        assert_eq!(finding(&mut connection, &none).await?, None, "{change} after {:?}", found.remedy);
        let level: String = sqlx::query_scalar("select level from threadline_capture_policies")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(level, "row", "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn two_columns_that_swap_their_names_are_noticed() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("a", json!({"mask": ["email"]}))]).await?;
    connection
        .execute("alter table a rename email to x; alter table a rename name to email; alter table a rename x to name")
        .await?;
    let found = finding(&mut connection, &Expectations::default()).await?.unwrap();
    assert_eq!(found.details["columns"]["renamed"], json!([["email", "name"], ["name", "email"]]));
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(
        found.remedy,
        ["threadline gen-triggers --tables public.a --mask name --apply"],
        "the column that is hidden is the one that was"
    );
    Ok(())
}

#[tokio::test]
async fn a_function_that_was_changed_by_hand_is_an_error() -> anyhow::Result<()> {
    for change in [
        "create or replace function threadline_capture_updates_a() returns trigger language plpgsql security definer
         as 'begin return null; end'",
        "alter function threadline_capture_deletes_a() security invoker",
    ] {
        let (database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("a", json!({}))]).await?;
        connection.execute(change).await?;
        let none = Expectations::default();
        let found = finding(&mut connection, &none).await?.unwrap();
        assert_eq!((&found.details["reasons"], found.severity), (&json!(["function_changed"]), Severity::Error));
        assert_eq!(status(&mut connection, &none).await?.status, Status::DriftDetected);
        apply(&database, &mut connection, &found).await?;
        assert_eq!(finding(&mut connection, &none).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn functions_of_another_version_of_the_generator_are_a_warning() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    connection
        .execute(
            "create or replace function threadline_capture_changes_a() returns trigger language plpgsql security definer
             as 'begin return null; end';
             update threadline_capture_policies p set generator = 0, policy = jsonb_set(policy, '{functions,threadline_capture_changes_a}',
                 to_jsonb((select encode(sha256(convert_to(f.prosrc, 'UTF8')), 'hex') from pg_proc f
                           where f.proname = 'threadline_capture_changes_a')))",
        )
        .await?;
    let found = finding(&mut connection, &Expectations::default()).await?.unwrap();
    assert_eq!((&found.details["reasons"], found.severity), (&json!(["generator_older"]), Severity::Warning));
    Ok(())
}

#[tokio::test]
async fn a_renamed_table_is_still_captured_and_its_remedy_leaves_nothing_of_the_old_name()
-> anyhow::Result<()> {
    for (table, change) in [
        ("create table a (id int primary key)", "alter table a rename to b"),
        (
            "create table a (id int primary key) partition by range (id); create table a1 partition of a for values from (0) to (9)",
            "alter table a rename to b",
        ),
    ] {
        let (database, mut connection) = host(table).await?;
        capture(&mut connection, &[("a", json!({}))]).await?;
        connection.execute(change).await?;
        let none = Expectations::default();
        assert_eq!(public(&mut connection, &none).await?.covered, ["b"]);
        let found = finding(&mut connection, &none).await?.unwrap();
        assert_eq!(
            (&found.details["reasons"], found.severity),
            (&json!(["table_renamed"]), Severity::Warning)
        );
        apply(&database, &mut connection, &found).await?;
        let coverage = public(&mut connection, &none).await?;
        assert_eq!((coverage.covered, coverage.findings), (vec!["b".to_owned()], vec![]));
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from pg_proc where proname ~ '^threadline_capture_(changes|updates|deletes)_a$')
                  + (select count(*) from pg_trigger where tgname ~ '^threadline_[a-z]*_a$')
                  + (select count(*) from threadline_capture_policies where table_name = 'a')",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(left, 0);
    }
    Ok(())
}

/// As after a restore: the same names, another number for the table and, without its dropped column, for its columns.
#[tokio::test]
async fn a_restored_table_is_compared_by_the_names_of_its_columns() -> anyhow::Result<()> {
    let (_database, mut connection) =
        host("create table a (gone int, id int primary key, email text)").await?;
    connection.execute("alter table a drop column gone").await?;
    capture(&mut connection, &[("a", json!({"mask": ["email"]}))]).await?;
    let triggers: Vec<String> =
        sqlx::query_scalar("select pg_get_triggerdef(oid) from pg_trigger where tgname like 'threadline%'")
            .fetch_all(&mut connection)
            .await?;
    connection.execute("drop table a; create table a (id int primary key, email text)").await?;
    for trigger in triggers {
        connection.execute(AssertSqlSafe(trigger)).await?;
    }
    let found = finding(&mut connection, &Expectations::default()).await?.unwrap();
    assert_eq!((&found.details["reasons"], found.severity), (&json!(["table_replaced"]), Severity::Warning));
    Ok(())
}

#[tokio::test]
async fn of_the_elixir_librarys_triggers_is_said_what_can_be_known() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table posts (id int primary key, email text)").await?;
    connection.execute(LIBRARY_TRIGGER).await?;
    let matching = expecting(&[("posts", json!({"store_changed_from": false}))]);
    assert_eq!(status(&mut connection, &matching).await?.status, Status::ConfigMatchesDeployed);
    let hiding = expecting(&[("posts", json!({"store_changed_from": false, "mask": ["email"]}))]);
    let drifted = status(&mut connection, &hiding).await?;
    assert_eq!(
        (drifted.status, &drifted.diff["mask_only_in_config"]),
        (Status::DriftDetected, &json!(["email"]))
    );
    connection
        .execute(
            "create function threadline_capture_changes_posts() returns trigger language plpgsql as 'begin return null; end';
             create or replace trigger threadline_audit_posts after insert or update or delete on posts
             for each row execute function threadline_capture_changes_posts('id')",
        )
        .await?;
    for expectations in [hiding, Expectations::default()] {
        let unknown = status(&mut connection, &expectations).await?;
        assert_eq!((unknown.status, unknown.deployed), (Status::CouldNotIntrospect, None));
        assert!(unknown.warning.unwrap().contains("no policy is stored"));
    }
    connection
        .execute("create trigger threadline_audit_again after insert on posts for each row execute function threadline_capture_changes('id')")
        .await?;
    let unknown = status(&mut connection, &Expectations::default()).await?;
    assert!(unknown.warning.unwrap().contains("more than one trigger"));
    Ok(())
}

#[tokio::test]
async fn a_policy_without_a_trigger_and_one_without_a_table_are_drift() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key, email text)").await?;
    let expectations = expecting(&[("a", json!({"mask": ["email"]})), ("gone", json!({}))]);
    let all = policies(&mut connection, &StorageSchema::default(), &expectations).await?;
    let said: Vec<(Status, &str, Option<&str>)> =
        all.iter().map(|one| (one.status, one.warning.as_deref().unwrap(), one.hint.as_deref())).collect();
    assert_eq!(
        said,
        [
            (
                Status::DriftDetected,
                "it is not captured",
                Some("threadline gen-triggers --tables public.a --apply")
            ),
            (Status::DriftDetected, "the settings name a table that is not there", None),
        ]
    );
    assert!(all.iter().all(|one| one.deployed.is_none()));
    Ok(())
}
