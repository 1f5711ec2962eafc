//! What is generated: names, reruns, roll-backs.

use serde_json::json;
use sqlx::Executor as _;
use threadline::{
    StorageSchema,
    capture::{DeployedPolicy, HostTable, Migration, Policy, names},
};

use super::{capture, captures, changes, host, run};

#[test]
fn migrations_are_named_as_the_elixir_librarys() {
    let tables =
        |names: &[&str]| -> Vec<HostTable> { names.iter().map(|name| name.parse().unwrap()).collect() };
    let long = "a_table_name_that_is_longer_than_thirty_six_bytes";
    for (of, ordinal, name) in [
        (tables(&["users"]), 1, "threadline_triggers_users"),
        (tables(&["users", "billing.invoices"]), 1, "threadline_triggers_users_billing_invoices"),
        (tables(&["users", "billing.invoices"]), 2, "threadline_triggers_users_billing_invoices_2"),
        (tables(&[long, "users"]), 1, "threadline_triggers_a_table_name_that_is_longer_th_737256ff6a67"),
        (tables(&["users", long]), 3, "threadline_triggers_users_a_table_name_that_is_l_737256ff6a67_3"),
    ] {
        assert_eq!(names::migration(&of, ordinal), name);
    }
}

#[tokio::test]
async fn triggers_and_functions_are_named_as_the_elixir_librarys() -> anyhow::Result<()> {
    let names = [
        ("users", "threadline_capture_changes_users", "threadline_audit_users"),
        ("line_items", "threadline_capture_changes_line_items", "threadline_audit_line_items"),
        ("legacy_log", "threadline_capture_changes_legacy_log", "threadline_audit_legacy_log"),
        ("MixedCase", "threadline_capture_changes_MixedCase", "threadline_audit_MixedCase"),
        (
            "billing.invoices",
            "threadline_capture_changes_billing_invoices_9bba11019407",
            "threadline_audit_billing_invoices",
        ),
        (
            "a_table_name_that_is_longer_than_thirty_six_bytes",
            "threadline_capture_changes_a_table_name_that_is_lo_1a855757c4ee",
            "threadline_audit_a_table_name_that_is_longer_than_thirty_six_by",
        ),
        (
            "t36_567890123456789012345678901234567",
            "threadline_capture_changes_t36_5678901234567890123_5a2176e95e01",
            "threadline_audit_t36_567890123456789012345678901234567",
        ),
        (
            "public_tail_0123456789ab",
            "threadline_capture_changes_public_tail_0123456789a_5de5ac0136d0",
            "threadline_audit_public_tail_0123456789ab",
        ),
        (
            "billing.a_rather_long_table_name_in_another_schema_to_cut_down_at_63",
            "threadline_capture_changes_billing_a_rather_long_t_a59537dbde21",
            "threadline_audit_billing_a_rather_long_table_name_in_another_sc",
        ),
        (
            "a_sixty_byte_table_name_89012345678901234567890123456789012345",
            "threadline_capture_changes_a_sixty_byte_table_name_2ef787acb900",
            "threadline_audit_a_sixty_byte_table_name_8901234567890123456789",
        ),
    ];
    let (_database, mut connection) = host("create schema billing").await?;
    for (table, function, trigger) in names {
        let quoted = table.parse::<HostTable>()?.quoted();
        connection
            .execute(sqlx::AssertSqlSafe(format!("create table {quoted} (id int primary key)")))
            .await?;
        capture(&mut connection, &[(table, json!({}))]).await?;
        let found: Vec<(String, String)> = sqlx::query_as(
            "select t.tgname::text, p.proname::text from pg_trigger t join pg_proc p on p.oid = t.tgfoid
             where t.tgrelid = $1::regclass and (t.tgname like 'threadline\\_audit\\_%'
                or p.proname like 'threadline\\_capture\\_changes%')",
        )
        .bind(&quoted)
        .fetch_all(&mut connection)
        .await?;
        assert_eq!(found, [(trigger.to_owned(), function.to_owned())]);
    }
    Ok(())
}

