//! How values are stored, which of them count as different, and which texts make a key.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use threadline::capture::PlanError;

use super::{both_levels, capture, captures, changes, host, server_version};

/// The columns that an update from one value to another says it changed; nothing where there is no change.
async fn changed(
    connection: &mut PgConnection,
    policy: &Value,
    (kind, from, to): (&str, &str, &str),
) -> anyhow::Result<Option<Value>> {
    connection
        .execute(AssertSqlSafe(format!(
            "drop table if exists t; delete from threadline_capture_policies; truncate audit_transactions, audit_changes;
             create table t (id int primary key, v {kind}, n int); insert into t values (1, {from}, 1)"
        )))
        .await?;
    capture(connection, &[("t", policy.clone())]).await?;
    connection.execute(AssertSqlSafe(format!("update t set v = {to}"))).await?;
    let alone = changes(connection).await?;
    // Beside a column that counts, it is in the image and not in the list.
    connection.execute(AssertSqlSafe(format!("update t set v = {from}, n = 2"))).await?;
    let beside = changes(connection).await?.pop().unwrap();
    let expected = if alone.is_empty() { json!(["n"]) } else { json!(["n", "v"]) };
    assert_eq!(beside["changed_fields"], expected, "{kind}: {from}, {to}");
    Ok(alone.first().map(|change| change["changed_fields"].clone()))
}

/// As the page says: values are compared as in jsonb, whether their type knows equality or not.
#[tokio::test]
async fn values_that_are_equal_in_jsonb_are_no_change_and_all_others_are_one() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create extension citext").await?;
    let equal = [
        ("numeric", "1.0", "1.00"),
        ("float8", "'0'", "'-0'"),
        ("numeric", "'NaN'", "'NaN'"),
        ("int[]", "'[1:1]={5}'", "'[0:0]={5}'"),
        ("jsonb", "null", "'null'"),
        ("jsonb", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"),
        ("char(4)", "'a'", "'a  '"),
        ("timestamptz", "'2026-07-01 12:00+02'", "'2026-07-01 10:00Z'"),
        ("point", "'(1,2)'", "'(1,2)'"),
    ];
    let different = [
        ("numeric", "1.0", "1.01"),
        ("citext", "'A'", "'a'"),
        ("interval", "'1 day'", "'24 hours'"),
        ("text", "'a'", "'a '"),
        ("text", "null", "''"),
        ("jsonb", "null", "'{}'"),
        ("float8", "0.3", "0.1::float8 + 0.2"),
        ("point", "'(1,2)'", "'(1,3)'"),
        ("int[]", "'{1,null}'", "'{1}'"),
    ];
    for policy in both_levels() {
        for case in equal {
            assert_eq!(changed(&mut connection, &policy, case).await?, None, "{case:?}");
        }
        for case in different {
            assert_eq!(changed(&mut connection, &policy, case).await?, Some(json!(["v"])), "{case:?}");
        }
    }
    for (case, fields) in
        [(("json", "'{\"a\": 1}'", "'{\"a\":1}'"), None), (("json", "'1'", "'2'"), Some(json!(["v"])))]
    {
        assert_eq!(changed(&mut connection, &json!({}), case).await?, fields, "{case:?}");
    }
    Ok(())
}

/// From PostgreSQL 16 on, json takes documents that are too deep for jsonb.
#[tokio::test]
async fn a_document_of_any_depth_is_written_with_capture_if_it_is_without() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create table plain (id int primary key, j json); create table captured (like plain including all)",
    )
    .await?;
    capture(&mut connection, &[("captured", json!({}))]).await?;
    let mut written = Vec::new();
    for depth in [100, 5_000, 20_000] {
        let mut outcomes = Vec::new();
        for table in ["plain", "captured"] {
            let document = format!("(repeat('[', {depth}) || repeat(']', {depth}))::json");
            let insert = format!("insert into {table} values ({depth}, {document})");
            outcomes.push(connection.execute(AssertSqlSafe(insert)).await.is_ok());
        }
        assert_eq!(outcomes[0], outcomes[1], "{depth}");
        if outcomes[0] {
            written.push(depth);
            connection
                .execute(AssertSqlSafe(format!(
                    "update captured set j = '1' where id = {depth}; delete from captured where id = {depth}"
                )))
                .await?;
        }
    }
    if server_version(&mut connection).await? >= 160_000 {
        assert_eq!(written, [100, 5_000, 20_000]);
    }
    let count: i64 =
        sqlx::query_scalar("select count(*) from audit_changes").fetch_one(&mut connection).await?;
    assert_eq!(usize::try_from(count)?, written.len() * 3);
    Ok(())
}

