//! What rows and tables were at a time is what the tables themselves held then.

use std::{cell::RefCell, collections::BTreeMap};

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::query::{
    Reader,
    row::{AsOf, At, Row, RowKey, TablePage},
};

use super::{Read, capture, now, row, table};

/// Keys can be exchanged within a statement, and a trigger of the host's changes some rows again, before or after ours.
const SCHEMA: &str = "
    create table by_row (id int primary key deferrable initially immediate, n numeric, w int);
    create table by_statement (id int primary key deferrable initially immediate, n numeric, w int);
    create table parts (id int, region int, w int, primary key (id, region)) partition by list (region);
    create table parts_1 partition of parts for values in (1);
    create table parts_2 partition of parts for values in (2, 3);
    create function again() returns trigger language plpgsql as
        $$begin
            execute format('update %I set n = n + 1 where id = $1 and n = $2', tg_table_name) using new.id, case when new.n in (3.5, 4.5) then new.n end;
            return null;
        end$$;
    create trigger aaa after insert or update on by_row for each row execute function again();
    create trigger zzz after insert or update on by_statement for each row execute function again();";
const TABLES: [&str; 3] = ["by_row", "by_statement", "parts"];

/// The rows of a table, by their keys.
type Rows = BTreeMap<RowKey, String>;

fn statement() -> impl Strategy<Value = String> {
    let simple = || select(vec!["by_row", "by_statement"]);
    let (id, n) = (|| 0..7_i32, || 0..5_i32);
    prop_oneof![
        4 => (simple(), id(), n()).prop_map(|(t, id, n)| format!("insert into {t} values ({id}, {n}.5, {id})")),
        3 => (simple(), id(), n()).prop_map(|(t, id, n)| format!("update {t} set n = {n}.5 where id >= {id}")),
        2 => (simple(), id()).prop_map(|(t, id)| format!("update {t} set w = w + 1 where id <= {id}")),
        2 => (simple(), id(), id()).prop_map(|(t, from, to)| format!("update {t} set id = {to} where id = {from}")),
        1 => simple().prop_map(|t| format!("update {t} set id = 6 - id")),
        1 => simple().prop_map(|t| format!("update {t} set id = (id + 1) % 7, w = w + 1")),
        2 => (simple(), id()).prop_map(|(t, id)| format!("delete from {t} where id >= {id}")),
        1 => simple().prop_map(|t| format!("truncate {t}")),
        3 => (id(), n()).prop_map(|(id, n)| format!("insert into parts values ({id}, {n}, 0)")),
        2 => (id(), n()).prop_map(|(id, n)| format!("update parts set region = {n} where id >= {id}")),
        1 => id().prop_map(|id| format!("update parts set w = w + 1, id = {id} where id = {id} + 1")),
        1 => id().prop_map(|id| format!("delete from parts where id = {id}")),
        1 => select(vec!["parts", "parts_1", "parts_2"]).prop_map(|t| format!("truncate {t}")),
    ]
}

/// What the tables hold.
async fn stored(connection: &mut PgConnection) -> anyhow::Result<Vec<Rows>> {
    let mut stored = Vec::new();
    for table in TABLES {
        let key = if table == "parts" {
            "jsonb_build_object('id', t.id::text, 'region', t.region::text)"
        } else {
            "jsonb_build_object('id', t.id::text)"
        };
        let rows: Vec<(String, String)> =
            sqlx::query_as(AssertSqlSafe(format!("select {key}::text, to_jsonb(t)::text from {table} t")))
                .fetch_all(&mut *connection)
                .await?;
        stored.push(rows.into_iter().map(|(key, row)| (serde_json::from_str(&key).unwrap(), row)).collect());
    }
    Ok(stored)
}

/// Plays a transaction; a statement that violates a constraint leaves nothing.
async fn play(connection: &mut PgConnection, statements: &[String]) -> anyhow::Result<()> {
    connection.execute("begin").await?;
    for statement in statements {
        connection.execute("savepoint one").await?;
        match connection.execute(AssertSqlSafe(statement.clone())).await {
            Ok(_) => connection.execute("release one").await?,
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("23")) => {
                connection.execute("rollback to one; release one").await?
            }
            Err(error) => return Err(anyhow::Error::from(error).context(statement.clone())),
        };
    }
    connection.execute("commit").await?;
    Ok(())
}

/// The rows of a table, read page by page.
async fn table_at(reader: &Reader, name: &str, at: &At) -> anyhow::Result<Rows> {
    let mut rows = Rows::new();
    let mut page = TablePage { size: 3, ..TablePage::default() };
    loop {
        let answer = reader.table_as_of(&table(name), at, &page).await?;
        for row in answer.rows {
            anyhow::ensure!(rows.insert(row.key, row.image.to_string()).is_none(), "a row came twice");
        }
        let Some(next) = answer.next else { return Ok(rows) };
        page.after = Some(next);
    }
}

async fn row_at(reader: &Reader, row: &Row, at: &At) -> anyhow::Result<Option<String>> {
    Ok(match reader.as_of(row, at).await? {
        AsOf::Present { image, .. } => Some(image.to_string()),
        _ => None,
    })
}

/// Every key that may have been used.
fn keys(table: &str) -> Vec<RowKey> {
    let column = |name: &str, value: i32| (name.to_owned(), value.to_string());
    if table == "parts" {
        (0..7)
            .flat_map(|id| (1..4).map(move |region| [column("id", id), column("region", region)].into()))
            .collect()
    } else {
        (0..8).map(|id| [column("id", id)].into()).collect()
    }
}

#[test]
fn as_of_equals_what_the_tables_held_after_every_transaction() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let read = runtime.block_on(async {
        let mut read = Read::after(SCHEMA).await?;
        let tables = [
            ("by_row", json!({"level": "row"})),
            ("by_statement", json!({"level": "statement"})),
            ("parts", json!({})),
        ];
        capture(&mut read.connection, &tables).await?;
        anyhow::Ok(read)
    });
    let read = RefCell::new(read.unwrap());
    let mut runner = TestRunner::new(Config { cases: 20, failure_persistence: None, ..Config::default() });
    let transaction = prop::collection::vec(statement(), 1..6);
    runner
        .run(&prop::collection::vec(transaction, 1..6), |transactions| {
            let mut read = read.borrow_mut();
            runtime.block_on(async {
                let reader = read.reader();
                let connection = &mut read.connection;
                connection.execute("rollback; truncate by_row, by_statement, parts").await.unwrap();
                let mut history = Vec::new();
                for statements in &transactions {
                    play(connection, statements).await.unwrap();
                    history.push((now(connection).await.unwrap(), stored(connection).await.unwrap()));
                }
                for (at, tables) in &history {
                    for (name, rows) in TABLES.iter().zip(tables) {
                        prop_assert_eq!(
                            &table_at(&reader, name, at).await.unwrap(),
                            rows,
                            "{} at {}",
                            name,
                            at
                        );
                        let some = row(&reader, name, &key_text(name)).await.unwrap();
                        for key in keys(name) {
                            let is = row_at(&reader, &some.with_key(key.clone()), at).await.unwrap();
                            prop_assert_eq!(is.as_ref(), rows.get(&key), "{} {:?} at {}", name, key, at);
                        }
                    }
                }
                Ok(())
            })
        })
        .unwrap();
}

fn key_text(table: &str) -> String {
    serde_json::to_string(&keys(table)[0]).unwrap()
}
