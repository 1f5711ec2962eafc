//! Undo plans of rows that took one another's keys.

use std::cell::{Cell, RefCell};

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::query::{Undo, UndoPlan};

use super::{
    Read, both_levels, capture,
    undo::{commit, rows},
};

const SHARED: &str = "create table t (id int primary key deferrable initially deferred, v text)";

fn terms(plan: &UndoPlan) -> Vec<&str> {
    plan.refused.iter().map(|refused| refused.term).collect()
}

#[tokio::test]
async fn rows_that_shifted_or_exchanged_their_keys_are_refused_with_all_of_their_changes()
-> anyhow::Result<()> {
    for policy in both_levels() {
        for statement in [
            "update t set id = id + 1",
            "update t set id = 4 - id",
            "update t set id = id % 3 + 1",
            "update t set id = 4 - id, v = v || '!'",
        ] {
            let mut read = Read::after(SHARED).await?;
            capture(&mut read.connection, &[("t", policy.clone())]).await?;
            read.run("insert into t values (1, 'a'), (2, 'b'), (3, 'c')").await?;
            read.run(statement).await?;
            let after = rows(&mut read.connection, "t").await?;
            let plan = read.undo_newest_transaction().await?;
            assert!(terms(&plan).iter().all(|term| *term == "keys_exchanged"), "{statement}: {plan:?}");
            let refused: usize = plan.refused.iter().map(|refused| refused.changes.len()).sum();
            let undone: usize = plan.statements.iter().map(|step| step.changes.len()).sum();
            // In the second one a row keeps its key, and in the last it has another value.
            let changes: i64 = sqlx::query_scalar("select count(*) from audit_changes where op = 'update'")
                .fetch_one(&mut read.connection)
                .await?;
            assert_eq!(i64::try_from(refused + undone)?, changes, "{statement}: {plan:?}");
            commit(&mut read.connection, &plan).await?;
            let kept = rows(&mut read.connection, "t").await?;
            let expected: Vec<String> = after.iter().map(|row| row.replace("(2,b!)", "(2,b)")).collect();
            assert_eq!(kept, expected, "{statement}: {}", plan.to_sql());
        }
    }
    Ok(())
}

