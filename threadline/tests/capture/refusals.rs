//! Everything that is refused has a term of its own, and where something is to be done, a hint.

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::capture::{HostTable, PlanError, Policy};

use super::{captures, host};

fn refusal_of(table: &str, section: &Value) -> Option<(&'static str, bool)> {
    let table: HostTable = table.parse().unwrap();
    let refusal = Policy::read(&table, section.as_object().unwrap()).err()?;
    Some((refusal.term, refusal.hint.is_some()))
}

/// What the Elixir library refuses when it reads its configuration; a text where a list belongs is refused here, and was ignored
/// there, which leaks.
#[test]
fn settings_that_contradict_themselves_are_refused() {
    let cases = [
        (json!({"exclude": ["a"], "mask": ["a", "b"]}), "redaction_overlap"),
        (json!({"mask": ["a"], "hash": ["a"]}), "redaction_overlap"),
        (json!({"mask": ["a"], "paths": ["a.b"]}), "redaction_overlap"),
        (json!({"mask": ["a"], "mask_placeholder": ""}), "placeholder_empty"),
        (json!({"mask": ["a"], "mask_placeholder": "x".repeat(201)}), "placeholder_too_long"),
        (json!({"mask": ["a"], "mask_placeholder": "a\nb"}), "placeholder_control_character"),
        (json!({"pk": ["a"]}), "option_unknown"),
        (json!({"primary_keys": ["a"]}), "option_unknown"),
        (json!({"masks": ["a"]}), "option_unknown"),
        (json!({"level": "both"}), "option_invalid"),
        (json!({"strict": "yes"}), "option_invalid"),
        (json!({"hash": ["a"], "hash_key": "a b"}), "hash_key_invalid"),
        (json!({"paths": ["a"]}), "path_invalid"),
        (json!({"primary_key": "a"}), "not_a_list"),
        (json!({"exclude": "a"}), "not_a_list"),
        (json!({"primary_key": []}), "primary_key_empty"),
        (json!({"primary_key": ["a", "a"]}), "primary_key_duplicate"),
        (json!({"primary_key": ["a "]}), "primary_key_name_invalid"),
        (json!({"primary_key": ["a"], "mask": ["a"]}), "key_redacted"),
        (json!({"primary_key": [1]}), "not_text"),
    ];
    for (section, term) in cases {
        assert_eq!(refusal_of("t", &section).map(|(term, _)| term), Some(term), "{section}");
    }
    let table: HostTable = "t".parse().unwrap();
    let section = json!({"exclude": [" a ", "", "a"]});
    assert_eq!(Policy::read(&table, section.as_object().unwrap()).unwrap().exclude, ["a"]);
}

#[test]
fn what_is_no_name_of_a_table_is_refused() {
    for name in
        ["a.b.c", "", "1a", "a b", "x.", "\"q\"", &"a".repeat(64), &format!("schema.{}", "a".repeat(64))]
    {
        assert_eq!(name.parse::<HostTable>().unwrap_err().term, "table_name_invalid", "{name}");
    }
}

#[tokio::test]
async fn tables_that_cannot_be_captured_are_refused_with_what_to_do() -> anyhow::Result<()> {
    let (_database, mut connection) = host(include_str!("tables.sql")).await?;
    connection
        .execute(
            "create table computed (id int primary key, secret text, told text generated always as (upper(secret)) stored);
             create table parent (id int primary key); create table child () inherits (parent)",
        )
        .await?;
    let none = json!({});
    let cases = [
        ("bad_timestamptz", none.clone(), Some("primary_key_type")),
        ("bad_numeric", none.clone(), Some("primary_key_type")),
        ("bad_float", none.clone(), Some("primary_key_type")),
        ("bad_array", none.clone(), Some("primary_key_type")),
        ("bad_bytea", none.clone(), Some("primary_key_type")),
        ("bad_boolean", none.clone(), Some("primary_key_type")),
        ("no_pk_nothing", none.clone(), Some("primary_key_missing")),
        ("no_pk_unique", none.clone(), Some("primary_key_missing")),
        ("no_pk_bad_indexes", none.clone(), Some("primary_key_missing")),
        ("no_pk_bad_indexes", json!({"primary_key": ["c"]}), Some("primary_key_without_index")),
        ("no_pk_bad_indexes", json!({"primary_key": ["a"]}), Some("primary_key_without_index")),
        ("no_pk_bad_indexes", json!({"primary_key": ["d"]}), None),
        ("no_pk_bad_indexes", json!({"primary_key": ["d", "a"]}), Some("primary_key_without_index")),
        ("no_pk_bad_indexes", json!({"primary_key": ["nope"]}), Some("primary_key_column_unknown")),
        ("no_pk_nothing", json!({"primary_key": ["a"]}), Some("primary_key_without_index")),
        ("counters", json!({"primary_key": ["id"]}), Some("primary_key_not_needed")),
        ("missing_table", none.clone(), Some("table_missing")),
        ("users", json!({"mask": ["id"]}), Some("key_redacted")),
        ("users", json!({"hash": ["id"]}), Some("key_redacted")),
        ("users", json!({"except": ["id"]}), Some("key_redacted")),
        ("users", json!({"exclude": ["no_such"]}), Some("column_unknown")),
        ("users", json!({"paths": ["email.x"]}), Some("path_invalid")),
        // The library calls this a table without a key.
        ("users_view", none.clone(), Some("not_a_table")),
        // Its generator refuses its own tables, its functions do not.
        ("audit_changes", none.clone(), Some("own_table")),
        ("threadline_capture_policies", none.clone(), Some("own_table")),
        ("no_pk_unique", json!({"primary_key": ["B c", "a"]}), None),
        ("events_p_jan", none.clone(), Some("is_partition")),
        ("events_p", json!({"level": "statement"}), Some("statement_level_impossible")),
        ("types_all", json!({"level": "statement"}), Some("statement_level_impossible")),
        ("parent", json!({"level": "statement"}), Some("statement_level_impossible")),
        ("computed", json!({"mask": ["secret"]}), Some("computed_from_redacted")),
        ("computed", json!({"mask": ["secret"], "exclude": ["told"]}), None),
    ];
    for (table, section, term) in cases {
        let result = captures(&mut connection, &[(table, section.clone())]).await;
        let found = match &result {
            Err(PlanError::Refused(refusal)) => Some(refusal),
            Err(error) => panic!("{table} {section}: {error}"),
            Ok(_) => None,
        };
        assert_eq!(found.map(|refusal| refusal.term), term, "{table} {section}: {found:?}");
    }
    let mut said = Vec::new();
    for (table, section) in
        [("no_pk_unique", json!({})), ("no_pk_bad_indexes", json!({"primary_key": ["a"]}))]
    {
        said.push(captures(&mut connection, &[(table, section)]).await.unwrap_err().to_string());
    }
    assert!(
        said[0].contains(r#"[capture.tables."public.no_pk_unique"] primary_key = ["a", "B c"]"#),
        "{}",
        said[0]
    );
    for flaw in [
        "npb_deferrable (c): deferrable, column-set mismatch",
        "npb_expr (): expression, column-set mismatch",
        "npb_include (d): column-set mismatch",
        "npb_nullable (b): nullable column, column-set mismatch",
        "npb_partial (a): partial",
    ] {
        assert!(said[1].contains(flaw), "{flaw}: {}", said[1]);
    }
    let twice = captures(&mut connection, &[("users", json!({})), ("public.users", json!({}))]).await;
    assert!(matches!(twice, Err(PlanError::Refused(refusal)) if refusal.term == "table_twice"));
    Ok(())
}
