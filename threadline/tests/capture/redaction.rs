//! What is redacted is nowhere, whatever happens to the table.

use proptest::{
    prelude::*,
    sample::subsequence,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use super::{both_levels, capture, changes, host};

async fn everything(connection: &mut PgConnection) -> anyhow::Result<String> {
    Ok(sqlx::query_scalar(
        "select coalesce((select string_agg(c::text, '') from audit_changes c), '')
             || coalesce((select string_agg(t::text, '') from audit_transactions t), '')",
    )
    .fetch_one(connection)
    .await?)
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

#[test]
fn no_raw_secret_is_stored_under_any_policy() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let (_database, connection) = runtime
        .block_on(host("create table t (id int primary key, a text, b text, c text, d jsonb, e json)"))
        .unwrap();
    let connection = std::cell::RefCell::new(connection);
    let columns = subsequence(vec!["a", "b", "c", "d", "e"], 1..=5);
    let ways = prop::collection::vec(0..4_usize, 5);
    runner
        .run(&(columns, ways, any::<bool>()), |(columns, ways, by_row)| {
            let mut connection = connection.borrow_mut();
            runtime.block_on(async {
                let mut policy = json!({"exclude": [], "mask": [], "hash": [], "paths": []});
                if by_row {
                    policy["level"] = json!("row");
                }
                let mut hidden: Vec<&str> = Vec::new();
                for (column, way) in columns.iter().zip(ways) {
                    let is_document = matches!(*column, "d" | "e");
                    let option = ["exclude", "mask", "hash", if is_document { "paths" } else { "mask" }][way];
                    let name = if option == "paths" { format!("{column}.s.t") } else { (*column).to_owned() };
                    policy[option].as_array_mut().unwrap().push(json!(name));
                    hidden.push(column);
                }
                let texts = |n: u8| -> Vec<String> {
                    ["a", "b", "c"].iter().map(|c| if hidden.contains(c) { format!("RAW{n}") } else { format!("x{n}") }).collect()
                };
                let document = |column: &str, n: u8| -> Value {
                    json!({"s": [{"t": if hidden.contains(&column) { format!("RAW{n}") } else { format!("x{n}") }}]})
                };
                connection.execute("truncate t; truncate audit_transactions cascade").await.unwrap();
                capture(&mut connection, &[("t", policy)]).await.unwrap();
                for n in 1..3_u8 {
                    let texts = texts(n).join("', '");
                    let documents = format!("'{}', '{}'", document("d", n), document("e", n));
                    connection
                        .execute(AssertSqlSafe(format!(
                            "insert into t values (1, '{texts}', {documents})
                             on conflict (id) do update set a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d, e = excluded.e"
                        )))
                        .await
                        .unwrap();
                }
                connection
                    .execute(AssertSqlSafe(
                        if hidden.contains(&"e") { r#"update t set e = '"RAW\u0000"'"# } else { r#"update t set e = '"x\u0000"'"# },
                    ))
                    .await
                    .unwrap();
                connection.execute("update t set id = 2; delete from t").await.unwrap();
                let all = everything(&mut connection).await.unwrap();
                prop_assert!(!all.contains("RAW"), "{}", all);
                Ok(())
            })
        })
        .unwrap();
}
