//! What only some versions of PostgreSQL have.

use serde_json::json;
use sqlx::Executor as _;
use threadline::capture::PlanError;

use super::{both_levels, capture, captures, changes, host, server_version};

const VIRTUAL: &str =
    "create table t (id int primary key, a int, secret text, v int generated always as (a * 2) virtual,
                                       told text generated always as (upper(secret)) virtual)";

/// From 18 on. A trigger sees null in them, and a statement that names one in a transition table is aborted.
#[tokio::test]
async fn virtual_columns_are_left_out_and_the_writes_succeed() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) = host("select 1").await?;
        if server_version(&mut connection).await? < 180_000 {
            return Ok(());
        }
        connection.execute(VIRTUAL).await?;
        let more = json!({"mask": ["secret"], "exclude": ["told"]});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        capture(&mut connection, &[("t", policy)]).await?;
        connection.execute("insert into t (id, a, secret) values (1, 7, 'x'), (2, 8, 'y')").await?;
        connection.execute("update t set a = a + 1; delete from t").await?;
        let rows = changes(&mut connection).await?;
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[0]["data_after"], json!({"id": 1, "a": 7, "secret": "[REDACTED]"}));
        assert_eq!(rows[2]["changed_fields"], json!(["a"]));
        assert_eq!(rows[2]["changed_from"], json!({"a": 7}));
        assert_eq!(rows[4]["data_before"], json!({"id": 1, "a": 8, "secret": "[REDACTED]"}));
    }
    Ok(())
}

#[tokio::test]
async fn a_virtual_column_that_is_added_later_aborts_no_write_and_is_left_out_after_another_run()
-> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host("create table t (id int primary key, a int)").await?;
        if server_version(&mut connection).await? < 180_000 {
            return Ok(());
        }
        capture(&mut connection, &[("t", policy.clone())]).await?;
        connection.execute("alter table t add v int generated always as (a * 2) virtual").await?;
        connection
            .execute("insert into t values (1, 7), (2, 8); update t set a = a + 1; delete from t")
            .await?;
        let before = changes(&mut connection).await?;
        assert_eq!(before.len(), 6);
        assert_eq!(before[2]["changed_fields"], json!(["a"]));
        capture(&mut connection, &[("t", policy)]).await?;
        connection.execute("insert into t values (3, 9)").await?;
        let image = changes(&mut connection).await?.pop().unwrap()["data_after"].clone();
        assert_eq!(image, json!({"id": 3, "a": 9}));
    }
    Ok(())
}

/// From 18 on, a primary key may end in a range.
#[tokio::test]
async fn a_key_without_overlaps_is_refused() -> anyhow::Result<()> {
    let (_database, mut connection) = host("select 1").await?;
    if server_version(&mut connection).await? < 180_000 {
        return Ok(());
    }
    connection
        .execute(
            "create table t (room int4range, during daterange, primary key (room, during without overlaps))",
        )
        .await?;
    let refused = captures(&mut connection, &[("t", json!({}))]).await;
    assert!(matches!(&refused, Err(PlanError::Refused(refusal)) if refusal.term == "primary_key_type"));
    Ok(())
}
