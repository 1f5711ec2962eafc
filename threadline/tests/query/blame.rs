//! Who set what stands in a row.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::query::row::{AsOf, At, Blame};

use super::{Read, both_levels, capture, library_database, now, row};

/// For each column the actor that set it, or `unknown`.
fn who(blame: &Blame) -> BTreeMap<String, String> {
    let actor = |column: &str| match blame.change_of(column) {
        None => "unknown".to_owned(),
        Some(change) => change
            .transaction
            .as_ref()
            .and_then(|transaction| transaction.actor_ref.as_ref())
            .map_or("nobody".to_owned(), |actor| {
                let actor: serde_json::Value = serde_json::from_str(actor.get()).unwrap();
                actor["id"].as_str().unwrap().to_owned()
            }),
    };
    blame.columns.iter().map(|column| (column.name.clone(), actor(&column.name))).collect()
}

fn of<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(column, who)| (column.to_owned(), who.to_owned())).collect()
}

/// As somebody.
async fn write(read: &mut Read, actor: &str, sql: &str) -> anyhow::Result<()> {
    let sql = format!(
        "begin; select set_config('threadline.actor_ref', '{{\"type\": \"user\", \"id\": \"{actor}\"}}', true); {sql}; commit"
    );
    read.connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

#[tokio::test]
async fn each_column_was_set_by_the_last_change_of_it_from_the_insert_on() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read =
            Read::after("create table t (id int primary key, a int, b text, c numeric, d jsonb)").await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        write(&mut read, "ann", "insert into t values (1, 1, 'x', 1.0, null)").await?;
        write(&mut read, "bob", "update t set a = 2").await?;
        let then = now(&mut read.connection).await?;
        write(&mut read, "cem", "update t set id = 2, b = 'y'").await?;
        write(&mut read, "dan", "update t set a = 3").await?;
        write(&mut read, "eve", "update t set a = 2").await?;
        let reader = read.reader();
        let blame = reader.blame(&row(&reader, "t", "2").await?, &At::latest()).await?;
        assert_eq!(who(&blame), of([("a", "eve"), ("b", "cem"), ("c", "ann"), ("d", "ann"), ("id", "cem")]));
        assert!(blame.is_complete);
        assert_eq!(blame.changes.len(), 3, "each change once");
        assert_eq!(blame.columns[2].value.get(), "1.0");
        assert!(blame.columns[3].is_sql_null && !blame.columns[2].is_sql_null);
        let blame = reader.blame(&row(&reader, "t", "1").await?, &then).await?;
        assert_eq!(who(&blame), of([("a", "bob"), ("b", "ann"), ("c", "ann"), ("d", "ann"), ("id", "ann")]));
        let blame = reader.blame(&row(&reader, "t", "1").await?, &At::latest()).await?;
        assert!(matches!(&blame.as_of, AsOf::Moved { row, .. } if row.key["id"] == "2"));
        assert!(blame.columns.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn of_a_deleted_row_the_last_image_is_blamed_and_the_deletion_is_said() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, a int, b int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    write(&mut read, "old", "insert into t values (1, 0, 0)").await?;
    write(&mut read, "old", "delete from t").await?;
    write(&mut read, "ann", "insert into t values (1, 1, 1)").await?;
    write(&mut read, "bob", "update t set b = 2").await?;
    let then = now(&mut read.connection).await?;
    write(&mut read, "cem", "delete from t").await?;
    let reader = read.reader();
    let row = row(&reader, "t", "1").await?;
    let blame = reader.blame(&row, &At::latest()).await?;
    assert_eq!(who(&blame), of([("a", "ann"), ("b", "bob"), ("id", "ann")]));
    assert!(matches!(&blame.as_of, AsOf::Deleted { change } if change.op == "delete"));
    assert_eq!(who(&reader.blame(&row, &then).await?), of([("a", "ann"), ("b", "bob"), ("id", "ann")]));

    write(&mut read, "dan", "insert into t values (1, 3, 3)").await?;
    write(&mut read, "eve", "truncate t").await?;
    let blame = reader.blame(&row, &At::latest()).await?;
    assert_eq!(who(&blame), of([("a", "dan"), ("b", "dan"), ("id", "dan")]));
    assert!(matches!(&blame.as_of, AsOf::Deleted { change } if change.op == "truncate"));
    Ok(())
}

#[tokio::test]
async fn what_was_set_before_anything_was_captured_is_unknown() -> anyhow::Result<()> {
    let mut read = Read::after(
        "create table t (id int primary key, a int, b int, seen int); insert into t values (1, 1, 1, 1)",
    )
    .await?;
    capture(&mut read.connection, &[("t", json!({"except": ["seen"]}))]).await?;
    write(&mut read, "ann", "update t set a = 2").await?;
    read.connection.execute("alter table t add column late int default 5").await?;
    write(&mut read, "bob", "update t set a = 3, seen = 2").await?;
    write(&mut read, "cem", "update t set b = 3").await?;
    let reader = read.reader();
    let row = row(&reader, "t", "1").await?;
    let blame = reader.blame(&row, &At::latest()).await?;
    // What does not count as changed is known by its values.
    assert_eq!(
        who(&blame),
        of([("a", "bob"), ("b", "cem"), ("id", "unknown"), ("late", "unknown"), ("seen", "bob")])
    );
    let nothing = row.with_key([("id".to_owned(), "7".to_owned())].into());
    let blame = reader.blame(&nothing, &At::latest()).await?;
    assert!(matches!(blame.as_of, AsOf::BeforeHorizon) && blame.columns.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_changes_a_row_again_has_set_what_it_set() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after(
            "create table t (id int primary key, v int, w int);
             create function again() returns trigger language plpgsql as
                 $$begin update t set v = new.v + 1 where id = new.id and new.v = 1; return null; end$$;
             create trigger aaa after insert or update on t for each row execute function again()",
        )
        .await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        read.connection.execute("insert into t values (1, 1, 1)").await?;
        let reader = read.reader();
        let blame = reader.blame(&row(&reader, "t", "1").await?, &At::latest()).await?;
        assert_eq!(blame.change_of("v").unwrap().op, "update");
        assert_eq!(blame.change_of("w").unwrap().op, "insert");
        assert_eq!(blame.change_of("id").unwrap().op, "insert");
    }
    Ok(())
}

#[tokio::test]
async fn rows_of_the_librarys_are_blamed_across_their_keys() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let user = row(&reader, "users", "22222222-2222-4222-8222-222222222222").await?;
    let blame = reader.blame(&user, &At::latest()).await?;
    let set: Vec<(&str, Option<String>)> = blame
        .columns
        .iter()
        .map(|column| (column.name.as_str(), column.change.map(|id| id.to_string()[34..].to_owned())))
        .collect();
    let by = |number: &str| Some(number.to_owned());
    assert_eq!(
        set,
        [
            ("active", by("01")),
            ("email", by("06")),
            ("id", by("07")),
            ("name", by("02")),
            ("settings", by("06")),
            ("updated_at", by("05")),
        ]
    );
    let name = blame.change_of("name").unwrap();
    assert_eq!(name.action.as_ref().map(|action| action.name.as_str()), Some("user.renamed"));
    Ok(())
}