#[tokio::test]
async fn a_rerun_leaves_triggers_disabled_or_always_as_they_are() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table a (id int primary key); create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20)",
    )
    .await?;
    let tables = [("a", json!({})), ("p", json!({}))];
    capture(&mut connection, &tables).await?;
    connection
        .execute(
            "alter table a enable always trigger threadline_audit_a; alter table a disable trigger threadline_delete_a;
             alter table p2 disable trigger threadline_audit_p; alter table p1 enable always trigger threadline_audit_p",
        )
        .await?;
    let states = "select string_agg(tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text, ', ' order by tgrelid::regclass::text, tgname)
                  from pg_trigger where tgname like 'threadline%'";
    let before: String = sqlx::query_scalar(states).fetch_one(&mut connection).await?;
    capture(&mut connection, &tables).await?;
    let after: String = sqlx::query_scalar(states).fetch_one(&mut connection).await?;
    assert_eq!(before, after);
    Ok(())
}

#[tokio::test]
async fn a_switch_of_level_leaves_nothing_behind_and_captures_each_change_once() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key, v int)").await?;
    let functions = "select array_agg(proname::text order by proname) from pg_proc where proname ~ '^threadline_capture_.*_a$'";
    for (level, expected) in [
        (
            "statement",
            vec![
                "threadline_capture_changes_a",
                "threadline_capture_deletes_a",
                "threadline_capture_updates_a",
            ],
        ),
        ("row", vec!["threadline_capture_changes_a"]),
        (
            "statement",
            vec![
                "threadline_capture_changes_a",
                "threadline_capture_deletes_a",
                "threadline_capture_updates_a",
            ],
        ),
    ] {
        capture(&mut connection, &[("a", json!({"level": level}))]).await?;
        let found: Vec<String> = sqlx::query_scalar(functions).fetch_one(&mut connection).await?;
        assert_eq!(found, expected);
        connection.execute("insert into a values (1, 1)").await?;
        connection.execute("update a set v = 2").await?;
        connection.execute("delete from a").await?;
        let stored: String = sqlx::query_scalar("select level from threadline_capture_policies")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(stored, level);
    }
    assert_eq!(changes(&mut connection).await?.len(), 9);
    Ok(())
}

