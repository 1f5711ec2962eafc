//! What logical replication applies.

use std::time::Duration;

use sandbox::{
    fixture::timeline_database_on, postgres::Postgres, rights::as_superuser, wait, work_dir::WorkDir,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{capture, changes};

const TABLES: &str = "create table always (id int primary key, body text); create table ordinary (id int primary key, body text);
                      create table by_statement (id int primary key, body text)";

/// It is applied with an empty search path, and row by row: triggers of statement level do not fire.
#[tokio::test]
async fn what_a_subscription_applies_is_captured_by_row_triggers_that_fire_always_and_by_no_others()
-> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start_with(&work_dir, false, "wal_level = logical")?;
    let mut publisher = PgConnection::connect(&server.create_database("publisher", None).await?).await?;
    publisher.execute(TABLES).await?;
    publisher.execute("create publication everything for all tables").await?;
    publisher.execute("select pg_create_logical_replication_slot('applied', 'pgoutput')").await?;
    let database = timeline_database_on(&server, "subscriber").await?;
    let mut connection = database.connect().await?;
    connection.execute(TABLES).await?;
    let masked = |level: &str| json!({"level": level, "mask": ["body"]});
    capture(
        &mut connection,
        &[("always", masked("row")), ("ordinary", masked("row")), ("by_statement", masked("statement"))],
    )
    .await?;
    connection.execute("alter table always enable always trigger threadline_audit_always").await?;
    let subscription = format!(
        "create subscription applied connection '{}' publication everything
         with (create_slot = false, slot_name = applied, copy_data = false)",
        as_superuser(&server.url("publisher"))
    );
    database.superuser().await?.execute(AssertSqlSafe(subscription)).await?;

    for table in ["by_statement", "ordinary", "always"] {
        publisher
            .execute(AssertSqlSafe(format!(
                "insert into {table} values (1, 'RAW'); update {table} set id = 2; update {table} set body = 'RAW2'; delete from {table};
                 insert into {table} values (3, 'last')"
            )))
            .await?;
    }
    // The last transaction is applied when its last row is there.
    wait::until_some("the subscription to apply everything", Duration::from_secs(60), async || {
        let row: Option<i32> =
            sqlx::query_scalar("select id from always where id = 3").fetch_optional(&mut connection).await?;
        Ok(row)
    })
    .await?;
    let rows = changes(&mut connection).await?;
    assert!(rows.iter().all(|row| row["table_name"] == "always"), "{rows:?}");
    let said: Vec<_> =
        rows.iter().map(|row| json!([row["op"], row["table_pk"]["id"], row["key_before"]["id"]])).collect();
    assert_eq!(
        said,
        [
            json!(["insert", "1", null]),
            json!(["update", "2", "1"]),
            json!(["update", "2", null]),
            json!(["delete", "2", null]),
            json!(["insert", "3", null]),
        ]
    );
    assert!(rows.iter().all(|row| !row.to_string().contains("RAW")), "{rows:?}");
    Ok(())
}