#[tokio::test]
async fn a_row_with_very_many_changes_says_that_not_all_were_visited() -> anyhow::Result<()> {
    let read = Read::after(
        "insert into audit_transactions (id, txid) select ('aaaaaaaa-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, n
         from generate_series(1, 11000) n;
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, captured_at)
         select ('aaaaaaaa-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'public', 'busy', '{\"id\": \"1\"}',
                case when n = 1 then 'insert' else 'update' end, jsonb_build_object('id', 1, 'n', n), '{n}',
                timestamptz '2026-01-01' + n * interval '1 second'
         from generate_series(1, 11000) n",
    )
    .await?;
    let reader = read.reader();
    let busy = row(&reader, "busy", "1").await?;
    let blame = reader.blame(&busy, &At::latest()).await?;
    assert!(!blame.is_complete);
    assert!(blame.change_of("n").is_some() && blame.change_of("id").is_none());
    let then = "2026-01-01T02:00:00Z".parse()?;
    let blame = reader.blame(&busy, &then).await?;
    assert!(blame.is_complete);
    assert_eq!(blame.change_of("id").unwrap().op, "insert");
    Ok(())
}

const SHARED: &str = "create table t (id int primary key deferrable initially deferred, v text)";

#[tokio::test]
async fn whoever_exchanged_the_keys_of_rows_has_set_their_keys_alone() -> anyhow::Result<()> {
    for policy in both_levels() {
        for (statement, expected) in [
            ("update t set id = 7 - id", [("4", "three"), ("3", "four")]),
            ("update t set id = 9 - id - (id - 3) * 2", [("6", "three"), ("3", "four")]),
            ("update t set id = id + 1", [("4", "three"), ("5", "four")]),
        ] {
            for values in ["four,three", "same,same"] {
                let mut read = Read::after(SHARED).await?;
                capture(&mut read.connection, &[("t", policy.clone())]).await?;
                let (four, three) = values.split_once(',').unwrap();
                write(&mut read, "four", &format!("insert into t values (4, '{four}')")).await?;
                write(&mut read, "three", &format!("insert into t values (3, '{three}')")).await?;
                write(&mut read, "mover", statement).await?;
                let reader = read.reader();
                for (id, by) in expected {
                    let blame = reader.blame(&row(&reader, "t", id).await?, &At::latest()).await?;
                    assert_eq!(who(&blame), of([("id", "mover"), ("v", by)]), "{statement} {values} {id}");
                }
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_whose_keys_were_exchanged_twice_in_a_transaction_was_set_by_whoever_set_it()
-> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after(SHARED).await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        for (id, by) in [(1, "one"), (2, "two"), (3, "three")] {
            write(&mut read, by, &format!("insert into t values ({id}, '{by}')")).await?;
        }
        write(
            &mut read,
            "mover",
            "update t set id = id % 3 + 1; update t set id = 4 - id; update t set id = id + 1",
        )
        .await?;
        let reader = read.reader();
        // 1 2 3 went to 2 3 1, to 2 1 3 and to 3 2 4.
        for (id, by) in [("3", "one"), ("2", "two"), ("4", "three")] {
            let blame = reader.blame(&row(&reader, "t", id).await?, &At::latest()).await?;
            assert_eq!(who(&blame), of([("id", "mover"), ("v", by)]), "{id}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_took_the_key_of_one_that_left_has_set_nothing_of_it() -> anyhow::Result<()> {
    for policy in both_levels() {
        for statements in [
            "update t set id = 7 where id = 1; insert into t values (1, 'new')",
            "insert into t values (1, 'new'); update t set id = 7 where id = 1 and v = 'old'",
        ] {
            let mut read = Read::after(SHARED).await?;
            capture(&mut read.connection, &[("t", policy.clone())]).await?;
            write(&mut read, "ann", "insert into t values (1, 'old')").await?;
            write(&mut read, "bob", statements).await?;
            let reader = read.reader();
            let blame = reader.blame(&row(&reader, "t", "7").await?, &At::latest()).await?;
            assert_eq!(who(&blame), of([("id", "bob"), ("v", "ann")]), "{statements}");
            let blame = reader.blame(&row(&reader, "t", "1").await?, &At::latest()).await?;
            assert_eq!(who(&blame), of([("id", "bob"), ("v", "bob")]), "{statements}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn rows_whose_keys_were_exchanged_and_whose_inserts_are_not_known_have_no_one_to_blame()
-> anyhow::Result<()> {
    for policy in [json!({}), json!({"store_changed_from": false}), json!({"level": "row"})] {
        let mut read = Read::after(SHARED).await?;
        read.connection.execute("insert into t values (3, 'three'), (4, 'four')").await?;
        capture(&mut read.connection, &[("t", policy.clone())]).await?;
        write(&mut read, "mover", "update t set id = 7 - id").await?;
        let reader = read.reader();
        for id in ["3", "4"] {
            let blame = reader.blame(&row(&reader, "t", id).await?, &At::latest()).await?;
            // Without values before, it is not known under which of the keys a row is.
            if policy.get("store_changed_from").is_none() {
                assert_eq!(who(&blame), of([("id", "mover"), ("v", "unknown")]), "{policy} {id}");
            }
            assert!(blame.change_of("v").is_none(), "{policy} {id}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_a_trigger_gave_another_key_was_set_by_its_insert() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after(
            "create table t (id int primary key, v text);
             create function again() returns trigger language plpgsql as
                 $$begin update t set id = 7 where id = new.id and new.id = 1; return null; end$$;
             create trigger aaa after insert on t for each row execute function again()",
        )
        .await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        write(&mut read, "ann", "insert into t values (1, 'a')").await?;
        let reader = read.reader();
        let blame = reader.blame(&row(&reader, "t", "7").await?, &At::latest()).await?;
        assert_eq!(blame.change_of("v").unwrap().op, "insert");
        assert_eq!(blame.change_of("id").unwrap().op, "update");
    }
    Ok(())
}
