//! The captured transaction: one for each database transaction, with actor and context.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{actors, both_levels, capture, host};

const TABLE: &str = "create table notes (id int primary key, body text)";

#[tokio::test]
async fn changes_of_one_transaction_share_its_row_with_actor_and_context() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("notes", json!({}))]).await?;
    connection
        .execute(
            r#"begin;
               select set_config('threadline.actor_ref', '{"type": "user", "id": "u1"}', true);
               select set_config('threadline.context',
                   '{"request_id": "r1", "correlation_id": "c1", "job_id": "j1", "source": "web", "tenant": 7}', true);
               insert into notes values (1, 'a');
               update notes set body = 'b';
               savepoint s; insert into notes values (2, 'c'); rollback to s;
               commit;
               insert into notes values (3, 'd')"#,
        )
        .await?;
    assert_eq!(
        actors(&mut connection).await?,
        [
            json!({"actor_ref": {"type": "user", "id": "u1"}, "request_id": "r1", "correlation_id": "c1", "job_id": "j1",
                   "source": "web", "context": {"tenant": 7}}),
            json!({}),
        ]
    );
    let counts: Vec<i64> = sqlx::query_scalar(
        "select count(*) from audit_changes c join audit_transactions t on t.id = c.transaction_id group by t.txid order by t.txid",
    )
    .fetch_all(&mut connection)
    .await?;
    assert_eq!(counts, [2, 1]);
    Ok(())
}

#[tokio::test]
async fn a_malformed_setting_is_marked_and_never_aborts_the_write() -> anyhow::Result<()> {
    for (policy, function) in [(json!({}), ""), (json!({}), "library")] {
        let (_database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        if !function.is_empty() {
            connection
                .execute(
                    "drop trigger threadline_update_notes on notes; drop trigger threadline_delete_notes on notes;
                     create or replace trigger threadline_audit_notes after insert or update or delete on notes
                     for each row execute function threadline_capture_changes('id')",
                )
                .await?;
        }
        let long = format!("{{\"k\": \"{}\"}}", "x".repeat(9000));
        let values = [
            "{not json",
            "\"text\"",
            "[1]",
            "7",
            "\\u0000",
            "{\"a\": \"\\u0000\"}",
            &long,
            "{\"type\": \"\\ud800\"}",
        ];
        for (n, value) in values.iter().enumerate() {
            connection.execute("begin").await?;
            for setting in ["threadline.actor_ref", "threadline.context"] {
                sqlx::query("select set_config($1, $2, true)")
                    .bind(setting)
                    .bind(value)
                    .execute(&mut connection)
                    .await?;
            }
            sqlx::query("insert into notes values ($1, 'a')")
                .bind(i32::try_from(n)?)
                .execute(&mut connection)
                .await?;
            connection.execute("commit").await?;
        }
        let marked =
            json!({"context": {"threadline.malformed": ["threadline.actor_ref", "threadline.context"]}});
        assert_eq!(actors(&mut connection).await?, vec![marked; values.len()]);
    }
    Ok(())
}

#[tokio::test]
async fn an_empty_setting_is_none_at_all() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("notes", json!({}))]).await?;
    // What a setting is after the transaction that made it, in a session that goes on.
    connection
        .execute(
            r#"begin; set local threadline.actor_ref = '{"type": "anonymous"}'; set local threadline.context = '{"job_id": "j"}';
               commit"#,
        )
        .await?;
    let left: String = sqlx::query_scalar("select current_setting('threadline.actor_ref')")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(left, "");
    connection.execute("insert into notes values (1, 'a')").await?;
    assert_eq!(actors(&mut connection).await?, [json!({})]);
    Ok(())
}

/// Names of the settings that functions of the timeline read, with what is in them.
async fn settings(connection: &mut PgConnection) -> anyhow::Result<Vec<(String, Option<String>)>> {
    Ok(sqlx::query_as(
        r"select distinct m[1], current_setting(m[1], true)
          from pg_proc p, regexp_matches(p.prosrc, '''(threadline\.[a-z_.]+)''', 'g') m where p.proname like 'threadline\_%'",
    )
    .fetch_all(connection)
    .await?)
}

