//! Capture that is switched off for maintenance, and on again.

use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};
use threadline::{
    ActorRef, ActorType, StorageSchema,
    capture::HostTable,
    continuity::{SwitchError, disable_capture, enable_capture},
};

use super::{capture, changes, host};

fn admin() -> ActorRef {
    ActorRef::new(ActorType::Admin, Some("a1")).unwrap()
}

fn tables(names: &[&str]) -> Vec<HostTable> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn off(connection: &mut PgConnection, names: &[&str]) -> Result<(), SwitchError> {
    disable_capture(connection, &StorageSchema::default(), &tables(names), &admin(), "bulk load").await
}

async fn on(connection: &mut PgConnection, names: &[&str]) -> Result<(), SwitchError> {
    enable_capture(connection, &StorageSchema::default(), &tables(names), &admin(), "loaded").await
}

/// Names and firing states of all triggers, on partitions too.
async fn states(connection: &mut PgConnection) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar(
        "select string_agg(tgrelid::regclass || ' ' || tgname || ' ' || tgenabled::text, ', ' order by tgrelid::regclass::text, tgname)
         from pg_trigger where tgname like 'threadline%'",
    )
    .fetch_one(connection)
    .await?)
}

async fn actions(connection: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    Ok(sqlx::query_scalar(
        "select jsonb_build_array(name, actor_ref ->> 'id', reason, comment::jsonb ->> 'table') from audit_actions order by inserted_at, comment",
    )
    .fetch_all(connection)
    .await?)
}

const TABLES: &str = "create table a (id int primary key, v int); create table p (id int primary key) partition by range (id);
     create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20)";

#[tokio::test]
async fn what_is_switched_off_says_who_and_why_and_comes_back_as_it_was() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("a", json!({})), ("p", json!({}))]).await?;
    connection
        .execute(
            "alter table a enable always trigger threadline_audit_a; alter table a disable trigger threadline_truncate_a;
             alter table p1 enable always trigger threadline_audit_p",
        )
        .await?;
    let before = states(&mut connection).await?;
    off(&mut connection, &["p", "a"]).await?;
    let write = "insert into a values (1, 1); update a set v = 2; delete from a; insert into p values (1), (11); truncate p1";
    connection.execute(write).await?;
    assert_eq!(changes(&mut connection).await?, Vec::<Value>::new());
    let marks: Vec<Value> = sqlx::query_scalar(
        "select jsonb_build_array(table_name, off -> 'actor', off ->> 'reason', (off ->> 'at')::timestamptz <= now()) from threadline_capture_policies order by 1",
    )
    .fetch_all(&mut connection)
    .await?;
    let who = admin().to_json();
    assert_eq!(marks, [json!(["a", who, "bulk load", true]), json!(["p", who, "bulk load", true])]);
    on(&mut connection, &["a", "p"]).await?;
    assert_eq!(states(&mut connection).await?, before);
    let marked: i64 = sqlx::query_scalar("select count(off) from threadline_capture_policies")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(marked, 0);
    connection.execute("insert into a values (2, 1); insert into p values (2), (12)").await?;
    assert_eq!(changes(&mut connection).await?.len(), 3);
    let expected = [
        json!(["threadline.capture.disabled", "a1", "bulk load", "public.a"]),
        json!(["threadline.capture.disabled", "a1", "bulk load", "public.p"]),
        json!(["threadline.capture.enabled", "a1", "loaded", "public.a"]),
        json!(["threadline.capture.enabled", "a1", "loaded", "public.p"]),
    ];
    assert_eq!(actions(&mut connection).await?, expected);
    Ok(())
}

/// It has no stored policy: the action alone says what its trigger did.
#[tokio::test]
async fn a_trigger_of_the_elixir_librarys_comes_back_as_it_was() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    connection
        .execute(
            "create trigger threadline_audit_a after insert or update or delete on a for each row execute function threadline_capture_changes('id');
             alter table a enable always trigger threadline_audit_a",
        )
        .await?;
    let before = states(&mut connection).await?;
    off(&mut connection, &["a"]).await?;
    connection.execute("insert into a values (1, 1)").await?;
    assert_eq!(changes(&mut connection).await?, Vec::<Value>::new());
    on(&mut connection, &["a"]).await?;
    assert_eq!(states(&mut connection).await?, before);
    Ok(())
}

#[tokio::test]
async fn triggers_that_are_generated_while_capture_is_off_are_off_too_and_come_on_with_it()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
    off(&mut connection, &["a"]).await?;
    capture(&mut connection, &[("a", json!({"level": "statement"}))]).await?;
    connection.execute("insert into a values (1, 1); update a set v = 2; delete from a; truncate a").await?;
    assert_eq!(changes(&mut connection).await?, Vec::<Value>::new());
    on(&mut connection, &["a"]).await?;
    connection.execute("insert into a values (1, 1); update a set v = 2; delete from a; truncate a").await?;
    assert_eq!(changes(&mut connection).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn whoever_gives_no_name_or_no_reason_switches_nothing() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("a", json!({}))]).await?;
    let before = states(&mut connection).await?;
    let storage = StorageSchema::default();
    let nobody = ActorRef::anonymous();
    let a = tables(&["a"]);
    let mut refused = Vec::new();
    refused.push(disable_capture(&mut connection, &storage, &a, &nobody, "bulk load").await);
    refused.push(enable_capture(&mut connection, &storage, &a, &nobody, "bulk load").await);
    refused.push(disable_capture(&mut connection, &storage, &a, &admin(), " ").await);
    refused.push(off(&mut connection, &[]).await);
    refused.push(off(&mut connection, &["a", "a"]).await);
    refused.push(off(&mut connection, &["a", "nowhere"]).await);
    refused.push(off(&mut connection, &["a", "p"]).await);
    refused.push(on(&mut connection, &["a"]).await);
    assert_eq!(states(&mut connection).await?, before);
    off(&mut connection, &["a"]).await?;
    refused.push(off(&mut connection, &["a"]).await);
    let terms: Vec<&str> = refused
        .into_iter()
        .map(|one| match one {
            Err(SwitchError::Refused(refusal)) => refusal.term,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "actor_missing",
        "actor_missing",
        "reason_missing",
        "no_tables",
        "table_twice",
        "table_missing",
        "not_captured",
        "not_off",
        "already_off",
    ];
    assert_eq!(terms, expected);
    assert_eq!(actions(&mut connection).await?.len(), 1);
    Ok(())
}
