//! What is said of errors, by real servers.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::wait;
use sqlx::{Connection as _, Executor as _};

#[tokio::test]
async fn detail_and_hint_are_said_where_they_are_not_about_a_row() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut connection = pipeline.timeline.connect().await?;
    connection
        .execute(
            "create table t (id int primary key, n int check (n > 0)); create view v as select * from t;
             insert into t values (7531, 1); create type kind as enum ('a')",
        )
        .await?;
    for (statement, says) in [
        ("select * from nowhere", &["relation \"nowhere\" does not exist (SQLSTATE 42P01)"][..]),
        ("select nosuch(1)", &["(SQLSTATE 42883)", "; hint: No function matches"]),
        (
            "drop table t",
            &["(SQLSTATE 2BP01)", "; detail: view v depends on table t", "; hint: Use DROP ... CASCADE"],
        ),
        (
            "insert into t values (7531, 1)",
            &["duplicate key value violates unique constraint \"t_pkey\" (SQLSTATE 23505)"],
        ),
        ("insert into t values (7532, -7531)", &["violates check constraint", "(SQLSTATE 23514)"]),
        ("insert into t values (null, 7531)", &["null value in column \"id\"", "(SQLSTATE 23502)"]),
        ("select '7531x'::int", &["invalid input syntax for type integer: \"…\" (SQLSTATE 22P02)"]),
        ("select '{\"a\": 7531x}'::jsonb", &["invalid input syntax for type json (SQLSTATE 22P02)"]),
        ("select '7531'::kind", &["invalid input value for enum kind: \"…\""]),
        ("select 'x7531'::timestamptz", &["(SQLSTATE 22007)"]),
        ("select 75317531753175::int", &["integer out of range (SQLSTATE 22003)"]),
        ("select 1 / 0", &["division by zero (SQLSTATE 22012)"]),
    ] {
        let error = connection.execute(statement).await.expect_err(statement);
        let said = errors::database(&error);
        for words in says {
            assert!(said.contains(words), "{statement}: {said}");
        }
        assert!(!said.contains("7531") && !said.contains("at line"), "{statement}: {said}");
    }
    connection.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_of_a_row_is_in_a_failure_or_a_log() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let secret = "7531a2b4-0000-4000-8000-123456789abc";
    let constraint =
        format!("alter table audit_actions add constraint picky check (actor_ref->>'id' <> '{secret}')");
    pipeline.timeline.connect().await?.execute(sqlx::AssertSqlSafe(constraint)).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (mut rows, ids) = samples(3);
    rows[1].actor_id = Some(secret.parse()?);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&[ids[0], ids[2]]).await?;
    let failures = wait::until_some("the dead letter", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok((!failures.is_empty()).then_some(failures))
    })
    .await?;
    let error = failures[0]["error"].as_str().unwrap_or_default();
    assert!(error.contains("violates check constraint \"picky\" (SQLSTATE 23514)"), "{error}");
    for text in [error, &consumer.log()] {
        assert!(
            !text.contains(secret) && !text.contains("Failing row") && !text.contains("at line"),
            "{text}"
        );
    }
    Ok(())
}
