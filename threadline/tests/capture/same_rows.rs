//! Whichever level a table has, the timeline gets the same rows.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{capture, host, server_version};

const TABLE: &str = "(id int primary key, body text, n numeric, document jsonb, secret text)";

/// A statement on the table `@`, with ids that collide often.
fn statement() -> impl Strategy<Value = String> {
    let id = 0..12_i32;
    let document = prop_oneof![
        Just("null".to_owned()),
        Just("'null'".to_owned()),
        (0..3).prop_map(|n| format!("'{{\"a\": {n}, \"token\": \"raw\"}}'"))
    ];
    prop_oneof![
        3 => (id.clone(), 0..4_i32, document.clone()).prop_map(|(id, n, document)| format!(
            "insert into @ values ({id}, 'b{n}', {n}.0, {document}, 'raw') on conflict do nothing"
        )),
        2 => (id.clone(), 1..5_i32).prop_map(|(from, rows)| format!(
            "insert into @ select g, 'many', g, null, 'raw' from generate_series({from}, {}) g on conflict do nothing",
            from + rows
        )),
        2 => (id.clone(), 0..3_i32).prop_map(|(id, n)| format!(
            "insert into @ (id, n) values ({id}, {n}), ({}, {n}) on conflict (id) do update set n = excluded.n, body = 'up'",
            id + 1
        )),
        3 => (id.clone(), id.clone(), 0..3_i32).prop_map(|(from, to, n)| format!(
            "update @ set n = {n}, body = case when id % 2 = 0 then body else 'odd' end where id between {from} and {to}"
        )),
        1 => document.prop_map(|document| format!("update @ set document = {document}")),
        1 => Just("update @ set secret = secret || 'x' where id % 3 = 0".to_owned()),
        2 => Just("update @ set id = 100 - id".to_owned()),
        1 => (id.clone(), id.clone()).prop_map(|(a, b)| format!("update @ set id = id + 1000 + {b} where id = {a}")),
        2 => (id.clone(), id.clone()).prop_map(|(from, to)| format!("delete from @ where id between {from} and {to}")),
        2 => id.clone().prop_map(|id| format!(
            "merge into @ t using (values ({id}), ({})) v (id) on t.id = v.id when matched and t.n > 1 then delete
             when matched then update set n = 5 when not matched then insert (id, body) values (v.id, 'merged')",
            id + 1
        )),
        1 => id.prop_map(|id| format!("with gone as (delete from @ where id < {id} returning *) select count(*) from gone")),
        1 => Just("truncate @".to_owned()),
        2 => Just("savepoint s".to_owned()),
        2 => Just("rollback to s".to_owned()),
    ]
}

/// What a change says, without what only tells when.
async fn rows(connection: &mut PgConnection, table: &str) -> anyhow::Result<Vec<Value>> {
    Ok(sqlx::query_scalar(
        "select to_jsonb(c) - '{id,transaction_id,captured_at,position,table_name}'::text[]
                || jsonb_build_object('transaction', dense_rank() over (order by t.txid))
         from audit_changes c join audit_transactions t on t.id = c.transaction_id
         where c.table_name = $1 order by c.position",
    )
    .bind(table)
    .fetch_all(connection)
    .await?)
}

async fn play(connection: &mut PgConnection, transactions: &[Vec<String>]) -> anyhow::Result<()> {
    for transaction in transactions {
        connection.execute("begin; savepoint s").await?;
        for statement in transaction {
            for table in ["by_row", "by_statement"] {
                if statement.contains('@') {
                    connection.execute("savepoint one").await?;
                    let statement = statement.replace('@', table);
                    // A key that is taken: the statement leaves nothing on either table.
                    match connection.execute(AssertSqlSafe(statement)).await {
                        Ok(_) => connection.execute("release one").await?,
                        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                            connection.execute("rollback to one; release one").await?
                        }
                        Err(error) => return Err(error.into()),
                    };
                }
            }
            if !statement.contains('@') {
                connection.execute(AssertSqlSafe(statement.clone())).await?;
            }
        }
        connection.execute("commit").await?;
        for table in ["by_row", "by_statement"] {
            let mut copy = connection.copy_in_raw(&format!("copy {table} (id, body) from stdin")).await?;
            copy.send(b"5000\tcopied\n5001\t\\N\n".to_vec()).await?;
            copy.finish().await?;
            connection
                .execute(AssertSqlSafe(format!("delete from {table} where id in (5000, 5001)")))
                .await?;
        }
    }
    Ok(())
}

