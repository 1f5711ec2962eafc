//! What a row was at a time.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::query::{
    Reader, Scope,
    row::{AsOf, At, NotFollowed, Row},
};

use super::{Read, both_levels, capture, library_database, now, row};

/// What is left of an answer for people: the image, or a term.
fn said(as_of: &AsOf) -> String {
    match as_of {
        AsOf::Present { image, .. } => image.to_string(),
        AsOf::Moved { row, .. } | AsOf::NotYet { row, .. } => format!("{} {row}", as_of.term()),
        _ => as_of.term().to_owned(),
    }
}

async fn at(reader: &Reader, row: &Row, time: &str) -> anyhow::Result<String> {
    Ok(said(&reader.as_of(row, &time.parse()?).await?))
}

const ANN: &str = "11111111-1111-4111-8111-111111111111";
const ANN_LATER: &str = "22222222-2222-4222-8222-222222222222";
const ANN_LAST: &str = r#"{"id": "11111111-1111-4111-8111-111111111111", "name": "Ann B", "email": "***", "active": true, "settings": null, "updated_at": "2026-01-03T00:00:00"}"#;

#[tokio::test]
async fn the_librarys_rows_were_what_the_library_says() -> anyhow::Result<()> {
    let read = library_database().await?;
    let reader = read.reader();
    let line = r#"{"tenant_id": "1", "line_no": "9007199254740993"}"#;
    for (table, key, time, expected) in [
        ("users", ANN, "2026-02-28T00:00:00Z", "before_horizon"),
        ("users", ANN, "2026-03-01T00:00:01Z", "before_horizon"),
        // A row that the library wrote does not say that it left.
        ("users", ANN, "2026-03-02T00:00:00Z", ANN_LAST),
        ("users", ANN_LATER, "2026-03-02T00:00:00Z", "deleted"),
        (
            "users",
            ANN,
            "2026-03-01T00:00:03Z",
            r#"{"id": "11111111-1111-4111-8111-111111111111", "name": "Ann B", "email": "***", "active": true, "settings": {"a": 1}, "updated_at": "2026-01-02T00:00:00"}"#,
        ),
        (
            "line_items",
            line,
            "2026-03-02T00:00:00Z",
            r#"{"qty": 2, "sku": "sku \"q\", comma", "price": 19.90, "line_no": 9007199254740993, "tenant_id": 1}"#,
        ),
        ("counters", "7", "2026-03-02T00:00:00Z", r#"{"n": 100, "id": 7, "note": "odd actor"}"#),
        ("counters", "8", "2026-03-02T00:00:00Z", r#"{"n": 50, "id": 8, "note": "new"}"#),
        (
            "MixedCase",
            "33333333-3333-4333-8333-333333333333",
            "2026-03-02T00:00:00Z",
            r#"{"Id": "33333333-3333-4333-8333-333333333333", "quo\"te": "\\ ' \"", "Some Col": "ä 漢 😀"}"#,
        ),
        (
            "invoices",
            "1",
            "2026-03-01T00:00:33.5Z",
            r#"{"id": 1, "memo": null, "total": 12345678901234567890.123456789}"#,
        ),
        (
            "events_p_jan",
            r#"{"id": "1", "day": "2026-01-10"}"#,
            "2026-03-01T00:00:36.5Z",
            r#"{"id": 1, "day": "2026-01-10", "body": "b"}"#,
        ),
        (
            "mood_keyed",
            r#"{"m": "happy", "c": "ABC"}"#,
            "2026-03-02T00:00:00Z",
            r#"{"c": "ABC", "m": "happy", "v": 2}"#,
        ),
        ("counters", "x", "2026-03-02T00:00:00Z", "before_horizon"),
    ] {
        let row = row(&reader, table, key).await?;
        assert_eq!(at(&reader, &row, time).await?, expected, "{table} {key} {time}");
    }
    // Better than the library: the row is known before it got this key.
    let later = row(&reader, "users", ANN_LATER).await?;
    assert_eq!(
        at(&reader, &later, "2026-03-01T00:00:06.5Z").await?,
        format!(r#"not_yet public.users {{"id":"{ANN}"}}"#)
    );
    let followed = reader.as_of_followed(&later, &"2026-03-01T00:00:06.5Z".parse()?).await?;
    assert_eq!((followed.row.key["id"].as_str(), said(&followed.as_of).as_str()), (ANN, ANN_LAST));
    Ok(())
}

#[tokio::test]
async fn a_row_is_under_one_key_at_a_time_and_says_which_one_it_has_then() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    let mut times = Vec::new();
    for statement in
        ["insert into t values (1, 1)", "update t set id = 2", "update t set id = 3", "delete from t"]
    {
        read.connection.execute(statement).await?;
        times.push(now(&mut read.connection).await?);
    }
    let reader = read.reader();
    let other = |term: &str, id: i32| format!(r#"{term} public.t {{"id":"{id}"}}"#);
    let image = |id: i32| format!(r#"{{"v": 1, "id": {id}}}"#);
    for (key, expected) in [
        ("1", [image(1), other("moved", 2), other("moved", 2), other("moved", 2)]),
        ("2", [other("not_yet", 1), image(2), other("moved", 3), other("moved", 3)]),
        ("3", [other("not_yet", 2), other("not_yet", 2), image(3), "deleted".to_owned()]),
    ] {
        let row = row(&reader, "t", key).await?;
        for (time, expected) in times.iter().zip(expected) {
            assert_eq!(said(&reader.as_of(&row, time).await?), expected, "{key} {time}");
        }
        for (time, expected) in times.iter().zip([image(1), image(2), image(3), "deleted".to_owned()]) {
            let followed = reader.as_of_followed(&row, time).await?;
            assert_eq!(said(&followed.as_of), expected, "{key} {time}");
        }
    }
    Ok(())
}

/// Ann has the keys 1, 2 and 3, and Ben comes in under 2; Cid leaves 5, under which Dora comes in and leaves for 6.
#[tokio::test]
async fn a_row_is_never_said_to_be_another_one_that_came_under_its_key() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, name text)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    let mut times = Vec::new();
    for statement in [
        "insert into t values (1, 'Ann'), (5, 'Cid')",
        "update t set id = 2 where id = 1",
        "update t set id = 3 where id = 2",
        "insert into t values (2, 'Ben')",
        "update t set id = 9 where id = 5",
        "insert into t values (5, 'Dora')",
        "update t set id = 6 where id = 5",
    ] {
        read.connection.execute(statement).await?;
        times.push(now(&mut read.connection).await?);
    }
    let reader = read.reader();
    let at = async |key: &str, time: &At| {
        let row = row(&reader, "t", key).await?;
        anyhow::Ok(said(&reader.as_of_followed(&row, time).await?.as_of))
    };
    assert_eq!(at("1", &times[2]).await?, r#"{"id": 3, "name": "Ann"}"#);
    assert_eq!(at("1", &times[6]).await?, r#"moved public.t {"id":"2"}"#, "Ben is not Ann");
    let why = reader.as_of_followed(&row(&reader, "t", "1").await?, &times[6]).await?.not_followed;
    assert_eq!(why, Some(NotFollowed::UsedAgain));
    assert_eq!(at("6", &times[5]).await?, r#"{"id": 5, "name": "Dora"}"#);
    assert_eq!(at("6", &times[3]).await?, r#"not_yet public.t {"id":"5"}"#, "Cid is not Dora");
    Ok(())
}

/// The change that the trigger makes is captured before the one that it reacts to.
#[tokio::test]
async fn a_row_that_a_trigger_changes_again_is_what_the_trigger_made_of_it() -> anyhow::Result<()> {
    for policy in both_levels() {
        for trigger in ["aaa", "zzz"] {
            let mut read = Read::after(
                "create table t (id int primary key, v int, w int);
                 create function again() returns trigger language plpgsql as
                     $$begin update t set v = new.v + 1 where id = new.id and new.v % 10 <> 3; return null; end$$",
            )
            .await?;
            capture(&mut read.connection, &[("t", policy.clone())]).await?;
            let sql = format!(
                "create trigger {trigger} after insert or update on t for each row execute function again()"
            );
            read.connection.execute(AssertSqlSafe(sql)).await?;
            read.connection.execute("insert into t values (1, 1), (2, 12)").await?;
            let after_insert = now(&mut read.connection).await?;
            read.connection
                .execute("begin; update t set v = 21 where id = 1; update t set w = 7 where id = 1; commit")
                .await?;
            let reader = read.reader();
            for (key, at, v) in [("1", &after_insert, 3), ("2", &after_insert, 13), ("1", &At::latest(), 23)]
            {
                let row = row(&reader, "t", key).await?;
                let as_of = reader.as_of(&row, at).await?;
                let image: Value = serde_json::from_str(as_of.image().unwrap().get())?;
                assert_eq!(image["v"], v, "{trigger} {key}");
            }
        }
    }
    Ok(())
}

/// Keys that are exchanged within one statement, in whatever order its rows are captured.
#[tokio::test]
async fn keys_that_are_exchanged_at_once_lead_to_the_right_rows() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read =
            Read::after("create table t (id int primary key deferrable initially immediate, v int)").await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        read.connection.execute("insert into t select n, n * 10 from generate_series(1, 5) n").await?;
        read.connection.execute("update t set id = 6 - id").await?;
        let reader = read.reader();
        for id in 1..=5 {
            let row = row(&reader, "t", &id.to_string()).await?;
            let v = (6 - id) * 10;
            assert_eq!(at(&reader, &row, "infinity").await?, format!(r#"{{"v": {v}, "id": {id}}}"#));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_row_is_gone_when_its_table_or_its_partition_was_emptied() -> anyhow::Result<()> {
    let mut read = Read::after(
        "create table t (id int primary key, v int);
         create table p (id int, region int, primary key (id, region)) partition by list (region);
         create table p1 partition of p for values in (1); create table p2 partition of p for values in (2)",
    )
    .await?;
    capture(&mut read.connection, &[("t", json!({})), ("p", json!({}))]).await?;
    read.connection
        .execute(
            "insert into t values (1, 1), (2, 1); truncate t; insert into t values (2, 2);
             insert into p values (1, 1), (1, 2); truncate p1",
        )
        .await?;
    let before = now(&mut read.connection).await?;
    read.connection.execute("begin; truncate t; insert into t values (1, 3); commit; truncate p").await?;
    let after = now(&mut read.connection).await?;
    let reader = read.reader();
    for (table, key, was, is) in [
        ("t", "1", "deleted", r#"{"v": 3, "id": 1}"#),
        ("t", "2", r#"{"v": 2, "id": 2}"#, "deleted"),
        ("p", r#"{"id": "1", "region": "1"}"#, "deleted", "deleted"),
        ("p", r#"{"id": "1", "region": "2"}"#, r#"{"id": 1, "region": 2}"#, "deleted"),
        ("p2", r#"{"id": "1", "region": "2"}"#, r#"{"id": 1, "region": 2}"#, "deleted"),
        ("t", "3", "before_horizon", "before_horizon"),
    ] {
        let row = row(&reader, table, key).await?;
        for (time, expected) in [(&before, was), (&after, is)] {
            let as_of = reader.as_of(&row, time).await?;
            assert_eq!(said(&as_of), expected, "{table} {key}");
            if let AsOf::Deleted { change } = as_of {
                assert_eq!(change.op, "truncate");
            }
        }
    }
    Ok(())
}

/// Its delete and its insert have times of their own.
#[tokio::test]
async fn a_row_on_its_way_to_another_partition_is_not_deleted() -> anyhow::Result<()> {
    let mut read = Read::after(
        "create table p (id int, region int, body text, primary key (id, region)) partition by list (region);
         create table p1 partition of p for values in (1); create table p2 partition of p for values in (2)",
    )
    .await?;
    capture(&mut read.connection, &[("p", json!({}))]).await?;
    read.connection.execute("insert into p values (1, 1, 'a'), (2, 1, 'b')").await?;
    read.connection.execute("update p set region = 2 where id = 1").await?;
    read.connection.execute("delete from p where id = 2").await?;
    let reader = read.reader();
    let moved = row(&reader, "p", r#"{"id": "1", "region": "1"}"#).await?;
    let deleted = row(&reader, "p", r#"{"id": "2", "region": "1"}"#).await?;
    let (half, whole): (time::OffsetDateTime, time::OffsetDateTime) = sqlx::query_as(
        "select max(captured_at) filter (where op = 'delete'), max(captured_at) filter (where op = 'insert')
         from audit_changes where transaction_id in (select transaction_id from audit_changes group by 1 having count(distinct op) = 2)",
    )
    .fetch_one(&mut read.connection)
    .await?;
    let image = r#"{"id": 1, "body": "a", "region": 1}"#;
    assert_eq!(said(&reader.as_of(&moved, &half.into()).await?), image);
    assert_eq!(said(&reader.as_of(&moved, &whole.into()).await?), "deleted");
    assert_eq!(at(&reader, &deleted, "infinity").await?, "deleted");

    // Both halves under one key, as of a key that does not hold the partition.
    read.connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, partition, captured_at)
             select t.id, 'public', 'p', '{\"id\": \"9\"}', w.op, w.image::jsonb, w.partition, w.at::timestamptz
             from (select id from audit_transactions limit 1) t
             cross join (values ('insert', '{\"id\": 9}', 'public.p1', '2026-01-01 10:00Z'), ('delete', null, 'public.p1', '2026-01-01 10:01Z'),
                                ('insert', '{\"id\": 9, \"v\": 1}', 'public.p2', '2026-01-01 10:02Z')) w (op, image, partition, at)",
        )
        .await?;
    let one = moved.with_key([("id".to_owned(), "9".to_owned())].into());
    for (time, expected) in [
        ("2026-01-01T10:00:30Z", r#"{"id": 9}"#),
        ("2026-01-01T10:01:30Z", r#"{"id": 9}"#),
        ("2026-01-01T10:02:00Z", r#"{"v": 1, "id": 9}"#),
    ] {
        assert_eq!(at(&reader, &one, time).await?, expected, "{time}");
    }
    Ok(())
}

#[tokio::test]
async fn times_that_no_driver_holds_are_times() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.connection
        .execute("insert into t values (1, 1); update t set v = 2; update t set v = 3; update t set v = 4")
        .await?;
    read.connection
        .execute(
            "update audit_changes set captured_at = (array['-infinity', '2026-01-01', '12000-01-01', 'infinity'])[(data_after ->> 'v')::int]::timestamptz;
             update audit_transactions set occurred_at = 'infinity'",
        )
        .await?;
    let reader = read.reader();
    let row = row(&reader, "t", "1").await?;
    for (time, v) in [
        ("1000-01-01", 1),
        ("2026-01-01", 2),
        ("9999-12-31T23:59:59.999999Z", 2),
        ("11999-12-31T23:59:59Z", 2),
        ("12000-01-01T00:00:00Z", 3),
        ("infinity", 4),
    ] {
        assert_eq!(at(&reader, &row, time).await?, format!(r#"{{"v": {v}, "id": 1}}"#), "{time}");
    }
    Ok(())
}

const EXACT: &str = r#", "d": {"x": 1.10}, "e": 1"#;

#[tokio::test]
async fn every_digit_of_an_image_is_as_it_was_stored() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read =
            Read::after("create table t (id int primary key, a numeric, b numeric, e numeric, d jsonb)")
                .await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        read.connection
            .execute(
                "insert into t values (1, 19.90, 123456789012345678901234567890.1230, '1e400', '{\"x\": 1.10}'); update t set a = 19.900",
            )
            .await?;
        read.connection.execute("update t set a = 20.00").await?;
        let reader = read.reader();
        let row = row(&reader, "t", "1").await?;
        let image = at(&reader, &row, "infinity").await?;
        assert!(image.contains(r#""a": 20.00, "b": 123456789012345678901234567890.1230, "#), "{image}");
        assert!(image.contains(EXACT) && image.contains(&"0".repeat(400)), "{image}");
    }
    Ok(())
}

#[tokio::test]
async fn a_null_of_sql_is_told_from_one_of_json() -> anyhow::Result<()> {
    for policy in both_levels() {
        let mut read = Read::after("create table t (id int primary key, a jsonb, b jsonb, c text)").await?;
        capture(&mut read.connection, &[("t", policy)]).await?;
        read.connection.execute("insert into t values (1, null, 'null', null)").await?;
        let reader = read.reader();
        let row = row(&reader, "t", "1").await?;
        let AsOf::Present { image, sql_nulls, .. } = reader.as_of(&row, &At::latest()).await? else {
            panic!("it is there");
        };
        assert_eq!(image.get(), r#"{"a": null, "b": null, "c": null, "id": 1}"#);
        assert_eq!(sql_nulls, ["a"]);
    }
    Ok(())
}

/// Changes that come from elsewhere do not say what was before.
#[tokio::test]
async fn where_values_before_are_not_stored_positions_count() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({"store_changed_from": false}))]).await?;
    let sql: String = (2..300).fold("begin; insert into t values (1, 1);".to_owned(), |sql, v| {
        format!("{sql} update t set v = {v};")
    });
    read.connection.execute(AssertSqlSafe(format!("{sql} commit"))).await?;
    let reader = read.reader();
    let row = row(&reader, "t", "1").await?;
    assert_eq!(at(&reader, &row, "infinity").await?, r#"{"v": 299, "id": 1}"#);
    Ok(())
}

/// As a tenant.
async fn write(connection: &mut PgConnection, tenant: &str, statement: &str) -> anyhow::Result<()> {
    let sql = format!(
        "begin; select set_config('threadline.context', '{{\"tenant\": \"{tenant}\"}}', true); {statement}; commit"
    );
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

#[tokio::test]
async fn a_row_is_what_its_reader_may_see_of_it() -> anyhow::Result<()> {
    let mut read = Read::after("create table t (id int primary key, v int)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    write(&mut read.connection, "t1", "insert into t values (1, 1)").await?;
    write(&mut read.connection, "t2", "update t set v = 2").await?;
    let row = row(&read.reader(), "t", "1").await?;
    for (scope, expected) in [
        (Scope::everything(), r#"{"v": 2, "id": 1}"#),
        (Scope::of_context("tenant", "t1"), r#"{"v": 1, "id": 1}"#),
        (Scope::of_context("tenant", "t2"), r#"{"v": 2, "id": 1}"#),
        (Scope::of_context("tenant", "t3"), "before_horizon"),
        (Scope::nothing(), "before_horizon"),
    ] {
        assert_eq!(at(&read.timeline.reader(scope), &row, "infinity").await?, expected);
    }
    Ok(())
}
