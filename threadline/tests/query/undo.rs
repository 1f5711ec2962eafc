//! Undo plans, run on the tables that they were made for.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::query::{Rule, Scope, StepKind, Undo, UndoPlan};
use uuid::Uuid;

use super::{Read, capture};

pub(super) const POSTS: &str = "create table posts (id int primary key, title text, body text, meta jsonb)";

impl Read {
    /// The newest change, and its transaction.
    pub(super) async fn newest(&mut self) -> anyhow::Result<(Uuid, Uuid)> {
        let newest = "select id, transaction_id from audit_changes order by position desc limit 1";
        Ok(sqlx::query_as(newest).fetch_one(&mut self.connection).await?)
    }

    pub(super) async fn undo_newest(&mut self) -> anyhow::Result<UndoPlan> {
        let (change, _) = self.newest().await?;
        Ok(self.reader().undo_plan(Undo::Change(change)).await?)
    }

    pub(super) async fn undo_newest_transaction(&mut self) -> anyhow::Result<UndoPlan> {
        let (_, transaction) = self.newest().await?;
        Ok(self.reader().undo_plan(Undo::Transaction(transaction)).await?)
    }

    pub(super) async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.connection.execute(AssertSqlSafe(sql)).await?;
        Ok(())
    }
}

/// As somebody would who has reviewed it.
pub(super) async fn commit(connection: &mut PgConnection, plan: &UndoPlan) -> Result<(), sqlx::Error> {
    let script = plan.to_sql().replace("\nrollback; -- replace by commit once reviewed\n", "\ncommit;\n");
    let done = connection.execute(AssertSqlSafe(script)).await;
    connection.execute("rollback").await?;
    done.map(drop)
}

/// All rows, as texts in the order of these.
pub(super) async fn rows(connection: &mut PgConnection, table: &str) -> anyhow::Result<Vec<String>> {
    let rows = format!("select t::text from {table} t order by t::text collate \"C\"");
    Ok(sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(connection).await?)
}