#[tokio::test]
async fn the_first_migration_rolls_back_to_nothing_and_a_rerun_to_itself() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key)").await?;
    let first = capture(&mut connection, &[("a", json!({}))]).await?;
    let again = capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    run(&mut connection, &again.down).await?;
    connection.execute("insert into a values (1)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    run(&mut connection, &first.down).await?;
    connection.execute("insert into a values (2)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_proc where proname ~ '^threadline_capture_(changes|updates|deletes)_')
              + (select count(*) from pg_trigger where tgname like 'threadline%') + (select count(*) from threadline_capture_policies)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test]
async fn a_function_that_serves_another_table_is_neither_overwritten_nor_dropped() -> anyhow::Result<()> {
    let (_database, mut connection) =
        host("create table a (id int primary key); create table b (id int primary key)").await?;
    let first = capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    connection
        .execute("create trigger theirs after insert on b for each row execute function threadline_capture_changes_a('id')")
        .await?;
    let planned = captures(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    let migration = Migration::new(&planned, 1, |_| true);
    let refused = run(&mut connection, &migration.up).await.unwrap_err().to_string();
    assert!(refused.contains("serves other tables: public.b"), "{refused}");
    connection.execute("rollback").await?;
    run(&mut connection, &first.down).await?;
    connection.execute("insert into b values (1)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn tables_that_share_a_function_are_generated_together_as_the_refusal_says() -> anyhow::Result<()> {
    let table = "create table t (id int primary key, secret text)";
    for level in super::both_levels() {
        let (_database, mut connection) = host(table).await?;
        let mut policy = level.clone();
        policy["mask"] = json!(["secret"]);
        capture(&mut connection, &[("t", policy.clone())]).await?;
        connection.execute("alter table t rename to tmp").await?;
        connection.execute(table).await?;
        let planned = captures(&mut connection, &[("t", policy.clone())]).await?;
        let refused = run(&mut connection, &Migration::new(&planned, 1, |_| true).up).await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        let hint = refused.downcast_ref::<sqlx::postgres::PgDatabaseError>().hint().unwrap_or_default();
        assert!(hint.ends_with("threadline gen-triggers --tables public.t,public.tmp"), "{hint}");
        connection.execute("rollback").await?;
        // What was renamed keeps its policy.
        let deployed =
            DeployedPolicy::read(&mut connection, &StorageSchema::default(), &["tmp".parse()?]).await?;
        let refused = deployed[&"tmp".parse()?].check(&Policy::default()).unwrap_err();
        assert_eq!(refused.term, "policy_dropped");
        let mut together = [("t", policy.clone()), ("tmp", policy)];
        if level["level"] == "row" {
            together.reverse();
        }
        capture(&mut connection, &together).await?;
        connection.execute("insert into t values (1, 's'); insert into tmp values (1, 's')").await?;
        let recorded = changes(&mut connection).await?;
        let tables: Vec<_> = recorded.iter().map(|one| &one["table_name"]).collect();
        assert_eq!(tables, ["t", "tmp"], "{level}");
        assert!(recorded.iter().all(|one| one["data_after"]["secret"] == "[REDACTED]"), "{level}");
    }
    Ok(())
}

#[tokio::test]
async fn a_migration_for_another_shape_of_the_table_is_refused_where_it_would_leak() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key, secret text)").await?;
    let planned = captures(&mut connection, &[("a", json!({"mask": ["secret"]}))]).await?;
    let migration = Migration::new(&planned, 1, |_| false);
    connection.execute("alter table a rename secret to token").await?;
    let refused = run(&mut connection, &migration.up).await.unwrap_err().to_string();
    assert!(refused.contains("has no column secret"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_timeline_of_an_older_version_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key)").await?;
    connection.execute("drop function threadline_touch_transaction()").await?;
    let error = capture(&mut connection, &[("a", json!({}))]).await.unwrap_err();
    let Some(sqlx::Error::Database(error)) = error.downcast_ref() else { panic!("{error}") };
    let hint = error.downcast_ref::<sqlx::postgres::PgDatabaseError>().hint();
    assert_eq!(hint, Some("run threadline install"), "{error}");
    connection.execute("rollback; insert into a values (1)").await?;
    Ok(())
}

#[tokio::test]
async fn a_trigger_under_another_name_is_replaced_and_its_function_stays_where_it_is_made_again()
-> anyhow::Result<()> {
    let tables = "create table a (id int primary key, v int);
         create table p (id int primary key, v int) partition by range (id); create table p1 partition of p for values from (0) to (10)";
    for level in super::both_levels() {
        let (_database, mut connection) = host(tables).await?;
        let tables = [("a", level.clone()), ("p", json!({}))];
        capture(&mut connection, &tables).await?;
        connection
            .execute(
                "alter trigger threadline_audit_a on a rename to other; drop trigger threadline_audit_p on p;
                 create trigger other after insert on p1 for each row execute function threadline_capture_changes_p('id')",
            )
            .await?;
        capture(&mut connection, &tables).await?;
        connection
            .execute(
                "insert into a values (1, 1); update a set v = 2; delete from a; insert into p values (1, 1)",
            )
            .await?;
        assert_eq!(changes(&mut connection).await?.len(), 4, "{level}");
        let others: i64 = sqlx::query_scalar("select count(*) from pg_trigger where tgname = 'other'")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(others, 0, "{level}");
    }
    Ok(())
}

/// The file is there to be read: what is generated for one table, at each level.
#[tokio::test]
async fn the_example_is_what_is_generated() -> anyhow::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/capture/example.sql");
    let (_database, mut connection) =
        host("create table users (id bigint primary key, name text, email text, password_hash text)").await?;
    let mut text = String::new();
    for level in ["statement", "row"] {
        let policy = json!({"level": level, "exclude": ["password_hash"], "mask": ["email"]});
        text += &Migration::new(&captures(&mut connection, &[("users", policy)]).await?, 1, |_| false).up;
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(path, &text)?;
    }
    assert_eq!(
        text,
        std::fs::read_to_string(path)?,
        "run this test once with UPDATE_SNAPSHOTS=1, and read the difference"
    );
    Ok(())
}
