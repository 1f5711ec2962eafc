//! The history of a row: what the library lists, across changes of its key, page by page.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::query::{
    From, Instant, Key, Rule, Scope, Window,
    row::{Row, RowHistory, RowPage},
};
use time::macros::datetime;
use uuid::Uuid;

use super::{Read, capture, library_database, row, table};

const ANN: &str = "11111111-1111-4111-8111-111111111111";
const ANN_LATER: &str = "22222222-2222-4222-8222-222222222222";

/// The last numbers of the ids of the library's changes.
fn numbers(history: &RowHistory) -> Vec<u128> {
    history.changes.iter().map(|change| change.id.as_u128() & 0xff_ffff).map(decimal).collect()
}

/// Ids there are of decimal digits.
fn decimal(number: u128) -> u128 {
    format!("{number:x}").parse().unwrap()
}

/// What was done under which key, the newest first.
fn said(history: &RowHistory) -> Vec<String> {
    history.changes.iter().map(|change| format!("{} {}", change.op, change.table_pk)).collect()
}

async fn everything(read: &Read, row: &Row) -> anyhow::Result<RowHistory> {
    Ok(read.reader().row_history(row, &RowPage::default()).await?)
}

#[tokio::test]
async fn the_history_of_the_librarys_rows_is_the_librarys() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let user = row(&reader, "users", ANN).await?;
    assert_eq!(numbers(&everything(&read, &user).await?), [6, 5, 4, 3, 2, 1]);
    let counter = row(&reader, "counters", "7").await?;
    assert_eq!(numbers(&everything(&read, &counter).await?), [18, 17, 16, 15, 14, 13]);

    let two = RowPage { size: 2, ..RowPage::default() };
    let page = reader.row_history(&user, &two).await?;
    assert_eq!((numbers(&page), page.has_more), (vec![6, 5], true));
    let window = Window::Between {
        from: Some(Instant::new(datetime!(2026-03-01 00:00:02 UTC))),
        to: Some(Instant::new(datetime!(2026-03-01 00:00:03 UTC))),
    };
    let page = reader.row_history(&user, &RowPage { window, ..RowPage::default() }).await?;
    assert_eq!(numbers(&page), [4, 3, 2]);
    assert_eq!(page.changes[2].action.as_ref().map(|action| action.name.as_str()), Some("user.renamed"));
    Ok(())
}

/// The library says the key before where it stores values before.
#[tokio::test]
async fn a_row_of_the_librarys_is_led_back_to_the_key_that_it_had() -> anyhow::Result<()> {
    let read = library_database().await?;
    let user = row(&read.reader(), "users", ANN_LATER).await?;
    let history = everything(&read, &user).await?;
    assert_eq!(numbers(&history), [53, 7, 6, 5, 4, 3, 2, 1]);
    let keys: Vec<&str> = history.keys.iter().map(|span| span.key["id"].as_str()).collect();
    assert_eq!(keys, [ANN_LATER, ANN]);
    assert!(!history.has_more_keys);
    Ok(())
}

#[tokio::test]
async fn a_row_is_followed_from_key_to_key_in_both_directions() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    for statement in [
        "insert into t values (1, 1)",
        "update t set v = 2",
        "update t set id = 2",
        "update t set v = 3",
        "update t set id = 3, v = 4",
        "delete from t",
    ] {
        read.connection.execute(statement).await?;
    }
    let all = [
        r#"delete {"id": "3"}"#,
        r#"update {"id": "3"}"#,
        r#"update {"id": "2"}"#,
        r#"update {"id": "2"}"#,
        r#"update {"id": "1"}"#,
        r#"insert {"id": "1"}"#,
    ];
    for key in ["1", "2", "3"] {
        let history = everything(&read, &row(&read.reader(), "t", key).await?).await?;
        assert_eq!(said(&history), all, "asked for {key}");
        assert_eq!(history.keys.len(), 3);
    }
    Ok(())
}

