//! Virtual generated columns, which PostgreSQL has from version 18 on: triggers cannot see their values.

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::capture::PlanError;

use super::{both_levels, capture, captures, changes, host, server_version};

const TABLE: &str =
    "create table a (id int primary key, a int, v int generated always as (a * 2) virtual, note text)";

#[tokio::test]
async fn a_virtual_column_may_be_redacted_and_reveals_nothing_of_the_column_that_it_is_computed_from()
-> anyhow::Result<()> {
    let (_database, mut connection) = host("select 1").await?;
    if server_version(&mut connection).await? < 180_000 {
        return Ok(());
    }
    for policy in both_levels() {
        for redaction in ["mask", "exclude"] {
            for columns in [json!(["v"]), json!(["a"]), json!(["a", "v"])] {
                let (_database, mut connection) = host(TABLE).await?;
                capture(&mut connection, &[("a", json!({"level": policy["level"], redaction: columns}))])
                    .await?;
                connection.execute("insert into a (id, a) values (1, 4711); update a set a = 4712, note = 'x'; delete from a").await?;
                let recorded: Vec<Value> = changes(&mut connection).await?;
                assert_eq!(recorded.len(), 3);
                let text = json!(recorded).to_string();
                assert!(!text.contains("9422") && !text.contains("9424"), "{text}");
                let hides = columns.as_array().unwrap().contains(&json!("a"));
                assert_eq!(text.contains("4711"), !hides, "{text}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_virtual_column_is_no_key() -> anyhow::Result<()> {
    let (_database, mut connection) = host("select 1").await?;
    if server_version(&mut connection).await? < 180_000 {
        return Ok(());
    }
    let (_database, mut connection) =
        host("create table a (a int not null, v int generated always as (a * 2) virtual not null)").await?;
    let refused = captures(&mut connection, &[("a", json!({"primary_key": ["v"]}))]).await;
    let Err(PlanError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.term, "primary_key_without_index");
    Ok(())
}
