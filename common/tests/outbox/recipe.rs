//! What `docs/retention.md` tells people to run, as it stands there.

use common::session::Session;
use sandbox::fixture::source_database;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    reader::{committed, read_all},
    retention::row,
};

/// The blocks of SQL in `docs/retention.md`: grants, clean-up, question.
fn recipe() -> [String; 3] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/retention.md");
    let text = std::fs::read_to_string(path).expect("docs/retention.md");
    let blocks: Vec<String> = text
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("an end").to_owned())
        .collect();
    blocks.try_into().expect("three blocks")
}

async fn denied(connection: &mut Session, statement: &str) {
    let error = connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect_err(statement);
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{statement}");
}

#[tokio::test]
async fn the_documented_recipe_deletes_what_is_old_and_delivered_with_no_other_rights() -> anyhow::Result<()>
{
    // The role that the recipe names; one test creates it, since roles belong to the whole server.
    let role = "audit_cleanup";
    let database = source_database().await?;
    let mut connection = Session::from(database.superuser().await?);
    let delivered = [row(&mut connection, 120).await?, row(&mut connection, 91).await?];
    row(&mut connection, 30).await?;
    read_all(&mut connection, 10).await?;
    let [grants, clean_up, question] = recipe();
    let become_role =
        format!("create role {role}; grant select, delete on audit_events to {role}; set role {role}");
    connection.execute(sqlx::AssertSqlSafe(become_role)).await?;
    denied(&mut connection, "select outbox.safe_before()").await;
    connection.execute("reset role").await?;
    connection.execute(sqlx::AssertSqlSafe(grants)).await?;
    connection.execute(sqlx::AssertSqlSafe(format!("set role {role}"))).await?;

    let may: bool =
        sqlx::query_scalar(sqlx::AssertSqlSafe(question.clone())).fetch_one(&mut connection).await?;
    assert!(may);
    let deleted = connection.execute(sqlx::AssertSqlSafe(clean_up.clone())).await?.rows_affected();
    assert_eq!(deleted, delivered.len() as u64);

    connection.execute("reset role").await?;
    let held = row(&mut connection, 100).await?;
    let left: Vec<Uuid> = sqlx::query_scalar("select id from audit_events order by inserted_at")
        .fetch_all(&mut connection)
        .await?;
    assert_eq!((left.len(), left[0]), (2, held));
    connection.execute(sqlx::AssertSqlSafe(format!("set role {role}"))).await?;
    let may: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(question)).fetch_one(&mut connection).await?;
    assert!(!may);
    let deleted = connection.execute(sqlx::AssertSqlSafe(clean_up)).await?.rows_affected();
    assert_eq!(deleted, 0);

    for relation in ["entries", "rounds", "settled", "failures", "settled_snapshots", "undelivered"] {
        denied(&mut connection, &format!("select from outbox.{relation}")).await;
    }
    connection.execute("reset role").await?;
    let callable: Vec<String> = sqlx::query_scalar(
        "select proname::text from pg_proc
         where pronamespace = 'outbox'::regnamespace and has_function_privilege($1, oid, 'execute')",
    )
    .bind(role)
    .fetch_all(&mut connection)
    .await?;
    assert_eq!(callable, ["safe_before"]);
    connection.execute(sqlx::AssertSqlSafe(format!("drop owned by {role}; drop role {role}"))).await?;
    Ok(())
}

#[tokio::test]
async fn a_library_asked_after_the_question_in_one_transaction_deletes_nothing_that_came_in_between()
-> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 100).await?;
    read_all(&mut connection, 10).await?;
    let [_, _, question] = recipe();
    connection.execute("begin; set transaction isolation level repeatable read").await?;
    let may: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(question)).fetch_one(&mut connection).await?;
    assert!(may);
    let imported = row(&mut database.session().await?, 110).await?;
    let library =
        "delete from audit_events where inserted_at < (now() - interval '90 days') at time zone 'UTC'";
    assert_eq!(connection.execute(library).await?.rows_affected(), 1);
    connection.execute("commit").await?;
    assert_eq!(committed(&mut connection).await?, [imported]);
    Ok(())
}