#[tokio::test]
async fn each_change_of_a_row_is_undone_by_its_plan() -> anyhow::Result<()> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    for (statement, kind, fields) in [
        ("insert into posts values (1, 'a', 'b', '{\"k\": 1.10}')", StepKind::Delete, vec![]),
        ("update posts set title = 'c', meta = '[]' where id = 1", StepKind::Update, vec!["meta", "title"]),
        ("update posts set id = 7 where id = 1", StepKind::Update, vec!["id"]),
        ("delete from posts where id = 1", StepKind::Insert, vec!["body", "id", "meta", "title"]),
    ] {
        let before = rows(&mut read.connection, "posts").await?;
        read.run(statement).await?;
        let after = rows(&mut read.connection, "posts").await?;
        assert_ne!(before, after, "{statement}");
        let plan = read.undo_newest().await?;
        assert!(plan.refused.is_empty(), "{plan:?}");
        assert_eq!(plan.statements.len(), 1);
        assert_eq!(
            (plan.statements[0].kind, &plan.statements[0].fields[..]),
            (kind, &fields.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
        );
        // As it is written, it changes nothing.
        read.run(&plan.to_sql()).await?;
        assert_eq!(rows(&mut read.connection, "posts").await?, after, "{statement}");
        commit(&mut read.connection, &plan).await?;
        assert_eq!(rows(&mut read.connection, "posts").await?, before, "{statement}");
        if kind == StepKind::Delete {
            read.run(statement).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_field_that_is_no_longer_what_was_written_is_a_conflict_and_the_others_are_set_back()
-> anyhow::Result<()> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    read.run("insert into posts values (1, 'a', 'b')").await?;
    read.run("update posts set title = 'c', body = 'd'").await?;
    let (change, _) = read.newest().await?;
    read.run("update posts set body = 'e'").await?;
    let plan = read.reader().undo_plan(Undo::Change(change)).await?;
    assert_eq!(plan.statements[0].fields, ["title"]);
    let refused = serde_json::to_value(&plan.refused)?;
    let conflict = &refused[0];
    assert_eq!(refused.as_array().unwrap().len(), 1);
    assert_eq!(
        json!([conflict["term"], conflict["field"], conflict["wrote"], conflict["now"], conflict["changes"]]),
        json!(["conflict", "body", "d", "e", [change]])
    );
    commit(&mut read.connection, &plan).await?;
    assert_eq!(rows(&mut read.connection, "posts").await?, ["(1,a,e,)"]);
    Ok(())
}

pub(super) async fn capture_quoted(
    connection: &mut PgConnection,
    name: &str,
    section: &Value,
) -> anyhow::Result<()> {
    use threadline::{
        StorageSchema,
        capture::{Capture, HostTable, Migration, Policy, plan},
    };
    let table = HostTable { schema: "public".to_owned(), name: name.to_owned() };
    let policy = Policy::read(&table, section.as_object().unwrap())?;
    let captures = plan(connection, &StorageSchema::default(), &[(table, policy)]).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    Ok(())
}

#[tokio::test]
async fn a_transaction_is_undone_by_one_statement_for_each_row_in_the_reverse_order() -> anyhow::Result<()> {
    let mut read = Read::after(
        "create table parents (id int primary key, name text unique);
         create table children (id int primary key, parent int not null references parents, n int)",
    )
    .await?;
    capture(&mut read.connection, &[("parents", json!({})), ("children", json!({}))]).await?;
    read.run("insert into parents values (1, 'one'), (2, 'two'); insert into children values (1, 1, 0), (2, 2, 0), (3, 2, 0)").await?;
    let state = async |connection: &mut PgConnection| {
        anyhow::Ok((rows(connection, "parents").await?, rows(connection, "children").await?))
    };
    let before = state(&mut read.connection).await?;
    read.run(
        "begin;
         insert into parents values (3, 'three');
         insert into children values (4, 3, 0), (5, 3, 0);
         update children set n = n + 1 where id in (1, 4);
         update children set n = n + 1 where id = 1;
         update children set id = 10 where id = 1;
         update children set n = 5 where id = 2;
         update children set n = 0 where id = 2;
         delete from children where id = 5;
         delete from children where id in (2, 3);
         delete from parents where id = 2;
         insert into parents values (4, 'two');
         delete from children where id = 10;
         insert into children values (10, 1, 9);
         commit",
    )
    .await?;
    let plan = read.undo_newest_transaction().await?;
    assert!(plan.refused.is_empty(), "{plan:?}");
    let steps: Vec<(StepKind, &str, &str)> =
        plan.statements.iter().map(|step| (step.kind, &step.table[7..], step.key.get())).collect();
    assert_eq!(
        steps,
        [
            (StepKind::Update, "children", r#"{"id": "10"}"#),
            (StepKind::Delete, "parents", r#"{"id": "4"}"#),
            (StepKind::Insert, "parents", r#"{"id": "2"}"#),
            (StepKind::Insert, "children", r#"{"id": "3"}"#),
            (StepKind::Insert, "children", r#"{"id": "2"}"#),
            (StepKind::Delete, "children", r#"{"id": "4"}"#),
            (StepKind::Delete, "parents", r#"{"id": "3"}"#),
        ]
    );
    assert_eq!(plan.statements[0].changes.len(), 5);
    commit(&mut read.connection, &plan).await?;
    assert_eq!(state(&mut read.connection).await?, before);
    Ok(())
}

#[tokio::test]
async fn planning_leaves_rows_as_they_are_and_runs_no_trigger() -> anyhow::Result<()> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    read.run("insert into posts values (1, 'a'), (2, 'b'); update posts set title = 'c'; delete from posts where id = 2").await?;
    let state = "select (select string_agg(concat(xmin, ctid, p::text), ',' order by id) from posts p),
                        (select count(*) from audit_changes), (select count(*) from pg_locks where mode like '%Exclusive%'
                            and relation = 'posts'::regclass)";
    let before: (String, i64, i64) = sqlx::query_as(state).fetch_one(&mut read.connection).await?;
    let changes: Vec<Uuid> =
        sqlx::query_scalar("select id from audit_changes").fetch_all(&mut read.connection).await?;
    for change in changes {
        read.reader().undo_plan(Undo::Change(change)).await?;
    }
    assert!(!read.undo_newest_transaction().await?.statements.is_empty());
    let after: (String, i64, i64) = sqlx::query_as(state).fetch_one(&mut read.connection).await?;
    assert_eq!(before, after);
    Ok(())
}

#[tokio::test]
async fn a_script_whose_row_has_changed_since_fails_as_a_whole() -> anyhow::Result<()> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    read.run("insert into posts values (1, 'a', 'b'), (2, 'a', 'b')").await?;
    read.run("update posts set title = 'c'").await?;
    let update = read.undo_newest_transaction().await?;
    assert_eq!(update.statements.len(), 2);
    read.run("update posts set title = 'd' where id = 1").await?;
    let refused = commit(&mut read.connection, &update).await.unwrap_err().to_string();
    assert!(refused.contains("touches 0 rows"), "{refused}");
    assert_eq!(rows(&mut read.connection, "posts").await?, ["(1,d,b,)", "(2,c,b,)"]);

    read.run("insert into posts values (3, 'x', 'y')").await?;
    let delete = read.undo_newest().await?;
    read.run("update posts set body = 'z' where id = 3").await?;
    assert!(commit(&mut read.connection, &delete).await.is_err());
    assert_eq!(rows(&mut read.connection, "posts").await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn no_value_and_no_name_breaks_out_of_a_script() -> anyhow::Result<()> {
    let mut read =
        Read::after("create table \"t; --$undo$\" (\"k\n'\" text primary key, \"v$undo$\" text)").await?;
    capture_quoted(&mut read.connection, "t; --$undo$", &json!({})).await?;
    let table = "\"t; --$undo$\"";
    let evil = "E'\\n; drop table audit_changes; -- $undo$ $undo1$ \\\\'' \\r\\u2028'";
    read.run(&format!("insert into {table} values ({evil}, {evil})")).await?;
    let before = rows(&mut read.connection, table).await?;
    read.run(&format!("update {table} set \"v$undo$\" = '\\'")).await?;
    let plan = read.undo_newest().await?;
    let script = plan.to_sql();
    let comments: Vec<&str> = script.lines().filter(|line| line.starts_with("--")).collect();
    assert!(comments.iter().any(|line| line.contains("drop table")), "{script}");
    for setting in ["on", "off"] {
        let mut other = read.database.connect().await?;
        other.execute(AssertSqlSafe(format!("set standard_conforming_strings = {setting}"))).await?;
        other.execute(AssertSqlSafe(script.clone())).await?;
        commit(&mut other, &plan).await?;
        other.close().await?;
        assert_eq!(rows(&mut read.connection, table).await?, before);
        read.run(&format!("update {table} set \"v$undo$\" = '\\'")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_change_of_another_tenant_is_not_found_and_its_rows_are_not_shown() -> anyhow::Result<()> {
    let mut read = Read::after("create table notes (id int primary key, tenant text, body text)").await?;
    capture(&mut read.connection, &[("notes", json!({}))]).await?;
    read.run("insert into notes values (1, 't1', 'a'), (2, 't2', 'a')").await?;
    read.run("update notes set body = 'b'").await?;
    let (_, transaction) = read.newest().await?;
    let rule = Rule::Column { name: "tenant".to_owned(), value: "t1".to_owned() };
    let tenant = read.timeline.reader(Scope::nothing().changes(rule));
    let plan = tenant.undo_plan(Undo::Transaction(transaction)).await?;
    let keys: Vec<&str> = plan.statements.iter().map(|step| step.key.get()).collect();
    assert_eq!(keys, [r#"{"id": "1"}"#]);

    let hidden: Uuid = sqlx::query_scalar(
        "select id from audit_changes where op = 'update' and table_pk = '{\"id\": \"2\"}'",
    )
    .fetch_one(&mut read.connection)
    .await?;
    for undo in [Undo::Change(hidden), Undo::Change(Uuid::nil()), Undo::Transaction(hidden)] {
        let error = tenant.undo_plan(undo).await.unwrap_err();
        assert_eq!(error.term(), Some("not_found"), "{undo:?}");
    }
    assert_eq!(read.reader().undo_plan(Undo::Change(hidden)).await?.statements.len(), 1);

    // The row is somebody else's by now.
    read.run("update notes set tenant = 't2', body = 'secret' where id = 1").await?;
    let plan = tenant.undo_plan(Undo::Transaction(transaction)).await?;
    assert_eq!((plan.statements.len(), plan.refused[0].term), (0, "conflict"));
    assert!(!format!("{plan:?}{}", plan.to_sql()).contains("secret"));
    Ok(())
}

#[tokio::test]
async fn rows_of_partitions_and_identities_are_restored_and_what_goes_with_a_row_is_noted()
-> anyhow::Result<()> {
    let mut read = Read::after(
        "create table events (id int generated always as identity, day date, body text, primary key (id, day))
             partition by range (day);
         create table events_a partition of events for values from ('2026-01-01') to ('2026-02-01');
         create table events_b partition of events for values from ('2026-02-01') to ('2026-03-01');
         create table parts (event int, day date, foreign key (event, day) references events on delete cascade);
         create table base (id int primary key, v int); create table heir (w int) inherits (base); insert into heir values (1, 0, 0)",
    )
    .await?;
    capture(&mut read.connection, &[("events", json!({})), ("base", json!({"level": "row"}))]).await?;
    for (table, statement) in [
        ("events", "insert into events (day, body) values ('2026-01-05', 'a')"),
        ("events", "update events set day = '2026-02-05'"),
        ("events", "update events_b set body = 'b'"),
        ("events", "delete from events"),
        ("base", "insert into base values (1, 5)"),
        ("base", "update only base set v = 6"),
        ("base", "delete from only base"),
    ] {
        let before = rows(&mut read.connection, table).await?;
        read.run(statement).await?;
        let after = rows(&mut read.connection, table).await?;
        let plan = read.undo_newest_transaction().await?;
        assert!(plan.refused.is_empty(), "{statement}: {plan:?}");
        for step in &plan.statements {
            let is_noted = step.notes.iter().any(|note| note.contains("parts"));
            assert_eq!(is_noted, step.kind == StepKind::Delete && table == "events", "{step:?}");
        }
        commit(&mut read.connection, &plan).await?;
        assert_eq!(rows(&mut read.connection, table).await?, before, "{statement}");
        let again = read.undo_newest_transaction().await?;
        commit(&mut read.connection, &again).await?;
        assert_eq!(rows(&mut read.connection, table).await?, after, "{statement}");
    }
    Ok(())
}

#[tokio::test]
async fn a_mistake_in_thousands_of_rows_is_undone_and_more_than_a_plan_holds_are_refused()
-> anyhow::Result<()> {
    let mut read = Read::after(POSTS).await?;
    capture(&mut read.connection, &[("posts", json!({}))]).await?;
    read.run("insert into posts select n, n::text from generate_series(1, 10001) n").await?;
    let before = rows(&mut read.connection, "posts").await?;
    let (_, transaction) = read.newest().await?;
    let error = read.reader().undo_plan(Undo::Transaction(transaction)).await.unwrap_err();
    assert_eq!(error.term(), Some("too_many_changes"));
    read.run("update posts set title = 'oops' where id <= 10000").await?;
    let plan = read.undo_newest_transaction().await?;
    assert_eq!((plan.statements.len(), plan.refused.len()), (10_000, 0));
    commit(&mut read.connection, &plan).await?;
    assert_eq!(rows(&mut read.connection, "posts").await?, before);
    Ok(())
}
