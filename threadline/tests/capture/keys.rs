//! Keys of changes that were recorded without one.

use std::time::Duration;

use sandbox::wait::until_some;
use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    continuity::{KeyBackfill, KeyBackfillError},
};

use super::{capture, host};

/// Changes as triggers of before version 0.11 have recorded them, and newer ones.
const HISTORY: &str = "create table users (code uuid primary key, name text); create table pairs (b text, a int, primary key (a, b));
     create table keyless (v int); create table masked (email text primary key);
     insert into audit_transactions (id, txid) values ('00000000-0000-0000-0000-000000000001', 1);
     insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
     select '00000000-0000-0000-0000-000000000001', 'public', t, pk::jsonb, op, data::jsonb, '2026-01-01'::timestamptz + n * interval '1 s'
     from (values
         (1, 'users', '{\"id\": null}', 'insert', '{\"code\": \"0b7c1d4e-0000-4000-8000-000000000001\", \"name\": \"A\"}'),
         (2, 'users', '{\"id\": null}', 'update', '{\"code\": \"0b7c1d4e-0000-4000-8000-000000000001\", \"name\": \"B\"}'),
         (3, 'users', '{}', 'update', '{\"code\": \"0b7c1d4e-0000-4000-8000-000000000002\", \"name\": \"C\"}'),
         (4, 'users', '{\"id\": null}', 'delete', null),
         (5, 'users', '{}', 'update', '{\"name\": \"no code\"}'),
         (6, 'users', '{}', 'update', '{\"code\": null}'),
         (7, 'users', '{}', 'truncate', null),
         (8, 'users', '{\"code\": \"kept\"}', 'update', '{\"code\": \"0b7c1d4e-0000-4000-8000-000000000003\"}'),
         (9, 'users', '{\"id\": \"7\"}', 'update', '{\"code\": \"0b7c1d4e-0000-4000-8000-000000000003\"}'),
         (10, 'pairs', '{\"id\": null}', 'insert', '{\"a\": 123456789012345678, \"b\": \"x\"}'),
         (11, 'pairs', '{\"id\": null}', 'insert', '{\"a\": 1}'),
         (12, 'keyless', '{\"id\": null}', 'insert', '{\"v\": 1}'),
         (13, 'gone', '{\"id\": null}', 'insert', '{\"v\": 1}'),
         (14, 'masked', '{\"id\": null}', 'insert', '{\"email\": \"[REDACTED]\"}')) h (n, t, pk, op, data)";

async fn keys(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select table_name || ' ' || op || ' ' || table_pk::text from audit_changes order by captured_at",
    )
    .fetch_all(connection)
    .await?)
}

fn expected() -> Value {
    json!([
        {"table": "public.gone", "key": [], "recovered": 0, "left": {"table_missing": 1}},
        {"table": "public.keyless", "key": [], "recovered": 0, "left": {"primary_key_missing": 1}},
        {"table": "public.masked", "key": ["email"], "recovered": 0, "left": {"key_redacted": 1}},
        {"table": "public.pairs", "key": ["a", "b"], "recovered": 1, "left": {"key_not_in_image": 1}},
        {"table": "public.users", "key": ["code"], "recovered": 3, "left": {"key_not_in_image": 2, "no_image": 1}},
    ])
}

#[tokio::test]
async fn changes_are_given_the_keys_that_their_images_hold_and_no_other_change_is_touched()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(HISTORY).await?;
    let storage = StorageSchema::default();
    let before = keys(&mut connection).await?;
    // Batches of one size and another see the same.
    for size in [1, 2, 1000] {
        let dry = KeyBackfill::default().batch_size(size).dry_run(true);
        let counted = dry.run(&mut connection, &storage, &[], |_| ()).await?;
        assert_eq!(json!(counted), expected(), "batches of {size}");
    }
    assert_eq!(keys(&mut connection).await?, before);
    let mut told = 0;
    let backfill = KeyBackfill::default().batch_size(2);
    let done = backfill.run(&mut connection, &storage, &[], |_| told += 1).await?;
    assert_eq!(json!(done), expected());
    assert!(told > 5, "progress after each batch");
    let first = "users insert {\"code\": \"0b7c1d4e-0000-4000-8000-000000000001\"}";
    let second = "users update {\"code\": \"0b7c1d4e-0000-4000-8000-000000000001\"}";
    let third = "users update {\"code\": \"0b7c1d4e-0000-4000-8000-000000000002\"}";
    let pair = "pairs insert {\"a\": \"123456789012345678\", \"b\": \"x\"}";
    let mut after = before.clone();
    for (n, key) in [(0, first), (1, second), (2, third), (9, pair)] {
        after[n] = key.to_owned();
    }
    assert_eq!(keys(&mut connection).await?, after);
    // Again: nothing is left to recover, and the same is left over.
    let again = backfill.run(&mut connection, &storage, &["users".parse()?], |_| ()).await?;
    let users = json!([{"table": "public.users", "key": ["code"], "recovered": 0, "left": {"key_not_in_image": 2, "no_image": 1}}]);
    assert_eq!(json!(again), users);
    Ok(())
}

