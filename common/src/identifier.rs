//! Names that reach SQL or the broker: validated once, quoted by construction.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// PostgreSQL cuts longer identifiers silently; we refuse them instead.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// JetStream durable names carry the id behind `forward-`; short enough for every limit downstream.
const FORWARDER_ID_BYTES_MAX: usize = 48;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Neither `table` nor `schema.table`, or a part is empty, too long or holds a NUL.
    #[error("{0:?} is not a table name: expected `table` or `schema.table`, each part 1 to 63 bytes")]
    Table(String),
    /// Not `[A-Za-z0-9_-]{1,48}`.
    #[error("{0:?} is not a forwarder id: expected 1 to 48 characters out of A-Z a-z 0-9 _ -")]
    ForwarderId(String),
}

/// A table of the source database, `schema.table`; the schema defaults to `public`.
///
/// Displays without quotes, for people; [`TableName::quoted`] is the form for SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    schema: String,
    table: String,
}

impl TableName {
    /// The schema part, unquoted.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table part, unquoted.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// `"schema"."table"`, safe to splice into a statement.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// Quotes one identifier for SQL: wrapped in double quotes, inner ones doubled.
#[must_use]
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

impl FromStr for TableName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        let sound =
            |part: &str| (1..=IDENTIFIER_BYTES_MAX).contains(&part.len()) && !part.contains(['.', '\0', '"']);
        if sound(schema) && sound(table) {
            Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
        } else {
            Err(NameError::Table(text.to_owned()))
        }
    }
}

impl TryFrom<String> for TableName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Names one configured forwarder everywhere: settings, messages, durables, failures, metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ForwarderId(String);

impl ForwarderId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ForwarderId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if (1..=FORWARDER_ID_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::ForwarderId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for ForwarderId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ForwarderId> for String {
    fn from(id: ForwarderId) -> Self {
        id.0
    }
}

impl fmt::Display for ForwarderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_without_schema_is_in_public() {
        let name: TableName = "audit_events".parse().expect("a plain name");
        assert_eq!(name.quoted(), r#""public"."audit_events""#);
        assert_eq!(name.to_string(), "public.audit_events");
    }

    #[test]
    fn mixed_case_and_spaces_survive_quoting() {
        let name: TableName = "Auth Data.Audit-Events".parse().expect("legal in PostgreSQL");
        assert_eq!(name.quoted(), r#""Auth Data"."Audit-Events""#);
    }

    #[test]
    fn names_that_cannot_be_meant_are_refused() {
        let long = "x".repeat(64);
        for text in ["", ".", "a.", ".a", "a.b.c", "a\0b", r#"a"b"#, &long] {
            assert!(text.parse::<TableName>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn forwarder_ids_keep_to_the_safe_alphabet() {
        for text in ["timeline", "a", "Siem_2-eu", &"x".repeat(48)] {
            assert!(text.parse::<ForwarderId>().is_ok(), "{text:?} was refused");
        }
        for text in ["", "a.b", "a b", "*", "ä", &"x".repeat(49)] {
            assert!(text.parse::<ForwarderId>().is_err(), "{text:?} was accepted");
        }
    }
}
