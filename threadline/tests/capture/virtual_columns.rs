//! Virtual generated columns, which PostgreSQL has from version 18 on: triggers cannot see their values.

use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};
use threadline::capture::PlanError;

use super::{both_levels, capture, captures, changes, host};

const TABLE: &str =
    "create table a (id int primary key, a int, v int generated always as (a * 2) virtual, note text)";

/// Whether the server has them. `scripts/test-newest` runs these tests on one that does.
async fn has_virtual_columns() -> anyhow::Result<bool> {
    let (_database, mut connection) = host("select 1").await?;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await?;
    if version < 180_000 {
        println!("NOT TESTED on PostgreSQL {}: there are no virtual columns", version / 10_000);
    }
    Ok(version >= 180_000)
}

async fn write(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    for statement in [
        "insert into a (id, a) values (1, 7)",
        "insert into a (id, a) select n, n from generate_series(2, 4) n",
        "update a set a = 8 where id = 1",
        "update a set a = a + 1 where id > 1",
        "merge into a using (values (1, 9), (5, 5)) s (id, a) on a.id = s.id
         when matched then update set a = s.a when not matched then insert (id, a) values (s.id, s.a)",
        "insert into a (id, a) values (1, 1) on conflict (id) do update set a = excluded.a",
        "delete from a where id = 1",
        "delete from a",
    ] {
        connection.execute(statement).await?;
    }
    Ok(())
}

#[tokio::test]
async fn writers_to_a_table_with_a_virtual_column_succeed_and_no_change_says_that_it_is_null()
-> anyhow::Result<()> {
    if !has_virtual_columns().await? {
        return Ok(());
    }
    for policy in both_levels() {
        let (_database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("a", policy.clone())]).await?;
        write(&mut connection).await?;
        let recorded = changes(&mut connection).await?;
        assert_eq!(recorded.len(), 16, "{policy}");
        for change in &recorded {
            assert!(!change.to_string().contains("\"v\""), "{change}");
        }
        assert_eq!(recorded[0]["data_after"], json!({"id": 1, "a": 7}));
        let update = recorded.iter().find(|change| change["op"] == "update").unwrap();
        assert_eq!((&update["changed_fields"], &update["changed_from"]), (&json!(["a"]), &json!({"a": 7})));
    }
    Ok(())
}

#[tokio::test]
async fn a_virtual_column_may_be_redacted_and_reveals_nothing_of_the_column_that_it_is_computed_from()
-> anyhow::Result<()> {
    if !has_virtual_columns().await? {
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
    if !has_virtual_columns().await? {
        return Ok(());
    }
    let (_database, mut connection) =
        host("create table a (a int not null, v int generated always as (a * 2) virtual not null)").await?;
    let refused = captures(&mut connection, &[("a", json!({"primary_key": ["v"]}))]).await;
    let Err(PlanError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.term, "primary_key_without_index");
    Ok(())
}
