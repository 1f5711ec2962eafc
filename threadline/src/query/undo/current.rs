//! Rows as they are now, and whether the server would take values back as they were. Each is asked for all rows of a table at once; where
//! that fails, row by row, so that one that cannot be read is the only one that is refused.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};

use super::target::Target;
use crate::{
    capture::names::{literal, quote},
    query::{Json, canonical, statement::Statement},
};

/// What was asked of a row, and what the server said.
#[derive(Debug, Clone, Default)]
pub(super) enum Answer {
    /// There is no such row.
    #[default]
    Nothing,
    /// One row: its image, and which of its documents are null in SQL.
    One(Json, Vec<String>),
    /// The key is that of several rows.
    Several,
    /// What the server refuses to read.
    Unreadable,
}

/// Makes this transaction show values as triggers store them.
pub(super) async fn render_as_captured(snapshot: &mut PgConnection) -> Result<(), sqlx::Error> {
    let settings = RENDERING.map(|(name, value)| format!("set_config('{name}', '{value}', true)")).join(", ");
    Statement::new(format!("select {settings}")).query().execute(snapshot).await?;
    Ok(())
}

/// The settings of a session that change how values are shown.
pub(super) const RENDERING: [(&str, &str); 5] = [
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
];

/// Rows by their keys, which have these columns.
pub(super) async fn rows(
    snapshot: &mut PgConnection,
    target: &Target,
    key: &[String],
    keys: &[Json],
) -> Result<Vec<Answer>, sqlx::Error> {
    let row = alias(target, "this_row");
    let nulls: Vec<String> = (target.columns.values())
        .filter(|column| column.is_document)
        .map(|column| {
            format!("case when {row}.{} is null then {} end", quote(&column.name), literal(&column.name))
        })
        .collect();
    let text = format!(
        "pg_catalog.to_jsonb({row})::text, pg_catalog.array_remove(array[{}]::text[], null)",
        nulls.join(", ")
    );
    let joined = |keys: &[String]| {
        let mut statement = Statement::new(format!("select k.n, {text} from pg_catalog.unnest("));
        statement.bind(keys.to_vec()).push("::text[]) with ordinality k (key, n) join ");
        statement.push(&found(target, key, &row));
        statement
    };
    answers(snapshot, &keys.iter().map(|key| key.get().to_owned()).collect::<Vec<_>>(), joined).await
}

/// What columns would hold if they were given these values: each is the key of a row, and an object. Where there is no such row, it would
/// be one that has nothing else.
pub(super) async fn restored(
    snapshot: &mut PgConnection,
    target: &Target,
    key: &[String],
    rows: &[(Json, String)],
) -> Result<Vec<Answer>, sqlx::Error> {
    let (row, made) = (alias(target, "this_row"), alias(target, "made_row"));
    let pairs: Vec<String> = rows
        .iter()
        .map(|(key, document)| format!("{{\"key\": {}, \"document\": {document}}}", key.get()))
        .collect();
    let joined = |pairs: &[String]| {
        let mut statement = Statement::new(format!(
            "select k.n, pg_catalog.to_jsonb({made})::text, array[]::text[] from (select p.pair::jsonb -> 'key' as key,
                 p.pair::jsonb -> 'document' as document, p.n from pg_catalog.unnest("
        ));
        statement.bind(pairs.to_vec()).push("::text[]) with ordinality p (pair, n)) k left join ");
        statement
            .push(&found(target, key, &row))
            .push(&format!(" cross join lateral pg_catalog.jsonb_populate_record({row}, k.document) {made}"));
        statement
    };
    answers(snapshot, &pairs, joined).await
}

/// A name for the row of a table that is none of its columns'.
pub(super) fn alias(target: &Target, name: &str) -> String {
    let mut alias = name.to_owned();
    while target.columns.contains_key(&alias) {
        alias.push('_');
    }
    alias
}

/// The table, joined by the key in `k.key`.
fn found(target: &Target, key: &[String], row: &str) -> String {
    let equal: Vec<String> = key
        .iter()
        .filter_map(|name| target.columns.get(name))
        .map(|column| {
            let (name, text) = (quote(&column.name), literal(&column.name));
            format!("{row}.{name} = (k.key::jsonb ->> {text})::{}", column.type_name)
        })
        .collect();
    format!("{} {row} on {}", table(target), equal.join(" and "))
}

/// The table alone, without those that inherit from it; with its partitions.
pub(super) fn table(target: &Target) -> String {
    format!("{}{}", if target.is_partitioned { "" } else { "only " }, target.name.quoted())
}

async fn answers(
    snapshot: &mut PgConnection,
    asked: &[String],
    statement: impl Fn(&[String]) -> Statement,
) -> Result<Vec<Answer>, sqlx::Error> {
    let mut answers = vec![Answer::Nothing; asked.len()];
    if let Some(rows) = attempt(snapshot, &statement(asked)).await? {
        for row in &rows {
            let number = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or_default();
            if let Some(answer) = answers.get_mut(number) {
                answer.add(row)?;
            }
        }
        return Ok(answers);
    }
    for (one, answer) in asked.iter().zip(&mut answers) {
        match attempt(snapshot, &statement(std::slice::from_ref(one))).await? {
            Some(rows) => rows.iter().try_for_each(|row| answer.add(row))?,
            None => *answer = Answer::Unreadable,
        }
    }
    Ok(answers)
}

/// Classes of errors about data, constraints of domains, names and rights, depth, and what a type's own code raises.
const OF_THE_ROW: [&str; 5] = ["22", "23", "42", "54", "P0"];

/// Nothing where the server refuses: the transaction continues.
async fn attempt(
    snapshot: &mut PgConnection,
    statement: &Statement,
) -> Result<Option<Vec<PgRow>>, sqlx::Error> {
    let mut savepoint = snapshot.begin().await?;
    match statement.fetch_all(&mut savepoint).await {
        Ok(rows) => {
            savepoint.commit().await?;
            Ok(Some(rows))
        }
        // The values, the names or the rights of this one; anything else is about the server.
        Err(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| OF_THE_ROW.iter().any(|class| code.starts_with(class))) =>
        {
            savepoint.rollback().await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Answer {
    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let image: String = row.try_get(1)?;
        let image = RawValue::from_string(image).map_err(|error| sqlx::Error::Decode(error.into()))?;
        *self = match self {
            Self::Nothing => Self::One(image, row.try_get(2)?),
            _ => Self::Several,
        };
        Ok(())
    }

    /// The members of the one row's image.
    pub(super) fn members(&self) -> BTreeMap<String, Json> {
        match self {
            Self::One(image, _) => canonical::members(image),
            _ => BTreeMap::new(),
        }
    }
}