/// In other zones, those of before standard time have offsets with seconds, which readers of RFC 3339 refuse.
#[tokio::test]
async fn old_and_endless_times_are_in_utc_whatever_the_zone_of_the_session() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host("create table t (id int primary key, at timestamptz)").await?;
        capture(&mut connection, &[("t", policy)]).await?;
        connection.execute("set timezone = 'Africa/Monrovia'").await?;
        connection
            .execute(
                "insert into t values (1, '1800-01-01 00:00Z'), (2, 'infinity'), (3, '0044-03-15 00:00Z BC')",
            )
            .await?;
        let times: Vec<Value> =
            sqlx::query_scalar("select data_after -> 'at' from audit_changes order by position")
                .fetch_all(&mut connection)
                .await?;
        assert_eq!(
            times,
            [json!("1800-01-01T00:00:00+00:00"), json!("infinity"), json!("0044-03-15T00:00:00+00:00 BC")]
        );
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_the_texts_that_images_hold_whatever_the_session_is_set_to() -> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) = host(
            "create extension citext; create type mood as enum ('sad', 'a \"quoted\" one'); create domain code as char(4);
             create table t (c char(4), d date, at timestamp, i citext, m mood, n bigint, u uuid, v varchar, w code,
                             primary key (c, d, at, i, m, n, u, v, w))",
        )
        .await?;
        capture(&mut connection, &[("t", policy)]).await?;
        connection.execute("set datestyle = 'German'; set timezone = 'Asia/Kathmandu'").await?;
        connection
            .execute(
                "insert into t values ('a', '2026-03-02', '2026-03-02 10:00:00.5', 'A', 'a \"quoted\" one', 9007199254740993,
                                       '44444444-4444-4444-8444-444444444444', E'ä ''\\\\', 'b')",
            )
            .await?;
        connection.execute("update t set i = 'a'").await?;
        let mut key = json!({
            "c": "a   ", "d": "2026-03-02", "at": "2026-03-02T10:00:00.5", "i": "A", "m": "a \"quoted\" one", "n": "9007199254740993",
            "u": "44444444-4444-4444-8444-444444444444", "v": "ä '\\", "w": "b   "
        });
        let rows = changes(&mut connection).await?;
        assert_eq!(rows[0]["table_pk"], key);
        // One row for a unique index, and two keys: the texts differ.
        assert_eq!(rows[1]["key_before"], key);
        key["i"] = json!("a");
        assert_eq!(rows[1]["table_pk"], key);
    }
    Ok(())
}

/// What such a cast gives is in the image, and may be anything.
#[tokio::test]
async fn a_key_of_an_enum_with_a_cast_to_json_is_refused() -> anyhow::Result<()> {
    let (_database, mut connection) = host(
        "create type mood as enum ('sad', 'ok'); create table t (m mood primary key, v int);
         create function told(mood) returns json language sql immutable as $$select json_build_object('mood', $1::text)$$",
    )
    .await?;
    captures(&mut connection, &[("t", json!({}))]).await?;
    connection.execute("create cast (mood as json) with function told(mood)").await?;
    let refused = captures(&mut connection, &[("t", json!({}))]).await;
    assert!(matches!(&refused, Err(PlanError::Refused(refusal)) if refusal.term == "primary_key_type"));
    Ok(())
}

#[tokio::test]
async fn the_key_has_the_columns_of_the_primary_key_in_its_order_and_none_that_the_index_only_includes()
-> anyhow::Result<()> {
    for policy in both_levels() {
        let (_database, mut connection) =
            host("create table t (a int, b int, c int, primary key (c, a) include (b))").await?;
        capture(&mut connection, &[("t", policy)]).await?;
        connection.execute("insert into t values (1, 2, 3)").await?;
        assert_eq!(changes(&mut connection).await?[0]["table_pk"], json!({"a": "1", "c": "3"}));
        let arguments: String = sqlx::query_scalar(
            r"select replace(encode(tgargs, 'escape'), '\000', ',') from pg_trigger where tgname = 'threadline_audit_t'",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(arguments, "c,a,");
    }
    Ok(())
}
