//! What is redacted is nowhere, whatever happens to the table.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{both_levels, capture, changes, host};

/// All that the timeline holds, in every column of every table.
async fn everything(connection: &mut PgConnection) -> anyhow::Result<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        r"select c.oid::regclass::text from pg_class c
          where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname ~ '^(audit|threadline)_'",
    )
    .fetch_all(&mut *connection)
    .await?;
    assert!(tables.len() > 8, "{tables:?}");
    let mut everything = String::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(t::text, ''), '') from {table} t");
        everything +=
            &sqlx::query_scalar::<_, String>(AssertSqlSafe(rows)).fetch_one(&mut *connection).await?;
    }
    Ok(everything)
}

#[tokio::test]
async fn each_way_of_redacting_shows_what_it_says_in_every_column() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) = host(
            "create table users (id int primary key, name text, password text, email text, ssn text, settings jsonb, seen int)",
        )
        .await?;
        let more = json!({"exclude": ["password"], "mask": ["email"], "mask_placeholder": "a 'quoted\\' one", "hash": ["ssn"],
                          "hash_key": "k1", "paths": ["settings.token", "settings.list.secret"], "except": ["seen"]});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        capture(&mut connection, &[("users", policy)]).await?;
        connection
            .execute(
                r#"insert into users values (1, 'Ann', 'RAW1', 'RAW2', 'RAW3', '{"token": "RAW4", "list": [{"secret": "RAW5", "k": 1}]}', 1)"#,
            )
            .await?;
        for statement in [
            "update users set email = 'RAW6', ssn = 'RAW7', password = 'RAW8', seen = 2",
            "update users set ssn = null, settings = '\"RAW9\"'",
            "update users set password = 'RAW10', seen = 3",
            "delete from users",
        ] {
            connection.execute(statement).await?;
        }
        assert!(!everything(&mut connection).await?.contains("RAW"));
        let rows = changes(&mut connection).await?;
        assert_eq!(rows.len(), 4);
        let placeholder = "a 'quoted\\' one";
        let hash = rows[0]["data_after"]["ssn"].as_str().unwrap().to_owned();
        assert!(hash.starts_with("hmac:k1:") && hash.len() == 8 + 64, "{hash}");
        assert_eq!(
            rows[0]["data_after"],
            json!({"id": 1, "name": "Ann", "email": placeholder, "ssn": hash, "seen": 1,
                   "settings": {"token": placeholder, "list": [{"secret": placeholder, "k": 1}]}})
        );
        assert_eq!(rows[1]["changed_fields"], json!(["email", "ssn"]));
        assert_eq!(rows[1]["changed_from"], json!({"email": placeholder, "ssn": hash}));
        assert_eq!(rows[2]["changed_fields"], json!(["settings", "ssn"]));
        assert_eq!(rows[2]["data_after"]["settings"], json!(placeholder));
        assert_eq!(rows[2]["data_after"].get("ssn"), None, "null stays null under hash");
        assert_eq!(rows[3]["data_before"]["email"], json!(placeholder));
    }
    Ok(())
}

