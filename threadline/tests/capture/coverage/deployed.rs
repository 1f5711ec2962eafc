//! What a deployed policy hides stays hidden, whoever generates the triggers again.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{capture, host, threadline};

const TABLE: &str = "create table t (id int primary key, name text, email text, document jsonb, secret text); create table u (id int primary key)";

/// What is stored of a new row.
async fn stored(connection: &mut PgConnection, id: i32) -> anyhow::Result<Value> {
    let insert = format!("insert into t values ({id}, 'n', 'e', '{{\"a\": 1}}', 's')");
    connection.execute(AssertSqlSafe(insert)).await?;
    let statement =
        "select data_after from audit_changes where table_pk ->> 'id' = $1::text and op = 'insert'";
    Ok(sqlx::query_scalar(statement).bind(id).fetch_one(connection).await?)
}

#[tokio::test]
async fn the_command_that_a_table_needs_to_be_ready_keeps_its_deployed_policy() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    let policy = json!({"mask": ["secret"], "exclude": ["email"], "except": ["name"], "level": "row"});
    capture(&mut connection, &[("t", policy)]).await?;
    connection.execute("alter table t rename secret to token; drop trigger threadline_audit_t on t").await?;
    let ended = threadline(&database, "", &["continuity", "--table", "t", "--json"])?;
    let said: Value = serde_json::from_str(&ended.out)?;
    let hint = said["problems"][0]["hint"].as_str().unwrap();
    assert_eq!(
        hint,
        "threadline gen-triggers --tables public.t --exclude email --mask token --except-columns name --level row"
    );
    let arguments: Vec<&str> = hint.split(' ').skip(1).chain(["--apply"]).collect();
    let ended = threadline(&database, "", &arguments)?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let image = json!({"id": 1, "name": "n", "document": {"a": 1}, "token": "[REDACTED]"});
    assert_eq!(stored(&mut connection, 1).await?, image);
    // What options cannot say is said by the settings.
    capture(&mut connection, &[("t", json!({"paths": ["document.a"]}))]).await?;
    connection.execute("drop trigger threadline_audit_t on t").await?;
    let ended = threadline(&database, "", &["continuity", "--table", "t"])?;
    assert!(
        ended.out.starts_with("not_captured: ")
            && ended.out.contains("as the section [capture.tables.\"public.t\"] of audit.toml"),
        "{}",
        ended.out
    );
    Ok(())
}

#[tokio::test]
async fn triggers_that_would_store_what_the_deployed_policy_hides_are_refused_unless_the_settings_decide()
-> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("t", json!({"mask": ["secret"], "exclude": ["email"]})), ("u", json!({}))])
        .await?;
    let elsewhere = "[capture.tables.\"u\"]\n";
    for (settings, more) in [
        ("", &["--apply"][..]),
        ("", &["--dry-run"]),
        ("", &["--mask", "secret", "--apply"]),
        ("", &["--to-library", "--except-columns", "name", "--apply"]),
        (elsewhere, &["--apply"]),
    ] {
        let ended = threadline(&database, settings, &[&["gen-triggers", "--tables", "u,t"], more].concat())?;
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{more:?}");
        assert!(ended.error.contains("policy_dropped: public.t: "), "{}", ended.error);
        let kept = "threadline gen-triggers --tables public.t --exclude email --mask secret keeps it hidden";
        assert!(ended.error.contains(kept), "{}", ended.error);
    }
    let hidden = json!({"id": 1, "name": "n", "document": {"a": 1}, "secret": "[REDACTED]"});
    assert_eq!(stored(&mut connection, 1).await?, hidden);
    for (settings, more) in [
        ("", &["--tables", "t", "--mask", "secret,email"][..]),
        ("[capture.tables.\"t\"]\nmask = [\"secret\"]\n", &["--tables", "t", "--exclude", "email"]),
        ("", &["--tables", "u"]),
        ("[capture.tables.\"t\"]\n", &["--tables", "t"]),
    ] {
        let ended = threadline(&database, settings, &[&["gen-triggers", "--apply"], more].concat())?;
        assert_eq!(ended.status, Some(0), "{}", ended.error);
    }
    assert_eq!(stored(&mut connection, 2).await?["secret"], "s");
    // A policy that this version cannot read may hide anything.
    connection.execute("update threadline_capture_policies set policy = '{\"veil\": [\"secret\"]}'").await?;
    let ended = threadline(&database, "", &["gen-triggers", "--tables", "t", "--apply"])?;
    assert_eq!(ended.status, Some(2));
    assert!(ended.error.contains("policy_dropped: "), "{}", ended.error);
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_left_to_the_elixir_library_keeps_its_deployed_policy() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    let policy = json!({"mask": ["secret"], "paths": ["document.a"], "mask_placeholder": "***"});
    capture(&mut connection, &[("t", policy)]).await?;
    connection.execute("alter table t rename document to paper").await?;
    let ended = threadline(&database, "", &["gen-triggers", "--to-library", "--tables", "t", "--apply"])?;
    assert_eq!(ended.status, Some(0), "{}", ended.error);
    let used = "its policy is the one that is deployed: table=public.t level=statement key=id exclude= mask=secret hash= paths=paper.a";
    assert!(ended.error.starts_with(used), "{}", ended.error);
    assert!(ended.out.starts_with("left to the library: table=public.t "), "{}", ended.out);
    let hidden = json!({"id": 1, "name": "n", "email": "e", "paper": {"a": "***"}, "secret": "***"});
    assert_eq!(stored(&mut connection, 1).await?, hidden);
    Ok(())
}
