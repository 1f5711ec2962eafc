//! What belonged to a row at a time.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::query::row::{At, Children, ChildrenRequest, RowWithChildren};

use super::{Read, capture, now, row};

const TABLES: &str = "create schema sales;
    create table customers (id bigint primary key, code text unique, name text);
    create table sales.orders (no int primary key, customer int references customers, total numeric);
    create table sales.lines (order_no int references sales.orders on update cascade, n int, sku text, primary key (order_no, n));
    create table notes (id int primary key, customer_code text references customers (code) on update cascade, body text);
    create table staff (id int primary key, boss int references staff);
    create table unseen (id int primary key, customer int references customers)";

async fn read() -> anyhow::Result<Read> {
    let mut read = Read::after(TABLES).await?;
    let all = ["customers", "sales.orders", "sales.lines", "notes", "staff"].map(|table| (table, json!({})));
    capture(&mut read.connection, &all).await?;
    Ok(read)
}

/// The answer without what is the same everywhere.
fn said(children: &[Children]) -> Value {
    let of_table = |children: &Children| {
        let rows: Vec<Value> =
            children.rows.iter().map(|child| json!([child.row.key, said(&child.children)])).collect();
        json!([format!("{}.{}", children.schema, children.table), rows])
    };
    children.iter().map(of_table).collect()
}

async fn family(read: &Read, table: &str, key: &str, at: &At, depth: u8) -> anyhow::Result<RowWithChildren> {
    let reader = read.reader();
    let row = row(&reader, table, key).await?;
    let request = ChildrenRequest { depth, ..ChildrenRequest::default() };
    Ok(reader.as_of_with_children(&row, at, &request).await?)
}

#[tokio::test]
async fn a_row_is_shown_with_the_rows_that_referred_to_it_then() -> anyhow::Result<()> {
    let mut read = read().await?;
    read.connection
        .execute(
            "insert into customers values (1, 'c1', 'Ann'), (2, 'c2', 'Bob'); insert into unseen values (1, 1);
             insert into sales.orders values (10, 1, 1.0), (11, 1, 2.0), (12, 2, 3.0), (13, null, 4.0);
             insert into sales.lines values (10, 1, 'x'), (10, 2, 'y'), (11, 1, 'z'); insert into notes values (5, 'c1', 'n')",
        )
        .await?;
    let before = now(&mut read.connection).await?;
    read.connection
        .execute(
            "update sales.orders set customer = 2 where no = 11; delete from sales.lines where n = 2;
             update customers set code = 'c9' where id = 1; update sales.orders set no = 20 where no = 10",
        )
        .await?;
    let line = |order: i32, n: i32| json!([{"order_no": order.to_string(), "n": n.to_string()}, []]);
    let lines = |lines: Vec<Value>| json!([["sales.lines", lines]]);
    let then = family(&read, "customers", "1", &before, 2).await?;
    assert_eq!(
        said(&then.children),
        json!([
            ["public.notes", [[{"id": "5"}, []]]],
            ["sales.orders", [[{"no": "10"}, lines(vec![line(10, 1), line(10, 2)])], [{"no": "11"}, lines(vec![line(11, 1)])]]],
        ])
    );
    let is = family(&read, "customers", "1", &At::latest(), 2).await?;
    assert_eq!(
        said(&is.children),
        json!([
            ["public.notes", [[{"id": "5"}, []]]],
            ["sales.orders", [[{"no": "20"}, lines(vec![line(20, 1)])]]],
        ])
    );
    let shallow = family(&read, "customers", "1", &before, 1).await?;
    assert_eq!(shallow.children[1].rows[0].children.len(), 0);
    assert_eq!(shallow.children[1].columns, ["customer"]);
    assert!(shallow.as_of.image().is_some());
    let absent = family(&read, "customers", "1", &"2020-01-01".parse()?, 2).await?;
    assert!(absent.children.is_empty());
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_one_another_in_a_circle_are_there_once() -> anyhow::Result<()> {
    let mut read = read().await?;
    read.connection
        .execute(
            "insert into staff values (1, null), (2, 1), (3, 2); update staff set boss = 3 where id = 1;
             insert into staff values (4, 4)",
        )
        .await?;
    let of = |id: &str, children: Value| json!([["public.staff", [[{"id": id}, children]]]]);
    let family = family(&read, "staff", "1", &At::latest(), 3).await?;
    assert_eq!(said(&family.children), of("2", of("3", of("1", json!([])))));
    let own = self::family(&read, "staff", "4", &At::latest(), 3).await?;
    assert_eq!(said(&own.children), of("4", json!([])));
    Ok(())
}

#[tokio::test]
async fn more_rows_than_were_asked_for_are_said_to_be_there() -> anyhow::Result<()> {
    let mut read = read().await?;
    read.connection
        .execute("insert into customers values (1, 'c1', 'Ann'); insert into sales.orders select n, 1, n from generate_series(1, 7) n")
        .await?;
    let reader = read.reader();
    let customer = row(&reader, "customers", "1").await?;
    for (size, rows, is_truncated) in [(6, 6, true), (7, 7, false), (8, 7, false)] {
        let request = ChildrenRequest { size, ..ChildrenRequest::default() };
        let family = reader.as_of_with_children(&customer, &At::latest(), &request).await?;
        assert_eq!(
            (family.children[0].rows.len(), family.children[0].is_truncated),
            (rows, is_truncated),
            "{size}"
        );
    }
    for (size, depth) in [(0, 1), (1_001, 1), (1, 0), (1, 4)] {
        let request = ChildrenRequest { size, depth, ..ChildrenRequest::default() };
        let error = reader.as_of_with_children(&customer, &At::latest(), &request).await.unwrap_err();
        assert_eq!(error.term(), Some("children_request"));
    }
    Ok(())
}

/// A child is found by values that were captured.
#[tokio::test]
async fn a_key_that_is_not_captured_has_children_that_cannot_be_found() -> anyhow::Result<()> {
    let mut read = Read::after(
        "create table p (id int primary key, code text unique); create table c (id int primary key, code text references p (code))",
    )
    .await?;
    capture(&mut read.connection, &[("p", json!({"exclude": ["code"]})), ("c", json!({}))]).await?;
    read.connection.execute("insert into p values (1, 'x'); insert into c values (1, 'x')").await?;
    let family = family(&read, "p", "1", &At::latest(), 1).await?;
    assert!(family.children[0].is_unknown && family.children[0].rows.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_takes_too_long_is_given_up_with_a_remedy() -> anyhow::Result<()> {
    let mut read = read().await?;
    read.connection
        .execute(
            "insert into customers values (1, 'c1', 'Ann'); insert into sales.orders values (1, 1, 1);
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
             select t.id, 'sales', 'orders', jsonb_build_object('no', n::text), 'insert', jsonb_build_object('no', n, 'customer', 2), now()
             from (select id from audit_transactions limit 1) t cross join generate_series(2, 100000) n",
        )
        .await?;
    let reader = read.reader();
    let customer = row(&reader, "customers", "1").await?;
    let request = ChildrenRequest { time: Duration::from_millis(1), ..ChildrenRequest::default() };
    let error = reader.as_of_with_children(&customer, &At::latest(), &request).await.unwrap_err();
    assert_eq!(error.term(), Some("took_too_long"));
    assert!(error.to_string().contains("ask for less"), "{error}");
    let family = reader.as_of_with_children(&customer, &At::latest(), &ChildrenRequest::default()).await?;
    assert_eq!(family.children[0].rows.len(), 1, "the connection is as good as before");
    Ok(())
}
