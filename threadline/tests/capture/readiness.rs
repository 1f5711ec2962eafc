//! Whether a table is ready, and the steps to it.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{HostTable, Level},
    continuity::{NotReady, assert_ready, cutover_steps},
};

use super::{capture, host};

const TABLES: &str = "create table a (id int primary key, v int); create table keyless (code text not null, note text);
     create unique index keyless_code on keyless (code);
     create table p (id int primary key) partition by range (id); create table p1 partition of p for values from (0) to (10);
     create table p2 partition of p for values from (10) to (20); create view shown as select * from a";

async fn terms(connection: &mut PgConnection, table: &str) -> anyhow::Result<Vec<&'static str>> {
    match assert_ready(connection, &StorageSchema::default(), &table.parse()?).await {
        Ok(_) => Ok(Vec::new()),
        Err(NotReady::Unready(found)) => {
            for problem in &found {
                assert!(problem.hint.is_some(), "{problem} says nothing of what to do");
            }
            Ok(found.into_iter().map(|one| one.term).collect())
        }
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn a_captured_table_is_ready_whoever_made_its_triggers() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    let storage = StorageSchema::default();
    for level in [Level::Row, Level::Statement] {
        capture(&mut connection, &[("a", json!({"level": level}))]).await?;
        let ready = assert_ready(&mut connection, &storage, &"a".parse()?).await?;
        let expected = json!({"level": level, "key": ["id"], "partitions": [], "records_truncate": true});
        assert_eq!(json!(ready), expected);
    }
    capture(&mut connection, &[("p", json!({})), ("keyless", json!({"primary_key": ["code"]}))]).await?;
    let ready = assert_ready(&mut connection, &storage, &"p".parse()?).await?;
    assert_eq!(ready.partitions, ["public.p1", "public.p2"]);
    assert!(ready.records_truncate);
    assert_eq!(assert_ready(&mut connection, &storage, &"keyless".parse()?).await?.key, ["code"]);
    // As the library makes them: with the key, and before version 0.11 without.
    for arguments in ["'id'", ""] {
        let library = format!(
            "drop table if exists b; create table b (id int primary key);
             create trigger threadline_audit_b after insert or update or delete on b for each row
             execute function threadline_capture_changes({arguments})"
        );
        connection.execute(AssertSqlSafe(library)).await?;
        let ready = assert_ready(&mut connection, &storage, &"b".parse()?).await?;
        assert!(!ready.records_truncate);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_in_the_way_of_a_table_has_a_term_and_a_remedy() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    let elsewhere: StorageSchema = "elsewhere".parse()?;
    let Err(NotReady::Unready(found)) = assert_ready(&mut connection, &elsewhere, &"a".parse()?).await else {
        panic!("there is no timeline")
    };
    assert_eq!(found[0].term, "timeline_missing");
    capture(&mut connection, &[("a", json!({})), ("p", json!({}))]).await?;
    assert_eq!(terms(&mut connection, "p").await?, Vec::<&str>::new());
    let legacy =
        "create trigger threadline_audit_keyless after insert or update or delete on keyless for each row
                  execute function threadline_capture_changes()";
    for (change, table, expected) in [
        ("select 1", "nowhere", "table_missing"),
        ("select 1", "keyless", "not_captured"),
        (legacy, "keyless", "pk_drift"),
        ("alter table keyless add column id int not null unique, add primary key (code)", "keyless", "pk_drift"),
        ("alter table p2 disable trigger threadline_audit_p", "p", "capture_trigger_disabled"),
        ("alter table p2 enable replica trigger threadline_audit_p", "p", "capture_trigger_disabled"),
        ("alter table p2 enable always trigger threadline_audit_p; alter table p detach partition p1; drop trigger threadline_audit_p on p", "p", "not_captured"),
        ("create trigger again after update on a for each row execute function threadline_capture_changes('id')", "a", "duplicate_capture_trigger"),
        ("drop trigger again on a; drop trigger threadline_delete_a on a", "a", "missing_trigger"),
        ("create trigger again after delete on a for each row when (old.v > 1) execute function threadline_capture_changes('id')", "a", "missing_trigger"),
        ("drop trigger again on a; create trigger again after delete on a for each row execute function threadline_capture_changes('id');
          alter table a rename id to ident", "a", "pk_drift"),
    ] {
        connection.execute(change).await?;
        assert_eq!(terms(&mut connection, table).await?, [expected], "{change}");
    }
    connection.execute("drop trigger threadline_audit_a on a").await?;
    assert_eq!(terms(&mut connection, "a").await?, ["not_captured"]);
    Ok(())
}

/// The steps of the page, run as they are printed, end in a table that is ready, and a baseline that is complete.
#[tokio::test]
async fn the_steps_lead_a_table_with_rows_to_one_that_is_ready() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    connection.execute("insert into a select n, n from generate_series(1, 3) n").await?;
    let table: HostTable = "a".parse()?;
    let steps = cutover_steps(Some(&table));
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["install", "decide", "capture", "baseline", "assert", "keys"]);
    assert_eq!(terms(&mut connection, "a").await?, ["not_captured"]);
    let baseline = steps[3].command.clone().unwrap();
    let captures = super::captures(&mut connection, &[("a", json!({}))]).await?;
    let migration = threadline::capture::Migration::new(&captures, 1, |_| false);
    super::run(&mut connection, &format!("{}; {baseline}", migration.up)).await?;
    assert_eq!(terms(&mut connection, "a").await?, Vec::<&str>::new());
    connection
        .execute("update a set v = 7 where id = 2; delete from a where id = 3; insert into a values (4, 4)")
        .await?;
    // What stands there now follows from the baseline and the changes, and what stood there from both as well.
    let rows: String = sqlx::query_scalar(
        "with last as (select distinct on (table_pk) table_pk ->> 'id' as id, op, data_after from audit_changes order by table_pk, position desc)
         select string_agg(r, ' ' order by r) from (
             select to_jsonb(b)::text as r from threadline_baseline b where b.id::text not in (select id from last)
             union all select data_after::text from last where op <> 'delete') all_rows (r)",
    )
    .fetch_one(&mut connection)
    .await?;
    let table: String =
        sqlx::query_scalar("select string_agg(to_jsonb(a)::text, ' ' order by to_jsonb(a)::text) from a")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(rows, table);
    Ok(())
}
