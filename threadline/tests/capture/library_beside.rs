//! What the Elixir library meets on tables that triggers of ours capture.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{actors, both_levels, capture, changes, host};

const TABLES: &str = "create table posts (id bigint primary key, title text, seen integer);
    insert into posts values (1, 'a', 0), (2, 'b', 0);";

const BY_USER: &str = r#"select set_config('threadline.actor_ref', '{"type": "user", "id": "u-1"}', true);"#;

/// What the library's audited transaction looks for at its end, after these statements in one transaction.
async fn found(connection: &mut PgConnection, statements: &str) -> anyhow::Result<i64> {
    let mut transaction = connection.begin().await?;
    transaction.execute(AssertSqlSafe(statements.to_owned())).await?;
    let found = sqlx::query_scalar("select count(*) from audit_transactions where txid = txid_current()")
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(found)
}

#[tokio::test]
async fn an_update_that_changes_nothing_leaves_an_audited_transaction_of_the_library_something_to_link()
-> anyhow::Result<()> {
    for level in both_levels() {
        let (_database, mut connection) = host(TABLES).await?;
        let mut section = level.clone();
        section["except"] = json!(["seen"]);
        capture(&mut connection, &[("posts", section)]).await?;
        for update in [
            "update posts set title = title where id = 1",
            "update posts set title = title",
            "update posts set seen = seen + 1",
            "insert into posts values (1, 'a', 9) on conflict (id) do update set title = excluded.title",
        ] {
            assert_eq!(found(&mut connection, &format!("{BY_USER} {update}")).await?, 1, "{level}: {update}");
            // Without an actor, and in an audited transaction of ours, which makes its own when it ends, there is none.
            assert_eq!(found(&mut connection, update).await?, 0, "{level}: {update}");
            let begun = r#"select threadline_begin('{"actor": {"type": "user", "id": "u-1"}}');"#;
            assert_eq!(found(&mut connection, &format!("{begun} {update}")).await?, 0, "{level}: {update}");
        }
        let untouched = format!("{BY_USER} update posts set title = 'x' where id = 99");
        assert_eq!(found(&mut connection, &untouched).await?, 0, "{level}");
        assert_eq!(changes(&mut connection).await?, Vec::<Value>::new(), "{level}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_actor_is_kept_beside_and_stored_as_none_since_the_library_raises_on_it()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("posts", json!({}))]).await?;
    for (given, is_actor) in [
        (json!({"type": "user", "id": "u-1", "team": "t"}), true),
        (json!({"type": "anonymous"}), true),
        (json!({"type": "user", "id": 7}), false),
        (json!({"type": "robot", "id": "r-1"}), false),
        (json!({"type": "user"}), false),
        (json!({"type": "user", "id": ""}), false),
        (json!({"id": "u-1"}), false),
        (json!({"type": ["user"], "id": "u-1"}), false),
        (json!({}), false),
    ] {
        connection.execute("truncate audit_changes, audit_transactions").await?;
        let set = format!("select set_config('threadline.actor_ref', '{given}', true);");
        assert_eq!(found(&mut connection, &format!("{set} update posts set seen = seen + 1")).await?, 1);
        let stored = if is_actor {
            json!({"actor_ref": given})
        } else {
            let context =
                json!({"threadline.malformed": ["threadline.actor_ref"], "threadline.actor_ref": given});
            json!({"context": context})
        };
        assert_eq!(actors(&mut connection).await?, [stored], "{given}");
    }
    Ok(())
}