#[test]
fn both_levels_record_the_same_rows_of_any_statements() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let (_database, connection, has_merge) = runtime
        .block_on(async {
            let (database, mut connection) = host("select 1").await?;
            connection
                .execute(AssertSqlSafe(format!(
                    "create table by_row {TABLE}; create table by_statement {TABLE}"
                )))
                .await?;
            let policy =
                |level: &str| json!({"level": level, "mask": ["secret"], "paths": ["document.token"]});
            capture(&mut connection, &[("by_row", policy("row")), ("by_statement", policy("statement"))])
                .await?;
            let has_merge = server_version(&mut connection).await? >= 150_000;
            anyhow::Ok((database, connection, has_merge))
        })
        .unwrap();
    let connection = std::cell::RefCell::new(connection);
    // Before PostgreSQL 15 there is none.
    let statement =
        statement().prop_filter("no merge", |statement| has_merge || !statement.starts_with("merge"));
    let transactions = prop::collection::vec(prop::collection::vec(statement, 1..8), 1..5);
    runner
        .run(&transactions, |transactions| {
            let mut connection = connection.borrow_mut();
            runtime.block_on(async {
                connection.execute("rollback").await.unwrap();
                connection
                    .execute(
                        "truncate by_row; truncate by_statement; truncate audit_transactions, audit_changes",
                    )
                    .await
                    .unwrap();
                play(&mut connection, &transactions).await.unwrap();
                let (by_row, by_statement) = (
                    rows(&mut connection, "by_row").await.unwrap(),
                    rows(&mut connection, "by_statement").await.unwrap(),
                );
                // One statement that inserts, updates and deletes has its rows grouped by what it did, at statement level.
                let sorted = |rows: &[Value]| {
                    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
                    rows.sort();
                    rows
                };
                prop_assert_eq!(sorted(&by_row), sorted(&by_statement));
                let mixes =
                    |statement: &String| statement.starts_with("merge") || statement.contains("do update");
                if !transactions.iter().flatten().any(mixes) {
                    prop_assert_eq!(&by_row, &by_statement);
                }
                let leaked = by_row.iter().any(|row| row.to_string().contains("\"raw"));
                prop_assert!(!leaked);
                Ok(())
            })
        })
        .unwrap();
}

/// The plan is kept for the session: one that was made for few rows serves many as well.
#[tokio::test]
async fn a_session_that_updated_one_row_updates_thousands_without_comparing_each_with_each()
-> anyhow::Result<()> {
    let (_database, mut connection) = host("create table a (id int primary key, v int)").await?;
    capture(&mut connection, &[("a", json!({"level": "statement"}))]).await?;
    connection.execute("set statement_timeout = '60s'").await?;
    connection.execute("insert into a select g, 0 from generate_series(1, 30000) g").await?;
    for _ in 0..3 {
        connection.execute("update a set v = v + 1 where id = 1").await?;
    }
    connection.execute("update a set v = v + 1").await?;
    let wrong: i64 = sqlx::query_scalar(
        "select count(*) from audit_changes where op = 'update'
            and (changed_from ->> 'v')::int + 1 <> (data_after ->> 'v')::int",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(wrong, 0);
    let count: i64 = sqlx::query_scalar("select count(*) from audit_changes where op = 'update'")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(count, 30_003);
    Ok(())
}
