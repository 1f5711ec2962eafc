//! What erasing leaves: in the place of a value, and beside it in the column `erased`.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::{StorageSchema, query::Statement};

/// What stands in place of a value that was erased.
pub const ERASED: &str = "[ERASED]";

/// What the id of an actor and the text of a key begin with where they were replaced; the id of the run follows.
const PSEUDONYM: &str = "erased-";

/// The table of runs.
pub(crate) const ERASURES: &str = "threadline_erasures";

/// Runs that are known, the newest ones.
const KNOWN_MAX: i64 = 100_000;

/// What a run calls whom or what it erases.
pub(crate) fn pseudonym(run: Uuid) -> String {
    format!("{PSEUDONYM}{run}")
}

/// What a row says of what was erased of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Marks {
    /// The last run that erased something of it.
    pub(crate) run: Uuid,
    /// By the columns of the timeline.
    pub(crate) columns: BTreeMap<String, Mark>,
}

/// What was erased of a column.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Mark {
    /// Of the text before the first erasure, in hexadecimal.
    pub(crate) sha256: String,
    /// Which members of its document; none where the whole value went.
    #[serde(default)]
    pub(crate) keys: Option<Vec<String>>,
}

impl Marks {
    /// How many columns have values that are known by their hashes alone.
    pub(crate) fn values(&self) -> u64 {
        self.columns.len() as u64
    }
}

/// The runs that there are.
#[derive(Debug, Default)]
pub(crate) struct KnownRuns(HashSet<Uuid>);

impl KnownRuns {
    /// All of them; none where there is no table for them.
    pub(crate) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<Self, sqlx::Error> {
        let mut there = Statement::new("select to_regclass(");
        there.bind(storage.table(ERASURES)).push(") is not null");
        if !there.query().fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
            return Ok(Self::default());
        }
        let mut statement = Statement::new(format!(
            "select r.id from {} r order by r.started_at desc limit ",
            storage.table(ERASURES)
        ));
        statement.bind(KNOWN_MAX);
        let rows = statement.fetch_all(connection).await?;
        Ok(Self(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
    }

    /// Whether a run is one of them.
    pub(crate) fn has(&self, run: Uuid) -> bool {
        self.0.contains(&run)
    }

    /// Whether a text is what one of them calls whom or what it erases.
    fn is_pseudonym(&self, text: &str) -> bool {
        text.strip_prefix(PSEUDONYM).and_then(|run| run.parse().ok()).is_some_and(|run| self.has(run))
    }

    /// Whether the text of a column is what erasing leaves of it: erasing again would change nothing of what was erased.
    pub(crate) fn leave(&self, column: &str, mark: &Mark, text: &str) -> bool {
        let Some(keys) = &mark.keys else { return self.leave_whole(column, text) };
        let Ok(Value::Object(document)) = serde_json::from_str(text) else { return false };
        let is_key = matches!(column, "table_pk" | "key_before");
        // No run says of a document that nothing of it went.
        !keys.is_empty()
            && keys.iter().all(|key| match document.get(key) {
                Some(Value::String(text)) if is_key => self.is_pseudonym(text),
                Some(Value::String(text)) => text == ERASED,
                _ => false,
            })
    }

    fn leave_whole(&self, column: &str, text: &str) -> bool {
        match column {
            "reason" | "comment" => text == ERASED,
            "actor_ref" => match serde_json::from_str(text) {
                Ok(Value::Object(actor)) => {
                    let id = actor.get("id").and_then(Value::as_str);
                    actor.len() == 2
                        && actor.contains_key("type")
                        && id.is_some_and(|id| self.is_pseudonym(id))
                }
                _ => false,
            },
            // A document that was no object.
            _ => serde_json::from_str::<String>(text).is_ok_and(|text| text == ERASED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_erasing_leaves_is_taken_for_it() {
        let run = Uuid::from_u128(7);
        let known = KnownRuns(HashSet::from([run]));
        let mark = |keys: Option<&[&str]>| Mark {
            sha256: String::new(),
            keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
        };
        let other = Uuid::from_u128(8);
        for (column, keys, text, expected) in [
            ("data_after", Some(&["email"][..]), r#"{"id": 1, "email": "[ERASED]"}"#.to_owned(), true),
            ("data_after", Some(&["email"]), r#"{"id": 1, "email": "a@b"}"#.to_owned(), false),
            ("data_after", Some(&["email", "name"]), r#"{"email": "[ERASED]"}"#.to_owned(), false),
            ("data_after", Some(&["email"]), "7".to_owned(), false),
            ("data_after", Some(&[]), r#"{"email": "[ERASED]"}"#.to_owned(), false),
            ("table_pk", Some(&[]), format!(r#"{{"id": "erased-{run}"}}"#), false),
            ("data_after", None, r#""[ERASED]""#.to_owned(), true),
            ("data_after", None, r#"{"email": "[ERASED]"}"#.to_owned(), false),
            ("table_pk", Some(&["id"]), format!(r#"{{"id": "erased-{run}"}}"#), true),
            ("table_pk", Some(&["id"]), format!(r#"{{"id": "erased-{other}"}}"#), false),
            ("table_pk", Some(&["id"]), r#"{"id": "[ERASED]"}"#.to_owned(), false),
            ("actor_ref", None, format!(r#"{{"id": "erased-{run}", "type": "user"}}"#), true),
            ("actor_ref", None, format!(r#"{{"id": "erased-{run}", "type": "user", "x": 1}}"#), false),
            ("actor_ref", None, r#"{"id": "u1", "type": "user"}"#.to_owned(), false),
            ("reason", None, "[ERASED]".to_owned(), true),
            ("comment", None, "fraud".to_owned(), false),
        ] {
            assert_eq!(known.leave(column, &mark(keys), &text), expected, "{column} {keys:?} {text}");
        }
    }
}