/// The vectors of RFC 4231, and a key that is longer than a block.
#[tokio::test]
async fn hashes_are_hmac_sha_256() -> anyhow::Result<()> {
    let (_database, mut connection) = host("select 1").await?;
    for (n, (key, text, hash)) in [
        ("0b".repeat(20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            hex("Jefe"),
            "what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            "aa".repeat(131),
            "Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let found: String = sqlx::query_scalar(
            "with made as materialized (select threadline_create_hash_key($1, decode($2, 'hex'))) select $1 from made",
        )
        .bind(n.to_string())
        .bind(key)
        .fetch_one(&mut connection)
        .await?;
        let found: String = sqlx::query_scalar("select threadline_hmac($1, $2)")
            .bind(found)
            .bind(text)
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(found, hash);
    }
    Ok(())
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[tokio::test]
async fn a_redacted_column_that_is_renamed_in_a_session_stays_hidden() -> anyhow::Result<()> {
    for mut policy in both_levels() {
        let (_database, mut connection) =
            host("create table users (id int primary key, name text, secret text, document jsonb)").await?;
        let more = json!({"mask": ["secret"], "paths": ["document.token"]});
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        capture(&mut connection, &[("users", policy)]).await?;
        connection.execute("insert into users values (1, 'a', 'RAW', '{\"token\": \"RAW\"}')").await?;
        connection.execute("alter table users rename secret to password").await?;
        connection.execute("update users set password = 'RAW2', name = 'b'").await?;
        connection.execute("alter table users rename document to settings").await?;
        connection.execute("update users set password = 'RAW3', settings = '{\"token\": \"RAW4\"}'").await?;
        connection.execute("delete from users").await?;
        assert!(!everything(&mut connection).await?.contains("RAW"));
        let rows = changes(&mut connection).await?;
        assert_eq!(rows[1]["data_after"]["name"], json!("b"), "what was known to be harmless is shown");
        assert_eq!(rows.len(), 4);
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_hash_key_hides_the_value() -> anyhow::Result<()> {
    let (_database, mut connection) = host("create table users (id int primary key, ssn text)").await?;
    capture(&mut connection, &[("users", json!({"hash": ["ssn"]}))]).await?;
    connection.execute("delete from threadline_hash_keys; insert into users values (1, 'RAW')").await?;
    assert_eq!(changes(&mut connection).await?[0]["data_after"]["ssn"], json!("[REDACTED]"));
    Ok(())
}

const COLUMNS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The nth value of a column, in SQL: a text, or a document in which the policies' path leads to it.
fn value(column: usize, n: usize, is_secret: bool) -> String {
    let text = if is_secret { format!("RAW{n}") } else { format!("x{n}") };
    match (column, n % 3) {
        (0..3, _) => format!("'{text}'"),
        (_, 0) => "null".to_owned(),
        (_, 1) => format!("'\"{text}\"'"),
        _ => format!("'{}'", json!({"s": [{"t": text, "u": n}, {"t": {"deep": text}}]})),
    }
}

/// What happens to a table as the `at`th, whose columns have these names by now.
fn happening(
    table: &str,
    names: &mut [String],
    secret: &[bool],
    (at, (kind, column, n)): (usize, (u8, usize, usize)),
) -> String {
    let values: Vec<String> =
        (0..names.len()).map(|column| value(column, n + column, secret[column])).collect();
    let sets: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    match kind {
        0..3 => format!(
            "insert into {table} values ({}, {}) on conflict (id) do update set {}",
            n % 4,
            values.join(", "),
            sets.join(", ")
        ),
        3 | 4 => format!("update {table} set {} = {}", names[column], values[column]),
        5 => format!("update {table} set id = {} where id = {}", 100 + at, n % 4),
        6 => format!("delete from {table} where id = {}", n % 4),
        7 if table == "by_row" => {
            let text = if secret[4] { "RAW" } else { "x" };
            format!("update {table} set {} = '\"{text}\\u0000\"'", names[4])
        }
        _ => {
            let new = format!("{}{at}", COLUMNS[column]);
            let old = std::mem::replace(&mut names[column], new.clone());
            format!("alter table {table} rename {old} to {new}")
        }
    }
}

#[test]
fn no_raw_secret_is_stored_under_any_policy_whatever_happens() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let (_database, connection) = runtime.block_on(host("select 1")).unwrap();
    let connection = std::cell::RefCell::new(connection);
    let secret = prop::collection::vec(any::<bool>(), 5);
    let ways = prop::collection::vec(0..4_usize, 5);
    let happenings = prop::collection::vec((0..9_u8, 0..5_usize, 0..50_usize), 1..15);
    runner
        .run(&(secret, ways, happenings), |(secret, ways, happenings)| {
            let mut connection = connection.borrow_mut();
            runtime.block_on(async {
                let mut policy = json!({"exclude": [], "mask": [], "hash": [], "paths": []});
                for (column, way) in ways.into_iter().enumerate().filter(|(column, _)| secret[*column]) {
                    let of_documents = if column < 3 { "mask" } else { "paths" };
                    let option = ["exclude", "mask", "hash", of_documents][way];
                    let path = if option == "paths" { ".s.t" } else { "" };
                    policy[option].as_array_mut().unwrap().push(json!(format!("{}{path}", COLUMNS[column])));
                }
                connection
                    .execute(
                        "drop table if exists by_row, by_statement; truncate audit_transactions, audit_changes;
                         create table by_row (id int primary key, a text, b text, c text, d jsonb, e json);
                         create table by_statement (id int primary key, a text, b text, c text, d jsonb, e jsonb)",
                    )
                    .await
                    .unwrap();
                capture(&mut connection, &[("by_row", policy.clone()), ("by_statement", policy)]).await.unwrap();
                for table in ["by_row", "by_statement"] {
                    let mut names: Vec<String> = COLUMNS.map(str::to_owned).to_vec();
                    for happened in happenings.iter().copied().enumerate() {
                        let sql = happening(table, &mut names, &secret, happened);
                        connection.execute(AssertSqlSafe(sql)).await.unwrap();
                    }
                    connection.execute(AssertSqlSafe(format!("delete from {table}"))).await.unwrap();
                }
                let all = everything(&mut connection).await.unwrap();
                prop_assert!(!all.contains("RAW"), "{}", all);
                Ok(())
            })
        })
        .unwrap();
}
