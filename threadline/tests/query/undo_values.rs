//! Undo plans give back every kind of value.

use serde_json::json;
use sqlx::Executor as _;

use super::{
    Read, capture,
    undo::{capture_quoted, commit, rows},
};

/// Values that a type shows in ways of its own.
const TYPES: [(&str, &[&str]); 24] = [
    ("smallint", &["-32768", "0"]),
    ("bigint", &["9007199254740993", "-9223372036854775808"]),
    ("numeric", &["1.2300", "'NaN'", "123456789012345678901234567890.10", "0"]),
    ("numeric(10,2)", &["19.90", "-0.10"]),
    ("real", &["1.1", "'-Infinity'", "3.4e38"]),
    ("double precision", &["0.1::float8 + 0.2", "'NaN'", "5e-324", "1e300"]),
    ("boolean", &["true", "false"]),
    (
        "text",
        &[
            "''",
            "E'a ''quoted\\\\ \"one\" $undo$ \\n\\r -- ; '",
            "'ä\u{2028}\u{1f600}'",
            "'null'",
            "E'\\t\\x01'",
        ],
    ),
    ("varchar(10)", &["'vc '", "'\\'"]),
    ("char(5)", &["'ch'", "' '"]),
    ("bytea", &["'\\xdeadbeef'", "''"]),
    ("date", &["'infinity'", "'2026-01-31'", "'0044-03-15 BC'"]),
    ("timestamp", &["'-infinity'", "'2026-01-31 10:11:12.123456'"]),
    ("timestamptz", &["'infinity'", "'1800-01-01 00:00Z'", "'2026-07-01 12:00:00.5+02'"]),
    ("interval", &["'-1 mon'", "'1 day -02:03:04.5'", "'-1 year 2 mons -3 days'"]),
    ("timetz", &["'10:11:12+05:45'", "'24:00:00-12'"]),
    ("jsonb", &["'{\"a\": [1.10, null, \"\\\\\"], \"$undo$\": {}}'", "'\"text\"'", "'[]'", "'0'"]),
    ("int[]", &["'{}'", "'{{1,2},{3,null}}'"]),
    ("text[]", &["'{\"a,b\",NULL,\"\",\"NULL\",\"\\\"\"}'"]),
    ("uuid", &["'44444444-4444-4444-8444-444444444444'"]),
    ("inet", &["'10.0.0.1/24'", "'::1'"]),
    ("mood", &["'sad'", "'a \"quoted\" one'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,3)'"]),
    ("pair", &["row(1, 'x y')", "row(null, null)", "row(2, E'\\'\"')"]),
];

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// The values of a row. What an update replaces may be any null but that of a document.
    fn row(&mut self, id: usize) -> Vec<String> {
        let mut values = vec![id.to_string()];
        for (kind, literals) in TYPES {
            let number = self.below(literals.len() + usize::from(kind != "jsonb"));
            values.push(literals.get(number).map_or("null".to_owned(), |text| format!("({text})::{kind}")));
        }
        values
    }
}

fn columns() -> Vec<String> {
    let numbered = (0..TYPES.len()).map(|n| format!("\"c {n}\""));
    std::iter::once("\"Id\"".to_owned()).chain(numbered).collect()
}

#[tokio::test]
async fn rows_of_all_kinds_of_values_are_restored_whatever_the_session_is_set_to() -> anyhow::Result<()> {
    for level in ["row", "statement"] {
        let mut read = Read::after(
            "create type mood as enum ('sad', 'a \"quoted\" one'); create type pair as (n int, t text);
             create domain code as text not null default 'none'",
        )
        .await?;
        let kinds: Vec<String> =
            columns()[1..].iter().zip(TYPES).map(|(name, (kind, _))| format!("{name} {kind}")).collect();
        read.run(&format!(
            "create table \"All \"\"kinds\" (\"Id\" int primary key, {}, this_row code, number int generated always as identity,
                 doubled int generated always as (\"Id\" * 2) stored, empty jsonb, nothing jsonb default 'null')",
            kinds.join(", ")
        ))
        .await?;
        // Names that need quotes are given as those of a migration cannot be.
        capture_quoted(&mut read.connection, "All \"kinds", &json!({"level": level})).await?;
        let mut other = read.database.connect().await?;
        other
            .execute("set datestyle = 'German'; set timezone = 'Asia/Kathmandu'; set intervalstyle = 'sql_standard'; set bytea_output = 'escape'; set standard_conforming_strings = off")
            .await?;
        let mut random = Random(1);
        for round in 0..12 {
            let (values, set) = (random.row(round), random.row(round + 1_000));
            let assigned: Vec<String> =
                columns().iter().zip(&set).map(|(name, value)| format!("{name} = {value}")).collect();
            let table = "\"All \"\"kinds\"";
            for statement in [
                format!("insert into {table} ({}) values ({})", columns().join(", "), values.join(", ")),
                format!("update {table} set {}", assigned.join(", ")),
                format!("delete from {table}"),
            ] {
                let before = rows(&mut read.connection, table).await?;
                read.run(&statement).await?;
                let after = rows(&mut read.connection, table).await?;
                let plan = read.undo_newest().await?;
                assert!(plan.refused.is_empty(), "{statement}: {:?}", plan.refused);
                commit(&mut other, &plan).await?;
                assert_eq!(rows(&mut read.connection, table).await?, before, "{statement}");
                if after.is_empty() {
                    read.run(&format!("truncate {table}")).await?;
                } else if before.is_empty() {
                    let restored = read.undo_newest().await?;
                    commit(&mut other, &restored).await?;
                } else {
                    read.run(&statement).await?;
                }
                assert_eq!(rows(&mut read.connection, table).await?, after, "{statement}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_deleted_row_gets_back_the_nulls_that_it_had() -> anyhow::Result<()> {
    let mut read =
        Read::after("create table t (id int primary key, a jsonb, b jsonb, c json, d json)").await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    read.run("insert into t values (1, null, 'null', null, 'null')").await?;
    let before = rows(&mut read.connection, "t").await?;
    read.run("delete from t").await?;
    let plan = read.undo_newest().await?;
    assert!(plan.refused.is_empty(), "{plan:?}");
    commit(&mut read.connection, &plan).await?;
    assert_eq!(rows(&mut read.connection, "t").await?, before);
    Ok(())
}
