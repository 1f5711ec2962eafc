//! `strict = true`: no change without somebody who makes it.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use threadline::coverage::{Expectations, FindingCode};

use super::{both_levels, capture, changes, coverage::public, host};

const ACTOR: &str = r#"set local threadline.actor_ref = '{"type": "anonymous"}'"#;

/// The SQLSTATE, message, detail and hint of what is refused.
async fn refusal(connection: &mut PgConnection, statement: &str) -> [String; 4] {
    let result = connection.execute(AssertSqlSafe(statement.to_owned())).await;
    let Err(sqlx::Error::Database(error)) = result else { panic!("{statement}: {result:?}") };
    let error = error.downcast::<sqlx::postgres::PgDatabaseError>();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    [text(Some(error.code())), text(Some(error.message())), text(error.detail()), text(error.hint())]
}

#[tokio::test]
async fn a_change_without_an_actor_is_refused_whatever_it_is() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) =
            host("create table a (id int primary key, v int); create table b (id int primary key)").await?;
        policy["strict"] = json!(true);
        connection.execute("insert into a values (1, 1), (2, 2)").await?;
        capture(&mut connection, &[("a", policy), ("b", json!({}))]).await?;
        for statement in [
            "insert into a values (3, 3)",
            "insert into a values (3, 3), (4, 4)",
            "update a set v = 9 where id = 1",
            "update a set v = v + 1",
            "delete from a where id = 1",
            "delete from a",
            "truncate a",
            "begin; set local threadline.actor_ref = '{not json'; insert into a values (3, 3)",
            "begin; set local threadline.actor_ref = '\"text\"'; insert into a values (3, 3)",
        ] {
            let [state, message, detail, hint] = refusal(&mut connection, statement).await;
            assert_eq!((state.as_str(), message.as_str()), ("TL005", "actor_required"), "{statement}");
            assert!(detail.contains("public.a") && hint.contains("threadline_begin"), "{detail} {hint}");
            connection.execute("rollback").await?;
        }
        // What changes nothing needs nobody, and another table is not concerned.
        connection
            .execute(
                "update a set v = v; update a set v = 0 where id > 100; delete from a where id > 100;
                 insert into a select 1 where false; insert into b values (1)",
            )
            .await?;
        assert_eq!(changes(&mut connection).await?.len(), 1);
        connection
            .execute(AssertSqlSafe(format!(
                "begin; {ACTOR}; insert into a values (3, 3); update a set v = 9; delete from a where id = 3; truncate a; commit"
            )))
            .await?;
        assert_eq!(changes(&mut connection).await?.len(), 1 + 1 + 3 + 1 + 1);
        let stored: serde_json::Value = sqlx::query_scalar(
            "select policy -> 'strict' from threadline_capture_policies where table_name = 'a'",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(stored, json!(true));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_actor_for_threadline_begin_is_none_for_a_strict_table() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) = host("create table a (id int primary key)").await?;
        policy["strict"] = json!(true);
        capture(&mut connection, &[("a", policy)]).await?;
        for (id, actor, is_accepted) in [
            (1, json!({}), false),
            (2, json!({"type": null}), false),
            (3, json!({"type": "user"}), false),
            (4, json!({"type": "user", "id": ""}), false),
            (5, json!({"type": "user", "id": 5}), false),
            (6, json!({"type": "robot", "id": "1"}), false),
            (7, json!({"type": "user", "id": "u1"}), true),
            (8, json!({"type": "service_account", "id": "u1", "more": 1}), true),
            (9, json!({"type": "anonymous"}), true),
        ] {
            let checked =
                connection.execute(AssertSqlSafe(format!("select threadline_check_actor('{actor}')"))).await;
            let written = connection
                .execute(AssertSqlSafe(format!(
                    "begin; set local threadline.actor_ref = '{actor}'; insert into a values ({id}); commit"
                )))
                .await;
            assert_eq!((checked.is_ok(), written.is_ok()), (is_accepted, is_accepted), "{actor}");
            if let Err(error) = written {
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                assert_eq!(code.as_deref(), Some("TL005"), "{actor}: {error}");
                connection.execute("rollback").await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_partition_of_a_strict_table_is_strict_however_it_is_written_to() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table p (id int primary key) partition by range (id);
         create table p1 partition of p for values from (0) to (10)",
    )
    .await?;
    capture(&mut connection, &[("p", json!({"strict": true}))]).await?;
    connection.execute("create table p2 partition of p for values from (10) to (20)").await?;
    for statement in
        ["insert into p values (1)", "insert into p1 values (1)", "insert into p2 values (11)", "truncate p1"]
    {
        let [state, _, detail, _] = refusal(&mut connection, statement).await;
        assert_eq!(state, "TL005", "{statement}");
        assert!(detail.contains("public.p "), "{detail}");
    }
    connection
        .execute(AssertSqlSafe(format!("begin; {ACTOR}; insert into p1 values (1); truncate p1; commit")))
        .await?;
    assert_eq!(changes(&mut connection).await?[1]["partition"], json!("public.p1"));
    Ok(())
}

#[tokio::test]
async fn a_partition_that_is_detached_from_a_strict_table_is_found() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10)",
    )
    .await?;
    capture(&mut connection, &[("p", json!({"strict": true}))]).await?;
    connection.execute("alter table p detach partition p1").await?;
    let found = public(&mut connection, &Expectations::default()).await?.findings;
    let found: Vec<_> = found.iter().filter(|one| one.table == "p1").map(|one| one.code).collect();
    assert_eq!(found, [FindingCode::PartitionWithoutCapture]);
    Ok(())
}
