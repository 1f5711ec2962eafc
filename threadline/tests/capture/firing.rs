//! When triggers fire, in which order, for whom, and when they do not.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{actors, both_levels, capture, changes, host};

/// Operation, table and key of each change.
async fn said(connection: &mut PgConnection) -> anyhow::Result<Vec<Value>> {
    let rows = changes(connection).await?;
    Ok(rows.iter().map(|row| json!([row["op"], row["table_name"], row["table_pk"]["id"]])).collect())
}

/// A deferred trigger would see the last actor and forbid it.
#[tokio::test]
async fn a_table_is_altered_in_the_transaction_that_has_changed_it() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) =
            host("create table t (id int primary key, v int); insert into t values (1, 1)").await?;
        capture(&mut connection, &[("t", policy)]).await?;
        connection
            .execute(
                "begin; set local threadline.actor_ref = '{\"type\": \"user\", \"id\": \"first\"}'; update t set v = 2;
                 alter table t add w int; update t set w = 1; set local threadline.actor_ref = '{\"type\": \"user\", \"id\": \"last\"}';
                 commit",
            )
            .await?;
        let rows = changes(&mut connection).await?;
        assert_eq!(rows[0]["changed_fields"], json!(["v"]));
        assert_eq!(rows[1]["changed_fields"], json!(["w"]));
        assert_eq!(actors(&mut connection).await?, [json!({"actor_ref": {"type": "user", "id": "first"}})]);
        let deferrable: i64 = sqlx::query_scalar(
            "select count(*) from pg_trigger where tgname like 'threadline%' and tgdeferrable",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(deferrable, 0);
    }
    Ok(())
}

/// Under 18 a cascade runs as the owner of the table that it reaches, before as whoever deleted.
#[tokio::test]
async fn a_cascade_is_the_act_of_whoever_caused_it_on_every_version() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (database, mut connection) = host(
            "create table parent (id int primary key); create table child (id int primary key, parent int references parent
                 on delete cascade on update cascade); insert into parent values (1), (2); insert into child values (11, 1), (12, 2)",
        )
        .await?;
        capture(&mut connection, &[("parent", policy.clone()), ("child", policy)]).await?;
        let name = database.name();
        let mut superuser = database.superuser().await?;
        superuser
            .execute(AssertSqlSafe(format!(
                "create role writer_{name}; create role keeper_{name}; grant select, update, delete on parent to writer_{name};
                 alter table child owner to keeper_{name}; grant select on parent to keeper_{name}; grant usage on schema public to keeper_{name};
                 set role writer_{name}; begin; set local threadline.actor_ref = '{{\"type\": \"user\", \"id\": \"u1\"}}';
                 delete from parent where id = 1; update parent set id = 3; commit; reset role"
            )))
            .await?;
        let mut rows = said(&mut connection).await?;
        rows.sort_by_key(Value::to_string);
        assert_eq!(
            rows,
            [
                json!(["delete", "child", "11"]),
                json!(["delete", "parent", "1"]),
                json!(["update", "child", "12"]),
                json!(["update", "parent", "3"]),
            ]
        );
        assert_eq!(actors(&mut connection).await?, [json!({"actor_ref": {"type": "user", "id": "u1"}})]);
        superuser
            .execute(AssertSqlSafe(format!(
                "drop table child; drop owned by writer_{name}, keeper_{name}; drop role writer_{name}, keeper_{name}"
            )))
            .await?;
    }
    Ok(())
}

/// Everything that is emptied, each table by itself.
#[tokio::test]
async fn a_truncate_that_cascades_is_recorded_for_each_table() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table a (id int primary key); create table b (id int primary key references a);
         create table c (id int primary key references b)",
    )
    .await?;
    capture(&mut connection, &[("a", json!({})), ("b", json!({})), ("c", json!({}))]).await?;
    connection.execute("truncate a cascade").await?;
    let mut rows = said(&mut connection).await?;
    rows.sort_by_key(Value::to_string);
    assert_eq!(rows, ["a", "b", "c"].map(|table| json!(["truncate", table, null])));
    Ok(())
}

#[tokio::test]
async fn a_partition_is_captured_as_long_as_it_belongs_to_its_table() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10);
         create table p3 (id int primary key)",
    )
    .await?;
    capture(&mut connection, &[("p", json!({}))]).await?;
    connection.execute("create table p2 partition of p for values from (10) to (20)").await?;
    connection.execute("alter table p attach partition p3 for values from (20) to (30)").await?;
    connection
        .execute("insert into p2 values (10); insert into p3 values (20); insert into p values (21)")
        .await?;
    connection.execute("alter table p detach partition p3").await?;
    connection.execute("insert into p3 values (22); delete from p3; insert into p1 values (1)").await?;
    let rows = changes(&mut connection).await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| json!([row["op"], row["table_name"], row["partition"], row["table_pk"]["id"]]))
        .collect();
    assert_eq!(
        rows,
        [
            json!(["insert", "p", "public.p2", "10"]),
            json!(["insert", "p", "public.p3", "20"]),
            json!(["insert", "p", "public.p3", "21"]),
            json!(["insert", "p", "public.p1", "1"]),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_is_a_delete_and_an_insert_of_one_transaction_and_table()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table p (id int, region int, body text, primary key (id, region)) partition by list (region);
         create table p1 partition of p for values in (1); create table p2 partition of p for values in (2);
         insert into p values (1, 1, 'a'), (2, 2, 'b')",
    )
    .await?;
    capture(&mut connection, &[("p", json!({}))]).await?;
    connection.execute("update p set region = 3 - region, body = body || '!'").await?;
    let rows: Vec<(String, String, String, i32)> = sqlx::query_as(
        "select op, table_name, partition, (table_pk ->> 'id')::int from audit_changes order by (table_pk ->> 'id')::int, position",
    )
    .fetch_all(&mut connection)
    .await?;
    let row = |op: &str, partition: &str, id: i32| (op.to_owned(), "p".to_owned(), partition.to_owned(), id);
    assert_eq!(
        rows,
        [
            row("delete", "public.p1", 1),
            row("insert", "public.p2", 1),
            row("delete", "public.p2", 2),
            row("insert", "public.p1", 2),
        ]
    );
    assert_eq!(actors(&mut connection).await?.len(), 1, "one transaction");
    Ok(())
}