/// Two rows that differ in nothing that is stored may have been at one key; two that could not have been are undone.
#[tokio::test]
async fn what_is_not_stored_decides_only_where_two_rows_may_have_met() -> anyhow::Result<()> {
    for (timing, expected) in [
        ("deferrable initially deferred", vec!["keys_exchanged"]),
        ("deferrable initially immediate", vec!["keys_exchanged"]),
        ("", vec![]),
    ] {
        for policy in [json!({"mask": ["v"]}), json!({"exclude": ["v"], "level": "row"})] {
            let mut read = Read::after("select").await?;
            read.run(&format!("create table t (id int primary key {timing}, v text, w int)")).await?;
            capture(&mut read.connection, &[("t", policy.clone())]).await?;
            read.run("insert into t values (1, 'a', 0)").await?;
            let before = rows(&mut read.connection, "t").await?;
            read.run("begin; update t set id = 2; update t set id = 3; commit").await?;
            let plan = read.undo_newest_transaction().await?;
            assert_eq!(terms(&plan), expected, "{policy} {timing}");
            if expected.is_empty() {
                commit(&mut read.connection, &plan).await?;
                assert_eq!(rows(&mut read.connection, "t").await?, before);
            }
            // A row that came and stayed has met no other one.
            read.run("begin; insert into t values (8, 'h', 0); update t set w = 1 where id = 8; commit")
                .await?;
            assert_eq!(
                terms(&read.undo_newest_transaction().await?),
                Vec::<&str>::new(),
                "{policy} {timing}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_values_before_a_row_is_followed_only_where_none_could_have_met_it() -> anyhow::Result<()> {
    for (statements, expected) in [
        // A departure and an arrival at 2, and the value before is not stored.
        (
            "update t set id = 2 where id = 1; update t set id = 3, v = 'z' where id = 2",
            vec!["keys_exchanged"],
        ),
        ("update t set id = 2 where id = 1", vec![]),
    ] {
        let mut read = Read::after(SHARED).await?;
        capture(&mut read.connection, &[("t", json!({"store_changed_from": false}))]).await?;
        read.run("insert into t values (1, 'a')").await?;
        read.run(&format!("begin; {statements}; commit")).await?;
        let plan = read.undo_newest_transaction().await?;
        let met: Vec<&str> = terms(&plan).into_iter().filter(|term| *term == "keys_exchanged").collect();
        assert_eq!(met, expected, "{plan:?}");
        assert!(plan.statements.is_empty(), "{plan:?}");
    }
    Ok(())
}

/// The trigger's change is captured first: it looks as if the row at 2 went to 3, and another one came to 2.
#[tokio::test]
async fn a_row_that_a_trigger_moves_on_is_no_other_row() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after(
            "create table t (id int primary key deferrable initially deferred, v text);
             create function again() returns trigger language plpgsql as
                 $$begin update t set id = 3 where id = 2 and v = new.v and new.id = 2; return null; end$$;
             create trigger aaa after insert or update on t for each row execute function again()",
        )
        .await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        for (before, statement) in [
            ("(1, 'a'), (2, 'b')", "update t set id = 2 where id = 1"),
            ("(2, 'b')", "insert into t values (2, 'x')"),
        ] {
            read.run(&format!("alter table t disable trigger aaa; delete from t; insert into t values {before}; alter table t enable trigger aaa")).await?;
            read.run(statement).await?;
            let after = rows(&mut read.connection, "t").await?;
            assert!(
                after.iter().any(|row| row.starts_with("(3,")) && after.contains(&"(2,b)".to_owned()),
                "{after:?}"
            );
            let plan = read.undo_newest_transaction().await?;
            assert_eq!(plan.statements.len(), 0, "{plan:?}");
            assert!(terms(&plan).iter().all(|term| *term == "keys_exchanged"), "{plan:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_whose_key_another_one_got_later_is_not_taken_for_it() -> anyhow::Result<()> {
    let mut read = Read::after(SHARED).await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.run("insert into t values (1, 'a'), (3, 'c')").await?;
    read.run("update t set id = 2 where id = 1").await?;
    let (_, moved) = read.newest().await?;
    read.run("update t set id = 5 - id").await?;
    let plan = read.reader().undo_plan(Undo::Transaction(moved)).await?;
    assert_eq!((terms(&plan), plan.statements.len()), (vec!["row_replaced"], 0));

    // Within one transaction too, where a change is undone alone.
    read.run("begin; update t set v = v || '!' where id = 2; update t set id = 5 - id; commit").await?;
    let change = sqlx::query_scalar("select id from audit_changes where changed_fields = '{v}'")
        .fetch_one(&mut read.connection)
        .await?;
    let plan = read.reader().undo_plan(Undo::Change(change)).await?;
    assert_eq!((terms(&plan), plan.statements.len()), (vec!["row_replaced"], 0));
    Ok(())
}

#[tokio::test]
async fn a_row_that_went_to_another_key_and_came_back_is_the_same_row() -> anyhow::Result<()> {
    let mut read = Read::after(SHARED).await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.run("insert into t values (1, 'a')").await?;
    let before = rows(&mut read.connection, "t").await?;
    read.run("update t set v = 'b'").await?;
    let (_, transaction) = read.newest().await?;
    read.run("update t set id = 7").await?;
    let moved = read.undo_newest_transaction().await?;
    commit(&mut read.connection, &moved).await?;
    let plan = read.reader().undo_plan(Undo::Transaction(transaction)).await?;
    assert_eq!(terms(&plan), Vec::<&str>::new());
    commit(&mut read.connection, &plan).await?;
    assert_eq!(rows(&mut read.connection, "t").await?, before);
    Ok(())
}

#[tokio::test]
async fn keys_are_given_up_before_they_are_taken() -> anyhow::Result<()> {
    for (statements, terms_of) in [
        (
            "update t set id = 2 where id = 1; update t set id = 1 where id = 3; update t set v = 'x' where id = 2",
            vec![],
        ),
        (
            "update t set id = 2 where id = 1; insert into t values (1, 'n'); update t set v = 'x' where id = 2",
            vec![],
        ),
        // Through a third key, without ever having met: neither can go back first.
        (
            "update t set id = 9 where id = 1; update t set id = 1 where id = 3; update t set id = 3 where id = 9",
            vec!["keys_exchanged", "keys_exchanged"],
        ),
        (
            "delete from t where id = 1; update t set id = 1 where id = 3",
            vec!["keys_exchanged", "keys_exchanged"],
        ),
    ] {
        for timing in ["", "deferrable initially deferred"] {
            let mut read = Read::after("select").await?;
            read.run(&format!("create table t (id int primary key {timing}, v text)")).await?;
            capture(&mut read.connection, &[("t", json!({}))]).await?;
            read.run("insert into t values (1, 'a'), (3, 'c')").await?;
            let before = rows(&mut read.connection, "t").await?;
            read.run(&format!("begin; {statements}; commit")).await?;
            let plan = read.undo_newest_transaction().await?;
            assert_eq!(terms(&plan), terms_of, "{statements} {timing}: {plan:?}");
            assert_eq!(plan.statements.is_empty(), !terms_of.is_empty());
            let expected = if terms_of.is_empty() { before } else { rows(&mut read.connection, "t").await? };
            commit(&mut read.connection, &plan).await?;
            assert_eq!(rows(&mut read.connection, "t").await?, expected, "{statements} {timing}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_deleted_and_inserted_again_is_set_back_wholly_or_not_at_all() -> anyhow::Result<()> {
    for (policy, refused) in [
        (json!({}), vec![]),
        (json!({"mask": ["secret"]}), vec![(Some("secret"), "redacted"), (Some("v"), "row_incomplete")]),
    ] {
        let mut read = Read::after("create table t (id int primary key, v int, secret text)").await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        read.run("insert into t values (4, 0, 's')").await?;
        let before = rows(&mut read.connection, "t").await?;
        read.run("begin; delete from t; insert into t values (4, 1, 'n'); commit").await?;
        let after = rows(&mut read.connection, "t").await?;
        let plan = read.undo_newest_transaction().await?;
        let terms: Vec<_> = plan.refused.iter().map(|one| (one.field.as_deref(), one.term)).collect();
        assert_eq!(terms, refused);
        commit(&mut read.connection, &plan).await?;
        let expected = if refused.is_empty() { before } else { after };
        assert_eq!(rows(&mut read.connection, "t").await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_refer_to_one_another_come_back_and_go_in_the_order_of_their_foreign_keys()
-> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after("create table t (id int primary key, parent int references t)").await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        let none = rows(&mut read.connection, "t").await?;
        read.run("insert into t values (3, 2), (1, null), (2, 1), (4, 4)").await?;
        let inserted = read.undo_newest_transaction().await?;
        let before = rows(&mut read.connection, "t").await?;
        read.run("delete from t").await?;
        let deleted = read.undo_newest_transaction().await?;
        assert_eq!(deleted.refused.len() + inserted.refused.len(), 0);
        commit(&mut read.connection, &deleted).await?;
        assert_eq!(rows(&mut read.connection, "t").await?, before);
        commit(&mut read.connection, &inserted).await?;
        assert_eq!(rows(&mut read.connection, "t").await?, none);

        // In a circle, nothing can be first: it is in the plan, and fails as a whole.
        for statement in [
            "insert into t values (1, null), (2, 1)",
            "update t set parent = 2 where id = 1",
            "delete from t",
        ] {
            read.run(statement).await?;
        }
        let plan = read.undo_newest_transaction().await?;
        let error = commit(&mut read.connection, &plan).await.unwrap_err();
        let error =
            error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!((plan.statements.len(), error.as_deref()), (2, Some("23503")));
    }
    Ok(())
}

/// The key of the row and the statement that gives it another one, in a permutation of all keys or singly.
fn statement() -> impl Strategy<Value = String> {
    let permuted =
        (Just((1..=5).collect::<Vec<i32>>()).prop_shuffle(), any::<bool>()).prop_map(|(keys, changes)| {
            let arms: Vec<String> =
                keys.iter().enumerate().map(|(n, key)| format!("when {} then {key}", n + 1)).collect();
            let arms = arms.join(" ");
            let also = if changes { ", v = (v + 1) % 2" } else { "" };
            format!("update t set id = case id {arms} else id end{also}")
        });
    prop_oneof![
        3 => permuted,
        2 => (1..9_i32, 1..9_i32).prop_map(|(from, to)| format!("update t set id = {to} where id = {from}")),
        1 => Just("update t set id = id + 1".to_owned()),
        1 => (1..9_i32).prop_map(|id| format!("update t set v = (v + 1) % 2 where id = {id}")),
        1 => (1..9_i32, 0..2_i32).prop_map(|(id, v)| format!("insert into t (id, v, secret) values ({id}, {v}, 'n')")),
        1 => (1..9_i32).prop_map(|id| format!("delete from t where id = {id}")),
    ]
}

/// Rows are alike, or differ only in what is not stored. Of every five plans about one sets everything back, and one a part.
#[test]
fn a_plan_sets_back_exactly_what_was_or_leaves_rows_wholly_as_they_are() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (set_back, refused) = (Cell::new(0), Cell::new(0));
    for (policy, timing) in [
        (json!({"level": "row"}), "deferrable initially deferred"),
        (json!({"level": "statement"}), "deferrable initially deferred"),
        (json!({"mask": ["secret"]}), "deferrable initially deferred"),
        (json!({"store_changed_from": false}), "deferrable initially immediate"),
        (json!({"mask": ["secret"]}), ""),
    ] {
        let read = runtime.block_on(async {
            let mut read = Read::after("select").await?;
            read.run(&format!("create table t (id int primary key {timing}, v int, secret text)")).await?;
            capture(&mut read.connection, &[("t", policy.clone())]).await?;
            anyhow::Ok(read)
        });
        let read = RefCell::new(read.unwrap());
        let mut runner =
            TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let values = prop::collection::vec(select(vec![0, 1]), 5);
        let statements = prop::collection::vec(statement(), 1..5);
        runner
            .run(&(values, statements), |(values, statements)| {
                let plan = runtime.block_on(undone(&mut read.borrow_mut(), &values, &statements))?;
                if let Some(plan) = plan {
                    let outcome = if plan.refused.is_empty() { &set_back } else { &refused };
                    outcome.set(outcome.get() + 1);
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{policy} {timing}: {error}"));
    }
    assert!(set_back.get() > 0 && refused.get() > 0, "{set_back:?} {refused:?}");
}

/// The plan of a transaction of these statements, if it had any changes.
async fn undone(
    read: &mut Read,
    values: &[i32],
    statements: &[String],
) -> Result<Option<UndoPlan>, TestCaseError> {
    let insert: Vec<String> =
        values.iter().enumerate().map(|(n, v)| format!("({}, {v}, 's{n}')", n + 1)).collect();
    read.run(&format!("rollback; delete from t; insert into t values {}", insert.join(", "))).await.unwrap();
    let (_, last) = read.newest().await.unwrap();
    let before = rows(&mut read.connection, "t").await.unwrap();
    let script = format!("begin; {}; commit", statements.join("; "));
    let done = read.connection.execute(AssertSqlSafe(script)).await;
    read.run("rollback").await.unwrap();
    let (_, transaction) = read.newest().await.unwrap();
    if done.is_err() || transaction == last {
        return Ok(None);
    }
    let after = rows(&mut read.connection, "t").await.unwrap();
    let plan = read.undo_newest_transaction().await.unwrap();
    let committed = commit(&mut read.connection, &plan).await;
    let now = rows(&mut read.connection, "t").await.unwrap();
    if plan.refused.is_empty() {
        prop_assert!(committed.is_ok(), "{:?} {}", committed, plan.to_sql());
        prop_assert_eq!(&now, &before, "after {:?}: {}", after, plan.to_sql());
    } else if plan.statements.is_empty() || committed.is_err() {
        prop_assert_eq!(&now, &after, "{}", plan.to_sql());
    } else {
        let is_whole = |row: &String| before.contains(row) || after.contains(row);
        prop_assert!(now.iter().all(is_whole), "{:?} {:?} {:?}: {}", before, after, now, plan.to_sql());
    }
    Ok(Some(plan))
}
