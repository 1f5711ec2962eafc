//! The changes of a table, played again in their order, are the table after every transaction.

use std::collections::{BTreeMap, VecDeque};

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, FromRow, PgConnection};

use super::{capture, host, server_version};

const SCHEMA: &str = "
    create table by_row (id int primary key, body text, n numeric);
    create table by_statement (id int primary key, body text, n numeric);
    create table parts (id int, region int, body text, primary key (id, region)) partition by list (region);
    create table parts_1 partition of parts for values in (1);
    create table parts_2 partition of parts for values in (2, 3);
    create table parent (id int primary key, body text);
    create table child (id int primary key, parent int references parent on update cascade on delete cascade, body text);
    create table guest (id int primary key, parent int references parent on update cascade on delete set null);";
const TABLES: [&str; 6] = ["by_row", "by_statement", "parts", "parent", "child", "guest"];

#[derive(FromRow)]
struct Change {
    table_name: String,
    partition: Option<String>,
    op: String,
    key: String,
    key_before: Option<String>,
    image: Option<String>,
}

/// Images of rows with their partition, by table and key. While a statement changes keys, a row may stand where another one is
/// about to leave: the one that came first leaves first.
type Rows = BTreeMap<(String, String), VecDeque<(Option<String>, String)>>;

fn apply(rows: &mut Rows, change: Change) {
    let Change { table_name, partition, op, key, key_before, image } = change;
    if op == "truncate" {
        for ((_, _), images) in rows.iter_mut().filter(|((table, _), _)| *table == table_name) {
            images.retain(|(of, _)| partition.is_some() && *of != partition);
        }
    }
    if op == "update" || op == "delete" {
        let key = key_before.unwrap_or_else(|| key.clone());
        rows.entry((table_name.clone(), key)).or_default().pop_front();
    }
    if let Some(image) = image {
        rows.entry((table_name, key)).or_default().push_back((partition, image));
    }
    rows.retain(|_, images| !images.is_empty());
}

/// What the tables hold themselves.
async fn stored(connection: &mut PgConnection) -> anyhow::Result<Vec<(String, String)>> {
    let mut stored = Vec::new();
    for table in TABLES {
        let rows: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(format!("select to_jsonb(t)::text from {table} t")))
                .fetch_all(&mut *connection)
                .await?;
        stored.extend(rows.into_iter().map(|row| (table.to_owned(), row)));
    }
    stored.sort();
    Ok(stored)
}

/// Changes that came after a position, and the last position.
async fn after(connection: &mut PgConnection, position: i64) -> anyhow::Result<(Vec<Change>, i64)> {
    let changes: Vec<Change> = sqlx::query_as(
        "select table_name, partition, op, table_pk::text as key, key_before::text as key_before, data_after::text as image
         from audit_changes where position > $1 order by position",
    )
    .bind(position)
    .fetch_all(&mut *connection)
    .await?;
    let last: Option<i64> =
        sqlx::query_scalar("select max(position) from audit_changes").fetch_one(connection).await?;
    Ok((changes, last.unwrap_or(position).max(position)))
}