/// A trigger of the host's that changes the row again may have its change recorded before the one that it reacts to. Positions differ
/// always, and what each change started from tells which was first.
#[tokio::test]
async fn changes_of_a_row_that_a_trigger_changes_again_can_be_put_in_order() -> anyhow::Result<()> {
    for policy in both_levels() {
        for trigger in ["aaa", "zzz"] {
            let (_database, mut connection) = host(
                "create table t (id int primary key, v int);
                 create function again() returns trigger language plpgsql as
                     $$begin update t set v = new.v + 1 where id = new.id and new.v % 10 <> 3; return null; end$$",
            )
            .await?;
            capture(&mut connection, &[("t", policy.clone())]).await?;
            connection
                .execute(AssertSqlSafe(format!(
                    "create trigger {trigger} after insert or update on t for each row execute function again()"
                )))
                .await?;
            connection.execute("insert into t values (1, 1), (2, 12)").await?;
            for (id, values) in [(1, [1, 2, 3].as_slice()), (2, &[12, 13])] {
                let changes: Vec<(i64, Option<i32>, i32)> = sqlx::query_as(
                    "select position, (changed_from ->> 'v')::int, (data_after ->> 'v')::int from audit_changes
                     where table_pk ->> 'id' = $1::int::text order by position",
                )
                .bind(id)
                .fetch_all(&mut connection)
                .await?;
                assert!(changes.windows(2).all(|pair| pair[0].0 < pair[1].0), "{changes:?}");
                let mut ordered = Vec::new();
                while let Some((_, _, after)) =
                    changes.iter().find(|(_, before, _)| *before == ordered.last().copied())
                {
                    ordered.push(*after);
                }
                assert_eq!(ordered, values, "{trigger}: {changes:?}");
                assert_eq!(changes.len(), values.len());
            }
        }
    }
    Ok(())
}

/// The triggers act as the owner of the timeline, to whom no policy applies.
#[tokio::test]
async fn row_level_security_on_the_timeline_aborts_no_write() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (database, mut connection) = host("create table t (id int primary key, owner text)").await?;
        capture(&mut connection, &[("t", policy)]).await?;
        connection
            .execute(
                "alter table audit_changes enable row level security; alter table audit_transactions enable row level security;
                 alter table t enable row level security; create policy own on t using (owner = current_user)",
            )
            .await?;
        let writer = format!("writer_{}", database.name());
        let mut superuser = database.superuser().await?;
        superuser
            .execute(AssertSqlSafe(format!(
                "create role {writer}; grant insert, update, delete, select on t to {writer}; insert into t values (1, 'another');
                 set role {writer}; insert into t values (2, current_user); update t set id = id + 10; delete from t; reset role;
                 drop owned by {writer}; drop role {writer}"
            )))
            .await?;
        // What the writer does not see has not changed.
        assert_eq!(
            said(&mut connection).await?,
            [
                json!(["insert", "t", "1"]),
                json!(["insert", "t", "2"]),
                json!(["update", "t", "12"]),
                json!(["delete", "t", "12"])
            ]
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_action_that_is_deleted_leaves_the_changes_and_their_transaction() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table t (id int primary key)").await?;
    capture(&mut connection, &[("t", json!({}))]).await?;
    connection
        .execute(
            "begin; select threadline_begin('{\"actor\": {\"type\": \"user\", \"id\": \"u1\"}}'); insert into t values (1);
             select threadline_record_action('added'); commit; delete from audit_actions",
        )
        .await?;
    assert_eq!(said(&mut connection).await?, [json!(["insert", "t", "1"])]);
    assert_eq!(actors(&mut connection).await?, [json!({"actor_ref": {"type": "user", "id": "u1"}})]);
    Ok(())
}

/// Such a role leaks through a pooler of sessions that were not reset, and `disable trigger user` is easily forgotten.
#[tokio::test]
async fn a_session_that_acts_as_a_replica_is_captured_by_triggers_that_fire_always() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (database, mut connection) = host("create table t (id int primary key)").await?;
        capture(&mut connection, &[("t", policy)]).await?;
        let mut superuser = database.superuser().await?;
        superuser.execute("set session_replication_role = replica; insert into t values (1)").await?;
        connection
            .execute(
                "alter table t enable always trigger threadline_audit_t; alter table t enable always trigger threadline_truncate_t",
            )
            .await?;
        superuser.execute("insert into t values (2)").await?;
        superuser.execute("truncate t").await?;
        connection.execute("alter table t disable trigger user; insert into t values (3)").await?;
        assert_eq!(
            said(&mut connection).await?,
            [json!(["insert", "t", "2"]), json!(["truncate", "t", null])]
        );
    }
    Ok(())
}