/// Every setting can be written by everybody.
#[tokio::test]
async fn settings_that_a_client_copies_or_forges_file_nothing_under_another_transaction() -> anyhow::Result<()>
{
    for policy in both_levels() {
        let (_database, mut connection) = host(TABLE).await?;
        capture(&mut connection, &[("notes", policy)]).await?;
        connection.execute("begin; insert into notes values (1, 'a')").await?;
        let copied = settings(&mut connection).await?;
        assert!(copied.iter().any(|(name, _)| name == "threadline.actor_ref"), "{copied:?}");
        let xid: String =
            sqlx::query_scalar("select txid_current()::text").fetch_one(&mut connection).await?;
        connection.execute("commit").await?;
        for (id, forges) in [(2, false), (3, true)] {
            connection.execute("begin").await?;
            let own: String =
                sqlx::query_scalar("select txid_current()::text").fetch_one(&mut connection).await?;
            for (name, value) in &copied {
                let value = value.clone().unwrap_or_default();
                let value = if forges { value.replace(&xid, &own) } else { value };
                sqlx::query("select set_config($1, $2, false)")
                    .bind(name)
                    .bind(value)
                    .execute(&mut connection)
                    .await?;
            }
            connection
                .execute(AssertSqlSafe(format!(
                    "savepoint s; insert into notes values ({id}, 'a'); rollback to s; insert into notes values ({id}, 'a');
                     update notes set body = 'b' where id = {id}; commit"
                )))
                .await?;
        }
        let filed: Vec<(i32, i64)> = sqlx::query_as(
            "select (c.table_pk ->> 'id')::int, dense_rank() over (order by t.txid) from audit_changes c
             join audit_transactions t on t.id = c.transaction_id order by c.position",
        )
        .fetch_all(&mut connection)
        .await?;
        assert_eq!(filed, [(1, 1), (2, 2), (2, 2), (3, 3), (3, 3)]);
    }
    Ok(())
}

/// A dump brings rows with it whose numbers this cluster gives out again.
#[tokio::test]
async fn a_transaction_of_another_cluster_with_the_same_number_takes_no_changes() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("notes", json!({}))]).await?;
    connection
        .execute(
            "insert into audit_transactions (txid, occurred_at, actor_ref)
             select txid_current() + n + (k::bigint << 48), now() - interval '1 day', '{\"type\": \"system\", \"id\": \"old\"}'
             from generate_series(0, 50) n, generate_series(0, 1) k;
             insert into notes values (1, 'a'); update notes set body = 'b'; begin;
             insert into notes values (2, 'a'); insert into notes values (3, 'a'); commit",
        )
        .await?;
    let new: Vec<(i64, i64)> = sqlx::query_as(
        "select t.txid >> 48, count(*) from audit_changes c join audit_transactions t on t.id = c.transaction_id
         where t.actor_ref is null group by t.txid, t.id order by t.txid",
    )
    .fetch_all(&mut connection)
    .await?;
    assert!(new.iter().all(|(slot, _)| *slot == 2), "{new:?}");
    assert_eq!(new.iter().map(|(_, count)| *count).sum::<i64>(), 4);
    let old: i64 = sqlx::query_scalar(
        "select count(*) from audit_changes c join audit_transactions t on t.id = c.transaction_id where t.actor_ref is not null",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(old, 0);
    Ok(())
}

#[tokio::test]
async fn a_statement_without_rows_makes_no_transaction() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("notes", json!({"level": "statement"}))]).await?;
    connection
        .execute(
            "insert into notes select 1, 'a' where false; update notes set body = 'b'; delete from notes",
        )
        .await?;
    assert!(actors(&mut connection).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn ids_of_changes_and_transactions_begin_with_the_time() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host("create table a (id int primary key, v int)").await?;
        capture(&mut connection, &[("a", policy)]).await?;
        for statement in [
            "insert into a values (1, 1), (2, 2)",
            "update a set v = 3 where id = 1",
            "update a set v = 4",
            "delete from a",
            "truncate a",
        ] {
            connection.execute(statement).await?;
        }
        let others: i64 = sqlx::query_scalar(
            "select count(*) from (select id, captured_at from audit_changes union all select id, occurred_at from audit_transactions) c (id, at)
             where substr(id::text, 15, 1) <> '7'
                or abs(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint - extract(epoch from at) * 1000) > 1000",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(others, 0);
    }
    Ok(())
}

/// Read by its number: by the time, each statement would read all transactions that have come since its own began.
#[tokio::test]
async fn a_long_transaction_is_found_without_reading_what_others_have_done_meanwhile() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLE).await?;
    capture(&mut connection, &[("notes", json!({}))]).await?;
    let mut others = database.connect().await?;
    let statement = "insert into audit_transactions (txid, occurred_at)
        select -g, now() - interval '1 day' from generate_series(1, 5000) g";
    others.execute(statement).await?;
    others.execute("analyze audit_transactions").await?;
    connection.execute("begin; insert into notes values (1, 'a')").await?;
    others
        .execute(
            "insert into audit_transactions (txid, occurred_at) select -g, clock_timestamp() from generate_series(5001, 7000) g",
        )
        .await?;
    connection.execute("insert into notes values (2, 'b')").await?;
    let read: i64 = sqlx::query_scalar(
        "select sum(pg_stat_get_xact_tuples_fetched(indexrelid))::bigint from pg_index
         where indrelid = 'audit_transactions'::regclass",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.execute("commit").await?;
    assert!(read < 10, "{read} transactions were read");
    Ok(())
}