/// A statement, with keys that collide often. The rows of a `copy` stand in its second line. No two numbers differ in their scale
/// alone, which is no change.
fn statement() -> impl Strategy<Value = String> {
    let simple = || select(vec!["by_row", "by_statement"]);
    let (id, n) = (|| 0..7_i32, || 0..4_i32);
    let of_simple = prop_oneof![
        3 => (simple(), id(), n()).prop_map(|(t, id, n)| format!("insert into {t} values ({id}, 'b{n}', {n}.5)")),
        2 => (simple(), id(), n()).prop_map(|(t, id, n)| format!(
            "insert into {t} (id, n) values ({id}, {n}), ({}, {n}) on conflict (id) do update set n = {t}.n + 1, body = 'up'", id + 1)),
        2 => (simple(), id(), id(), n()).prop_map(|(t, from, to, n)| format!(
            "update {t} set n = {n}, body = case when id % 2 = 0 then body else 'odd' end where id between {from} and {to}")),
        2 => simple().prop_map(|t| format!("update {t} set id = 6 - id")),
        1 => (simple(), id()).prop_map(|(t, id)| format!("update {t} set id = id + 1 where id = {id}")),
        2 => (simple(), id(), id()).prop_map(|(t, from, to)| format!("delete from {t} where id between {from} and {to}")),
        1 => (simple(), id()).prop_map(|(t, id)| format!(
            "with gone as (delete from {t} where id = {id} returning *) insert into {t} select id + 1, body, n from gone")),
        2 => (simple(), id(), n()).prop_map(|(t, id, n)| format!(
            "merge into {t} t using (values ({id}), ({})) v (id) on t.id = v.id when matched and t.n > 1 then delete
             when matched then update set n = {n} when not matched then insert (id, body) values (v.id, 'merged')", id + 1)),
        2 => (simple(), id(), n()).prop_map(|(t, id, n)| format!("copy {t} (id, body) from stdin\n{id}\tb{n}\n{}\t\\N\n", id + 3)),
        1 => simple().prop_map(|t| format!("truncate {t}")),
    ];
    let of_parts = prop_oneof![
        3 => (id(), n()).prop_map(|(id, n)| format!("insert into parts values ({id}, {n}, 'p')")),
        2 => (id(), n()).prop_map(|(id, n)| format!(
            "insert into parts values ({id}, {n}, 'p') on conflict (id, region) do update set body = parts.body || 'u'")),
        3 => (id(), n()).prop_map(|(id, n)| format!("update parts set region = {n} where id >= {id}")),
        1 => Just("update parts set region = 4 - region".to_owned()),
        1 => id().prop_map(|id| format!("update parts_2 set body = body || 'x', id = {id} where id = {id} + 1")),
        1 => id().prop_map(|id| format!("delete from parts where id = {id}")),
        1 => select(vec!["parts", "parts_1", "parts_2"]).prop_map(|t| format!("truncate {t}")),
    ];
    let of_relatives = prop_oneof![
        3 => (id(), n()).prop_map(|(id, n)| format!("insert into parent values ({id}, 'b{n}')")),
        3 => (id(), id()).prop_map(|(id, of)| format!("insert into child values ({id}, {of}, 'c')")),
        2 => (id(), id()).prop_map(|(id, of)| format!("insert into guest values ({id}, {of})")),
        2 => (id(), id()).prop_map(|(id, to)| format!("update parent set id = {to} where id = {id}")),
        1 => Just("update parent set id = id + 1, body = body || 'k'".to_owned()),
        2 => id().prop_map(|id| format!("delete from parent where id <= {id}")),
        1 => Just("truncate parent cascade".to_owned()),
    ];
    prop_oneof![
        4 => of_simple,
        3 => of_parts,
        3 => of_relatives,
        1 => Just("savepoint s".to_owned()),
        1 => Just("rollback to s".to_owned()),
    ]
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    match statement.split_once('\n') {
        Some((copy, rows)) if copy.starts_with("copy") => {
            let mut copy = connection.copy_in_raw(copy).await?;
            copy.send(rows.as_bytes()).await?;
            copy.finish().await?;
        }
        _ => {
            connection.execute(AssertSqlSafe(statement.to_owned())).await?;
        }
    }
    Ok(())
}

/// Plays a transaction; a statement that violates a constraint leaves nothing.
async fn play(connection: &mut PgConnection, statements: &[String], commits: bool) -> anyhow::Result<()> {
    connection.execute("begin; savepoint s").await?;
    for statement in statements {
        if statement.ends_with(" s") {
            connection.execute(AssertSqlSafe(statement.clone())).await?;
            continue;
        }
        connection.execute("savepoint one").await?;
        match run(connection, statement).await {
            Ok(()) => connection.execute("release one").await?,
            // Of class 23: a constraint says no.
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code.starts_with("23")) => {
                connection.execute("rollback to one; release one").await?
            }
            Err(error) => return Err(anyhow::Error::from(error).context(statement.clone())),
        };
    }
    connection.execute(if commits { "commit" } else { "rollback" }).await?;
    Ok(())
}

#[test]
fn the_changes_played_again_are_the_tables_after_every_transaction() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let (_database, mut connection) = runtime.block_on(host(SCHEMA)).unwrap();
    let has_merge = runtime
        .block_on(async {
            let at = |level: &str| json!({"level": level});
            let tables = [
                ("by_row", at("row")),
                ("by_statement", at("statement")),
                ("parts", json!({})),
                ("parent", at("row")),
                ("child", at("statement")),
                ("guest", at("row")),
            ];
            capture(&mut connection, &tables).await?;
            anyhow::Ok(server_version(&mut connection).await? >= 150_000)
        })
        .unwrap();
    let connection = std::cell::RefCell::new(connection);
    // Before PostgreSQL 15 there is none.
    let statement =
        statement().prop_filter("no merge", |statement| has_merge || !statement.starts_with("merge"));
    let transaction = (prop::collection::vec(statement, 1..10), prop::bool::weighted(0.85));
    runner
        .run(&prop::collection::vec(transaction, 1..6), |transactions| {
            let mut connection = connection.borrow_mut();
            runtime.block_on(async {
                connection.execute("rollback").await.unwrap();
                connection
                    .execute("truncate by_row, by_statement, parts, parent, child, guest")
                    .await
                    .unwrap();
                let (_, mut position) = after(&mut connection, 0).await.unwrap();
                let mut rows = Rows::new();
                for (statements, commits) in &transactions {
                    play(&mut connection, statements, *commits).await.unwrap();
                    let (changes, last) = after(&mut connection, position).await.unwrap();
                    position = last;
                    for change in changes {
                        apply(&mut rows, change);
                    }
                    let mut replayed: Vec<(String, String)> = rows
                        .iter()
                        .flat_map(|((table, _), images)| {
                            images.iter().map(move |(_, image)| (table.clone(), image.clone()))
                        })
                        .collect();
                    replayed.sort();
                    prop_assert_eq!(replayed, stored(&mut connection).await.unwrap());
                }
                Ok(())
            })
        })
        .unwrap();
}