/// What the backfill writes is what the trigger writes for the same row, for every type that a key may have.
#[tokio::test]
async fn a_recovered_key_is_the_one_that_a_trigger_records() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create type mood as enum ('sad', 'happy'); create domain code as text check (value <> '');
         create table a (i2 smallint, i8 bigint, t text, vc varchar(9), ch char(4), u uuid, d date, ts timestamp, m mood, c code, v int,
                         primary key (i2, i8, t, vc, ch, u, d, ts, m, c))",
    )
    .await?;
    capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    connection.execute("set datestyle = 'German'; set timezone = 'Asia/Kathmandu'").await?;
    connection
        .execute(
            "insert into a values (-7, 9007199254740993, 'O''Hara \"x\" ü', 'v', 'a', gen_random_uuid(), '2026-02-03', '2026-02-03 04:05:06.7',
                                   'sad', 'C', 1)",
        )
        .await?;
    let key = "select table_pk from audit_changes";
    let recorded: Value = sqlx::query_scalar(key).fetch_one(&mut connection).await?;
    connection.execute("update audit_changes set table_pk = '{\"id\": null}'").await?;
    let done = KeyBackfill::default().run(&mut connection, &StorageSchema::default(), &[], |_| ()).await?;
    assert_eq!(done[0].recovered, 1);
    let recovered: Value = sqlx::query_scalar(key).fetch_one(&mut connection).await?;
    assert_eq!(recovered, recorded);
    assert_eq!(recovered["ch"], "a   ");
    Ok(())
}

#[tokio::test]
async fn a_backfill_that_is_interrupted_keeps_what_it_has_done_and_continues() -> anyhow::Result<()> {
    let (database, mut connection) = host(
        "create table users (code int primary key);
         insert into audit_transactions (id, txid) values ('00000000-0000-0000-0000-000000000001', 1);
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after)
         select '00000000-0000-0000-0000-000000000001', 'public', 'users', '{\"id\": null}', 'insert', jsonb_build_object('code', n)
         from generate_series(1, 50) n",
    )
    .await?;
    let storage = StorageSchema::default();
    let backfill = KeyBackfill::default().batch_size(10);
    // Its connection dies after the second batch.
    let mut victim = database.connect().await?;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut victim).await?;
    let (stop, stopped) = std::sync::mpsc::channel();
    let url = database.url.clone();
    let killer = std::thread::spawn(move || -> anyhow::Result<()> {
        stopped.recv()?;
        tokio::runtime::Runtime::new()?.block_on(async {
            let mut connection = <PgConnection as sqlx::Connection>::connect(&url).await?;
            sqlx::query("select pg_terminate_backend($1, 10000)")
                .bind(process)
                .execute(&mut connection)
                .await?;
            Ok(())
        })
    });
    let mut killer = Some(killer);
    let interrupted = backfill
        .run(&mut victim, &storage, &[], |done| {
            if done.recovered == 20 {
                stop.send(()).unwrap();
                killer.take().unwrap().join().unwrap().unwrap();
            }
        })
        .await;
    interrupted.expect_err("its connection is gone");
    let open = "select count(*) from audit_changes where table_pk = '{\"id\": null}'";
    let left: i64 = sqlx::query_scalar(open).fetch_one(&mut connection).await?;
    assert_eq!(left, 30);
    let done = backfill.run(&mut connection, &storage, &[], |_| ()).await?;
    assert_eq!(done[0].recovered, 30);
    let left: i64 = sqlx::query_scalar(open).fetch_one(&mut connection).await?;
    assert_eq!(left, 0);
    Ok(())
}

/// Two who recover keys at once, or somebody by hand.
#[tokio::test]
async fn a_change_that_is_given_its_key_meanwhile_is_neither_touched_nor_counted() -> anyhow::Result<()> {
    let (database, mut connection) = host(HISTORY).await?;
    let mut other = database.connect().await?;
    other
        .execute(
            "begin; update audit_changes set table_pk = '{\"code\": \"theirs\"}' where table_name = 'users' and op = 'insert'",
        )
        .await?;
    let storage = StorageSchema::default();
    let users = ["users".parse()?];
    let mut watcher = database.connect().await?;
    let commit = async {
        until_some("the backfill to wait", Duration::from_secs(4), async || {
            let waits: bool = sqlx::query_scalar("select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')")
                .fetch_one(&mut watcher)
                .await?;
            Ok(waits.then_some(()))
        })
        .await?;
        other.execute("commit").await?;
        anyhow::Ok(())
    };
    let (done, committed) =
        tokio::join!(KeyBackfill::default().run(&mut connection, &storage, &users, |_| ()), commit);
    committed?;
    assert_eq!(done?[0].recovered, 2);
    let theirs = "users insert {\"code\": \"theirs\"}".to_owned();
    assert!(keys(&mut connection).await?.contains(&theirs));
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_not_there_and_has_no_change_is_refused_before_anything_is_done() -> anyhow::Result<()>
{
    let (_database, mut connection) = host(HISTORY).await?;
    let storage = StorageSchema::default();
    let before = keys(&mut connection).await?;
    let named = ["users".parse()?, "nope".parse()?];
    match KeyBackfill::default().run(&mut connection, &storage, &named, |_| ()).await {
        Err(KeyBackfillError::Refused(refusal)) => assert_eq!(refusal.term, "table_missing"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keys(&mut connection).await?, before);
    // One that is gone has changes that say so.
    let gone = KeyBackfill::default().run(&mut connection, &storage, &["gone".parse()?], |_| ()).await?;
    assert_eq!(gone[0].left["table_missing"], 1);
    Ok(())
}
