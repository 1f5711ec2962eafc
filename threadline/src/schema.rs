//! The storage schema: which PostgreSQL schema holds Threadline's tables.

use std::{fmt, str::FromStr};

/// PostgreSQL cuts longer identifiers silently.
const BYTES_MAX: usize = 63;

/// The columns of `audit_actions` that an action is written to, in the order of the table.
pub(crate) const ACTION_COLUMNS: [&str; 12] = [
    "id",
    "name",
    "actor_ref",
    "status",
    "verb",
    "category",
    "reason",
    "comment",
    "correlation_id",
    "request_id",
    "job_id",
    "inserted_at",
];

/// The trigger that records what a rebuild has to carry over, and its function.
pub(crate) const JOURNAL_TRIGGER: &str = "audit_actions_journal";

/// A validated schema name; `public` unless chosen otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorageSchema(String);

/// A table with the columns of `audit_actions`: that one, or one that is to take its place. Quoted for SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionTable(String);

impl ActionTable {
    /// The one that `table` of `schema` is.
    #[must_use]
    pub fn of(schema: &StorageSchema, table: &'static str) -> Self {
        Self(schema.table(table))
    }
}

impl fmt::Display for ActionTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not a storage schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a storage schema: expected 1 to 63 letters, digits and underscores, not starting with a digit"
)]
pub struct SchemaError(String);

impl StorageSchema {
    /// The name, unquoted.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The table of actions.
    #[must_use]
    pub fn actions(&self) -> ActionTable {
        ActionTable(self.table("audit_actions"))
    }

    /// `"schema"."table"` for SQL. `table` is one of our own constants.
    #[must_use]
    pub fn table(&self, table: &'static str) -> String {
        format!("\"{}\".\"{table}\"", self.0)
    }
}

impl Default for StorageSchema {
    fn default() -> Self {
        Self("public".to_owned())
    }
}

impl FromStr for StorageSchema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        let name = text.trim();
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let continues = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if starts && continues && name.len() <= BYTES_MAX {
            Ok(Self(name.to_owned()))
        } else {
            Err(SchemaError(text.to_owned()))
        }
    }
}

impl fmt::Display for StorageSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_storage_schemas() {
        for text in ["public", "_audit", "Audit2", " trimmed ", &"x".repeat(63)] {
            assert!(text.parse::<StorageSchema>().is_ok(), "{text:?} was refused");
        }
        for text in ["", "2audit", "a-b", "a.b", "a\"b", "ä", &"x".repeat(64)] {
            assert!(text.parse::<StorageSchema>().is_err(), "{text:?} was accepted");
        }
    }
}
