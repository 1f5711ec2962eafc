//! Names and values that would act on a terminal, or forge a line, where a command shows them.

use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use threadline::query::Filter;

use super::{Ended, threadline, timeline};

const HOSTILE: &str = include_str!("hostile.sql");
const TRANSACTION: &str = "b0000000-0000-4000-8000-000000000001";

/// What a terminal or a reader acts on, in any answer: line breaks are the commands' own.
fn acts(c: char) -> bool {
    let is_invisible = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e007f}');
    (c.is_control() && c != '\n') || is_invisible
}

fn assert_harmless(arguments: &[String], ended: &Ended, is_tabs: bool) {
    let tab = |c: char| is_tabs && c == '\t';
    for (name, text) in [("output", &ended.out), ("errors", &ended.error)] {
        let found: String = text.chars().filter(|c| acts(*c) && !(name == "output" && tab(*c))).collect();
        assert!(found.is_empty(), "{arguments:?}: {found:?} in its {name}: {text}");
        let forged = text.lines().find(|line| line.starts_with("forged"));
        assert!(forged.is_none(), "{arguments:?}: {text}");
    }
}

/// A name, as the database has it.
async fn stored(connection: &mut PgConnection, what: &str) -> anyhow::Result<String> {
    Ok(sqlx::query("select pg_temp.hostile($1)").bind(what).fetch_one(connection).await?.try_get(0)?)
}

fn finds(words: &[&str]) -> (bool, Vec<String>) {
    (true, words.iter().map(|word| (*word).to_owned()).collect())
}

fn misses(words: &[&str]) -> (bool, Vec<String>) {
    (false, finds(words).1)
}

/// Every command, and whether its arguments lead to the hostile row.
async fn commands(connection: &mut PgConnection) -> anyhow::Result<Vec<(bool, Vec<String>)>> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = format!(
        "{}.{}",
        quoted(&stored(connection, "schema").await?),
        quoted(&stored(connection, "table").await?)
    );
    let (key, value) = (stored(connection, "key").await?, stored(connection, "value").await?);
    let key = serde_json::json!({key: value}).to_string();
    Ok(vec![
        finds(&["timeline"]),
        finds(&["timeline", "--limit", "1"]),
        finds(&["timeline", "--by-transaction"]),
        finds(&["timeline", &Filter { table: Some(table.parse()?), ..Filter::default() }.to_string()]),
        finds(&["timeline", &format!("source:{}", stored(connection, "source").await?), "--limit", "1"]),
        misses(&["timeline", &format!("text:{}", stored(connection, "nowhere").await?)]),
        misses(&["timeline", &stored(connection, "unknown").await?]),
        finds(&["actions"]),
        finds(&["tail"]),
        finds(&["history", &table, &key]),
        misses(&["history", &table, &stored(connection, "elsewhere").await?]),
        finds(&["as-of", &table, &key, "--at", "2026-05-16"]),
        misses(&["as-of", &table, &key, "--at", "2026-05-14"]),
        finds(&["as-of", &table, "--at", "2026-05-16"]),
        finds(&["blame", &table, &key]),
        finds(&["actor", &format!("user:{}", stored(connection, "id").await?)]),
        finds(&["correlation", &stored(connection, "correlation").await?]),
        finds(&["transaction", TRANSACTION]),
        finds(&["incident", TRANSACTION]),
    ])
}

#[tokio::test]
async fn nothing_that_is_stored_acts_on_a_terminal_or_forges_a_line() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(HOSTILE).await?;
    for (finds, command) in commands(&mut connection).await? {
        for form in [&[][..], &["--json"], &["--tsv"], &["--explain"], &["--explain", "--json"]] {
            if form.contains(&"--explain") && command[0] == "tail" {
                continue;
            }
            let arguments: Vec<String> =
                command.iter().cloned().chain(form.iter().map(|word| (*word).to_owned())).collect();
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let ended = threadline(&database, &words)?;
            assert_harmless(&arguments, &ended, form.contains(&"--tsv"));
            if form.contains(&"--json") {
                for line in ended.out.lines() {
                    serde_json::from_str::<Value>(line)?;
                }
            }
            if finds && !form.contains(&"--explain") {
                let shows = ["\\u{1b}", "\\u001b", "\\x1b"].iter().any(|escaped| ended.out.contains(escaped));
                assert!(ended.status == Some(0) && shows, "{arguments:?}: {} {}", ended.out, ended.error);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn json_and_lines_of_tabs_hold_exactly_what_is_stored() -> anyhow::Result<()> {
    let (database, mut connection) = timeline(HOSTILE).await?;
    let ended = threadline(&database, &["timeline", "kind:change", "--json"])?;
    let change: Value = serde_json::from_str(&ended.out)?;
    for (pointer, what) in [
        ("/table_name", "table"),
        ("/partition", "partition"),
        ("/transaction/source", "source"),
        ("/transaction/actor_ref/id", "id"),
        ("/action/name", "name"),
        ("/action/reason", "reason"),
    ] {
        let stored = stored(&mut connection, what).await?;
        assert_eq!(change.pointer(pointer).and_then(Value::as_str), Some(stored.as_str()), "{pointer}");
    }
    // PostgreSQL reads the lines back.
    let ended = threadline(&database, &["timeline", "kind:change", "--tsv"])?;
    let (header, lines) = ended.out.split_once('\n').unwrap_or_default();
    let columns = header.split('\t').map(|name| format!("\"{name}\" text")).collect::<Vec<_>>().join(", ");
    sqlx::query(sqlx::AssertSqlSafe(format!("create temp table read ({columns})")))
        .execute(&mut connection)
        .await?;
    let mut copy = connection.copy_in_raw("copy read from stdin").await?;
    copy.send(lines.as_bytes()).await?;
    assert_eq!(copy.finish().await?, 1);
    let same: bool = sqlx::query_scalar(
        "select row(r.table_schema, r.table_name, r.partition, r.table_pk::jsonb, r.data_after::jsonb, r.changed_fields::jsonb, r.data_before)
                is not distinct from
                row(c.table_schema, c.table_name, c.partition, c.table_pk, c.data_after, to_jsonb(c.changed_fields), c.data_before::text)
         from read r, audit_changes c",
    )
    .fetch_one(&mut connection)
    .await?;
    assert!(same);
    Ok(())
}
