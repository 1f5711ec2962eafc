//! Triggers that an older version of the generator has made, over the tables and functions of today.

use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};
use threadline::coverage::{Expectations, FindingCode};

use super::{capture, changes, coverage::public, host, run};

const TABLES: &str = "create table notes (id int primary key, body text, secret text, seen timestamptz);
    create table marks (id int primary key, body text, secret text, seen timestamptz)";

/// Of `notes` at statement level, of `marks` at row level.
const GENERATED: &str = include_str!("first_generation.sql");

/// Every operation, of one row and of several, in a session with another time zone.
async fn write(connection: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    connection
        .execute(
            "truncate audit_changes, audit_transactions; set timezone = 'Asia/Kolkata';
             insert into notes values (1, 'a', 's1', '2026-01-01 00:00Z'), (2, 'b', null, null);
             update notes set body = 'c' where id = 1; update notes set id = id + 10; update notes set body = body;
             delete from notes where id = 11; truncate notes;
             insert into marks values (1, 'a', 's1', '2026-01-01 00:00Z'), (2, 'b', null, null);
             update marks set body = 'c' where id = 1; update marks set id = id + 10; update marks set body = body;
             delete from marks where id = 11; truncate marks; reset timezone",
        )
        .await?;
    let mut rows = changes(connection).await?;
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("table_name");
    }
    Ok(rows)
}

#[tokio::test]
async fn triggers_of_the_first_generation_record_what_those_of_today_do_and_are_found_to_be_older()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    run(&mut connection, GENERATED).await?;
    let of_before = write(&mut connection).await?;
    assert_eq!(of_before.len(), 14);
    assert_eq!(of_before[..7], of_before[7..], "both levels");

    let all = public(&mut connection, &Expectations::default()).await?;
    let found: Vec<(&str, FindingCode, &Value)> =
        all.findings.iter().map(|one| (one.table.as_str(), one.code, &one.details["reasons"])).collect();
    let older = json!(["generator_older"]);
    assert_eq!(
        found,
        [("marks", FindingCode::PolicyDrift, &older), ("notes", FindingCode::PolicyDrift, &older)]
    );

    let policy = |level| json!({"level": level, "mask": ["secret"]});
    capture(&mut connection, &[("notes", policy("statement")), ("marks", policy("row"))]).await?;
    assert_eq!(write(&mut connection).await?, of_before);
    let all = public(&mut connection, &Expectations::default()).await?;
    assert_eq!(all.findings, []);
    Ok(())
}
