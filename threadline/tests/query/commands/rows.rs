//! One row: its history, what it was, and who set it.

use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{super::capture, TIMELINE, assert_answers, threadline, timeline};

#[tokio::test]
async fn a_row_is_shown_through_time() -> anyhow::Result<()> {
    let (database, _connection) = timeline(TIMELINE).await?;
    assert_answers(
        &database,
        "rows.txt",
        &[
            &["history", "posts", "7"],
            &["history", "public.posts", r#"{"id":"8"}"#, "--limit", "1"],
            &["history", "lines", r#"{"tenant_id":"4","line_no":"1"}"#, "--json"],
            &["history", "posts", "7", "--tsv", "--limit", "1"],
            &["history", "posts", "99"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z", "--json"],
            &["as-of", "posts", "7", "--at", "2026-05-15T12:10:00Z", "--tsv"],
            &["as-of", "posts", "8", "--at", "2026-05-15T12:10:00Z"],
            &["as-of", "posts", "7", "--at", "2026-05-15T13:00:00Z"],
            &["as-of", "posts", "8", "--at", "2026-05-16"],
            &["as-of", "posts", "8", "--at", "2026-05-16", "--json"],
            &["as-of", "posts", "8", "--at", "2026-05-16", "--tsv"],
            &["as-of", "posts", "7", "--at", "2026-05-15"],
            &["as-of", "posts", "7", "--at", "2026-05-15", "--json"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z", "--json"],
            &["as-of", "posts", "--at", "2026-05-15T13:00:00Z", "--tsv"],
            &["as-of", "posts", "--at", "2026-05-16"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z", "--json"],
            &["blame", "posts", "8", "--at", "2026-05-15T13:00:00Z", "--tsv"],
            &["blame", "posts", "8"],
            &["blame", "posts", "7", "--at", "2026-05-15"],
        ],
    )
}

/// A table, and one that refers to it, both captured.
const FAMILY: &str = "create table orders (id int primary key, customer text);
    create table lines (order_id int references orders, line_no int, amount numeric, primary key (order_id, line_no))";

#[tokio::test]
async fn a_row_is_shown_with_what_referred_to_it() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(FAMILY).await?;
    capture(&mut connection, &[("orders", json!({})), ("lines", json!({}))]).await?;
    connection.execute("insert into orders values (1, 'Ann'); insert into lines values (1, 1, 19.90), (1, 2, 5), (1, 3, 7)").await?;
    // The times of capture differ from run to run, and are in no answer for people.
    assert_answers(
        &database,
        "family.txt",
        &[
            &["as-of", "orders", "1", "--at", "infinity", "--children"],
            &["as-of", "orders", "1", "--at", "infinity", "--children", "--limit", "2", "--depth", "2"],
            &["as-of", "lines", "--at", "infinity", "--limit", "2"],
            &["as-of", "lines", "--at", "infinity", "--after", r#"{"line_no":"2","order_id":"1"}"#],
        ],
    )?;
    let ended = threadline(&database, &["as-of", "orders", "1", "--at", "infinity", "--children", "--json"])?;
    let found: Value = serde_json::from_str(&ended.out)?;
    assert_eq!(found["children"][0]["rows"].as_array().map(Vec::len), Some(3));
    assert_eq!(found["error"], Value::Null);
    Ok(())
}