/// What became of the row that had the key before is not this row's; that it left is.
#[tokio::test]
async fn a_key_that_was_used_again_is_followed_to_its_new_row_alone() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    for statement in [
        "insert into t values (1, 1)",
        "update t set id = 2",
        "update t set v = 2 where id = 2",
        "insert into t values (1, 10)",
        "update t set v = 11 where id = 1",
    ] {
        read.connection.execute(statement).await?;
    }
    let history = everything(&read, &row(&read.reader(), "t", "1").await?).await?;
    let [again, inserted, left, first] =
        [r#"update {"id": "1"}"#, r#"insert {"id": "1"}"#, r#"update {"id": "2"}"#, r#"insert {"id": "1"}"#];
    assert_eq!(said(&history), [again, inserted, left, first]);
    let history = everything(&read, &row(&read.reader(), "t", "2").await?).await?;
    assert_eq!(said(&history), [r#"update {"id": "2"}"#, left, first], "nothing of the later row 1");
    Ok(())
}

#[tokio::test]
async fn a_row_whose_key_changes_without_end_says_that_it_had_more_keys() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key); insert into t values (0)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    for _ in 0..20 {
        read.connection.execute("update t set id = id + 1").await?;
    }
    for (key, steps) in [("20", 17), ("0", 17), ("10", 17)] {
        let history = everything(&read, &row(&read.reader(), "t", key).await?).await?;
        assert!(history.has_more_keys, "{key}");
        assert_eq!(history.keys.len(), steps, "{key}");
    }
    read.connection.execute("update t set id = 15").await?;
    // A circle ends.
    let history = everything(&read, &row(&read.reader(), "t", "15").await?).await?;
    let ids: BTreeSet<Uuid> = history.changes.iter().map(|change| change.id).collect();
    assert_eq!(ids.len(), history.changes.len(), "no change twice");
    Ok(())
}

#[tokio::test]
async fn pages_of_a_history_hold_each_change_once_in_both_directions() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.connection.execute("insert into t values (1, 0)").await?;
    for n in 0..12 {
        let sql = format!("update t set v = {n} + 1, id = id + {}", i32::from(n % 5 == 4));
        read.connection.execute(AssertSqlSafe(sql)).await?;
    }
    // Equal times, and one that no driver holds.
    read.connection
        .execute(
            "update audit_changes set captured_at = timestamptz '2026-03-01' + (position / 3) * interval '1 minute';
             update audit_changes set captured_at = 'infinity' where position in (select max(position) from audit_changes)",
        )
        .await?;
    let reader = read.reader();
    let row = row(&reader, "t", "3").await?;
    let all: Vec<Uuid> = everything(&read, &row).await?.changes.iter().map(|change| change.id).collect();
    assert_eq!(all.len(), 13);
    for size in 1..=14_u16 {
        let mut page = RowPage { size, ..RowPage::default() };
        let mut older = Vec::new();
        let last = loop {
            let answer = reader.row_history(&row, &page).await?;
            older.extend(answer.changes.iter().map(|change| change.id));
            assert_eq!(answer.has_more, older.len() < all.len(), "size {size}");
            assert_eq!(answer.has_more, answer.older.is_some());
            match answer.older.clone() {
                Some(cursor) => page.from = From::OlderThan(cursor),
                None => break answer,
            }
        };
        assert_eq!(older, all, "size {size}");
        // And back, from the first change of the last page.
        let mut newer: Vec<Uuid> = last.changes.iter().map(|change| change.id).collect();
        let mut cursor = last.newer.unwrap();
        loop {
            page.from = From::NewerThan(cursor);
            let answer = reader.row_history(&row, &page).await?;
            newer.splice(0..0, answer.changes.iter().map(|change| change.id));
            assert_eq!(answer.has_more, newer.len() < all.len(), "size {size}");
            if !answer.has_more {
                break;
            }
            cursor = answer.newer.unwrap();
        }
        assert_eq!(newer, all, "size {size}");
    }
    for size in [0, 1_001] {
        let error = reader.row_history(&row, &RowPage { size, ..RowPage::default() }).await.unwrap_err();
        assert_eq!(error.term(), Some("page_size"));
    }
    Ok(())
}

const PARTS: &str = "create schema billing; create table parts (id int, region int, body text, primary key (id, region)) partition by list (region);
    create table billing.parts_1 partition of parts for values in (1); create table parts_2 partition of parts for values in (2);
    insert into audit_transactions (id, txid) values ('aaaaaaaa-0000-4000-8000-000000000001', 1);
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, position, captured_at)
    values ('aaaaaaaa-0000-4000-8000-000000000001', 'billing', 'parts_1', '{\"id\": \"1\", \"region\": \"1\"}', 'insert',
            '{\"id\": 1, \"region\": 1, \"body\": \"a\"}', 0, '2026-01-01');
    insert into parts values (1, 1, 'a')";

