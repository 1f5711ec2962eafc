//! Transactions: of an actor, one by itself, and how it would be undone.

use serde_json::{Value, json};
use sqlx::Executor as _;
use uuid::Uuid;

use super::{super::capture, TIMELINE, assert_answers, threadline, timeline};

#[tokio::test]
async fn transactions_are_shown() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    let (first, second) = ("b0000000-0000-4000-8000-000000000001", "b0000000-0000-4000-8000-000000000002");
    assert_answers(
        &database,
        "transactions.txt",
        &[
            &["actor", "user:u1"],
            &["actor", "job:reprice", "--json"],
            &["actor", "job:reprice", "--tsv"],
            &["actor", "user:u1", "to:2026-05-14"],
            &["actor", "user:u1", "table:posts"],
            &["actor", "robot:r1"],
            &["transaction", first],
            &["transaction", first, "--json", "--limit", "1"],
            &["transaction", first, "--tsv", "--limit", "1"],
            &["transaction", second, "--limit", "1"],
            &["transaction", "b0000000-0000-4000-8000-000000000009"],
            &["incident", second],
            &["incident", first],
            &["incident", second, "--tsv"],
            &["incident", second, "--json", "--limit", "1"],
            &["undo-plan", "b0000000-0000-4000-8000-000000000003"],
            &["undo-plan", "c0000000-0000-4000-8000-000000000005", "--json"],
            &["undo-plan", "b0000000-0000-4000-8000-000000000009"],
        ],
    )
}

#[tokio::test]
async fn an_undo_plan_is_a_script_that_does_what_it_says() -> anyhow::Result<()> {
    let (database, mut connection) =
        timeline("create table posts (id int primary key, price numeric)").await?;
    capture(&mut connection, &[("posts", json!({}))]).await?;
    connection.execute("insert into posts values (7, 19.90)").await?;
    connection.execute("update posts set price = 21.00").await?;
    let id: Uuid = sqlx::query_scalar("select transaction_id from audit_changes where op = 'update'")
        .fetch_one(&mut connection)
        .await?;
    let ended = threadline(&database, &["undo-plan", &id.to_string()])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), ""));
    connection.execute(sqlx::AssertSqlSafe(ended.out.replace("rollback;", "commit;"))).await?;
    let price: String =
        sqlx::query_scalar("select price::text from posts").fetch_one(&mut connection).await?;
    assert_eq!(price, "19.90");
    // A change by itself, for a program.
    let change: Uuid = sqlx::query_scalar("select id from audit_changes where op = 'insert'")
        .fetch_one(&mut connection)
        .await?;
    let ended = threadline(&database, &["undo-plan", &change.to_string(), "--json"])?;
    let plan: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(plan["statements"][0]["kind"], "delete", "{plan}");
    Ok(())
}
