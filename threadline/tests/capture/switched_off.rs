//! Capture that is switched off for maintenance, and on again.

use std::time::{Duration, Instant};

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

/// With our triggers and with the library's, which has no stored policy.
#[tokio::test]
async fn capture_that_is_switched_off_twice_comes_back_as_it_was_before_the_first_time() -> anyhow::Result<()>
{
    let library = "create trigger threadline_audit_a after insert or update or delete on a for each row execute function threadline_capture_changes('id');
         create trigger threadline_audit_p after insert or update or delete on p for each row execute function threadline_capture_changes('id')";
    for is_library in [false, true] {
        let (_database, mut connection) = host(TABLES).await?;
        if is_library {
            connection.execute(library).await?;
        } else {
            capture(&mut connection, &[("a", json!({})), ("p", json!({"level": "row"}))]).await?;
        }
        connection.execute("alter table p enable always trigger threadline_audit_p").await?;
        let before = states(&mut connection).await?;
        off(&mut connection, &["p"]).await?;
        connection
            .execute(
                "alter table only p1 enable trigger threadline_audit_p; create table p3 (id int primary key);
                 create trigger threadline_by_hand after insert on p3 for each row execute function threadline_capture_changes('id');
                 alter table p3 enable replica trigger threadline_by_hand;
                 alter table p attach partition p3 for values from (20) to (30)",
            )
            .await?;
        off(&mut connection, &["p"]).await?;
        connection.execute("insert into p values (1), (11), (21)").await?;
        assert_eq!(changes(&mut connection).await?, Vec::<Value>::new());
        on(&mut connection, &["p"]).await?;
        let after = states(&mut connection).await?;
        assert!(after.contains("p3 threadline_by_hand R"), "{after}");
        let after: Vec<&str> = after.split(", ").filter(|state| !state.starts_with("p3 ")).collect();
        assert_eq!(after.join(", "), before);
        // What is on again has nothing to remember.
        connection.execute("alter table p enable trigger threadline_audit_p").await?;
        let ordinary = states(&mut connection).await?;
        off(&mut connection, &["p"]).await?;
        on(&mut connection, &["p"]).await?;
        assert_eq!(states(&mut connection).await?, ordinary);
    }
    Ok(())
}

#[tokio::test]
async fn a_table_or_trigger_that_is_renamed_while_capture_is_off_comes_back_as_it_was() -> anyhow::Result<()>
{
    let library = "create trigger threadline_audit_a after insert or update or delete on a for each row execute function threadline_capture_changes('id');
         create trigger threadline_truncate_a after truncate on a for each statement execute function threadline_capture_truncate()";
    for is_library in [false, true] {
        let (_database, mut connection) = host(TABLES).await?;
        if is_library {
            connection.execute(library).await?;
        } else {
            capture(&mut connection, &[("a", json!({"level": "row"}))]).await?;
        }
        connection
            .execute(
                "alter table a enable always trigger threadline_audit_a; alter table a disable trigger threadline_truncate_a",
            )
            .await?;
        let before = states(&mut connection).await?;
        off(&mut connection, &["a"]).await?;
        connection
            .execute("alter trigger threadline_audit_a on a rename to threadline_audit_b; alter table a rename to b")
            .await?;
        on(&mut connection, &["b"]).await?;
        let after = states(&mut connection).await?;
        assert_eq!(
            after,
            before
                .replace("a threadline_audit_a", "b threadline_audit_b")
                .replace("a threadline_t", "b threadline_t")
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_mark_of_an_older_version_is_read_by_name() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("a", json!({}))]).await?;
    connection.execute("alter table a enable always trigger threadline_audit_a").await?;
    let before = states(&mut connection).await?;
    off(&mut connection, &["a"]).await?;
    connection
        .execute(
            "update threadline_capture_policies set off = jsonb_set(off, '{triggers}',
                 (select jsonb_agg(t - 'oid' - 'relation') from jsonb_array_elements(off -> 'triggers') t))",
        )
        .await?;
    on(&mut connection, &["a"]).await?;
    assert_eq!(states(&mut connection).await?, before);
    Ok(())
}

/// It has written to one of the tables and goes on to another: without a limit the two wait for each other.
#[tokio::test]
async fn a_writer_is_never_aborted_because_capture_is_switched() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    connection.execute("create table b (id int primary key)").await?;
    capture(&mut connection, &[("a", json!({})), ("b", json!({})), ("p", json!({}))]).await?;
    for (first, second) in [("b values (1)", "a values (1)"), ("p values (1)", "a values (2)")] {
        let mut writer = database.connect().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("begin; insert into {first}")))
            .execute(&mut writer)
            .await?;
        let started = Instant::now();
        let write = async {
            // Whoever has waited for a second has looked for deadlocks, and does not look again.
            tokio::time::sleep(Duration::from_millis(1300)).await;
            let rest = format!("insert into {second}; select pg_sleep(0.5); commit");
            sqlx::raw_sql(sqlx::AssertSqlSafe(rest)).execute(&mut writer).await
        };
        let (written, switched) = tokio::join!(write, off(&mut connection, &["a", "b", "p"]));
        written?;
        switched?;
        assert!(started.elapsed() > Duration::from_secs(1));
        on(&mut connection, &["a", "b", "p"]).await?;
    }
    assert_eq!(changes(&mut connection).await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_table_that_stays_locked_is_not_switched_and_nothing_has_changed() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    capture(&mut connection, &[("a", json!({})), ("p", json!({}))]).await?;
    let before = states(&mut connection).await?;
    let mut writer = database.connect().await?;
    writer.execute("begin; insert into p values (11)").await?;
    let started = Instant::now();
    let failed = off(&mut connection, &["a", "p"]).await;
    let took = started.elapsed();
    assert!(matches!(failed, Err(SwitchError::Database(_))), "{failed:?}");
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
    writer.execute("commit").await?;
    assert_eq!(states(&mut connection).await?, before);
    assert_eq!(actions(&mut connection).await?, Vec::<Value>::new());
    Ok(())
}