/// The library has filed it under the name of the partition.
#[tokio::test]
async fn a_row_of_a_partitioned_table_has_what_was_filed_under_its_partition() -> anyhow::Result<()> {
    let mut read = Read::after(PARTS).await?;
    capture(&mut read.connection, &[("parts", json!({}))]).await?;
    read.connection
        .execute("update parts set body = 'b' where id = 1; insert into parts values (1, 2, 'other')")
        .await?;
    let key = r#"{"id": "1", "region": "1"}"#;
    let reader = read.reader();
    for name in ["parts", "billing.parts_1"] {
        let row = row(&reader, name, key).await?;
        let history = everything(&read, &row).await?;
        let said: Vec<(&str, &str)> =
            history.changes.iter().map(|change| (change.op.as_str(), change.table_name.as_str())).collect();
        assert_eq!(said, [("update", "parts"), ("insert", "parts_1")], "{name}");
    }
    let row = row(&reader, "parts_2", r#"{"id": "1", "region": "2"}"#).await?;
    assert_eq!(everything(&read, &row).await?.changes.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_row_is_found_by_what_is_known_of_its_table() -> anyhow::Result<()> {
    let mut read = library_database().await?;
    read.connection
        .execute(
            "create schema other; create table users (id uuid primary key); create table other.invoices (id int primary key);
             create table fresh (code text primary key, v int); create table pair (a int, b int, primary key (b, a));
             create table bare (v int); create schema twice; create table twice.fresh (code text primary key);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             values ('aaaaaaaa-0000-4000-8000-000000000001', 'other', 'users', '{\"id\": \"1\"}', 'delete')",
        )
        .await?;
    let reader = read.reader();
    let found = |name: &'static str, key: &'static str| {
        let reader = reader.clone();
        async move {
            match reader.row(&table(name), &key.parse::<Key>().unwrap()).await {
                Ok(row) => row.to_string(),
                Err(error) => format!("{}: {error}", error.term().unwrap_or("database")),
            }
        }
    };
    for (name, key, expected) in [
        ("invoices", "1", r#"billing.invoices {"id":"1"}"#),
        ("other.invoices", "1", r#"other.invoices {"id":"1"}"#),
        ("counters", r#"{"id": "7"}"#, r#"public.counters {"id":"7"}"#),
        ("MixedCase", "x", r#"public.MixedCase {"Id":"x"}"#),
        (
            "line_items",
            r#"{"line_no": "2", "tenant_id": "1"}"#,
            r#"public.line_items {"line_no":"2","tenant_id":"1"}"#,
        ),
        ("public.fresh", "a", r#"public.fresh {"code":"a"}"#),
        ("pair", r#"{"a": "1", "b": "2"}"#, r#"public.pair {"a":"1","b":"2"}"#),
        ("bare", r#"{"v": "1"}"#, r#"public.bare {"v":"1"}"#),
    ] {
        assert_eq!(found(name, key).await, expected, "{name} {key}");
    }
    for (name, key, term, named) in [
        ("users", "1", "table_ambiguous", "other.users or public.users"),
        ("fresh", "1", "table_ambiguous", "public.fresh or twice.fresh"),
        ("nothing", "1", "table_unknown", "nothing"),
        ("invoces", "1", "table_unknown", "invoices meant?"),
        ("other.counters", "1", "table_unknown", "other.counters"),
        ("line_items", "1", "key_mismatch", "line_no, tenant_id"),
        ("line_items", r#"{"tenant_id": "1"}"#, "key_mismatch", "line_no, tenant_id"),
        ("counters", r#"{"ident": "7"}"#, "key_mismatch", "id"),
        ("counters", r#"{"id": "7", "n": "1"}"#, "key_mismatch", "id"),
        ("bare", "1", "key_mismatch", "bare"),
    ] {
        let error = found(name, key).await;
        assert!(error.starts_with(&format!("{term}: ")) && error.contains(named), "{name} {key}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_history_shows_what_its_reader_may_see() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    for (tenant, statement) in
        [("t1", "insert into t values (1, 1)"), ("t2", "update t set id = 2"), ("t1", "update t set v = 3")]
    {
        let sql = format!(
            "begin; select set_config('threadline.context', '{{\"tenant\": \"{tenant}\"}}', true); {statement}; commit"
        );
        read.connection.execute(AssertSqlSafe(sql)).await?;
    }
    let row = row(&read.reader(), "t", "2").await?;
    for (tenant, expected) in [("t1", vec!["update"]), ("t2", vec!["update"]), ("t3", vec![])] {
        let reader = read.timeline.reader(Scope::of_context("tenant", tenant));
        let history = reader.row_history(&row, &RowPage::default()).await?;
        let ops: Vec<&str> = history.changes.iter().map(|change| change.op.as_str()).collect();
        // Whoever does not see that the key was changed, is not led on by it.
        assert_eq!(ops, expected, "{tenant}");
    }
    let nobody =
        read.timeline.reader(Scope::nothing().changes(Rule::Tables(vec!["public.other".to_owned()])));
    assert!(nobody.row_history(&row, &RowPage::default()).await?.changes.is_empty());
    let error = nobody.row(&table("absent"), &Key::Value("1".to_owned())).await.unwrap_err();
    assert_eq!(error.term(), Some("table_unknown"));
    Ok(())
}
