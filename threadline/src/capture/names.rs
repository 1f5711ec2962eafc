//! Names of captured tables, and of the triggers, functions and migrations made for them. They are those of the Elixir library, so
//! that either finds what the other has made.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;
use crate::signing::hexadecimal;

/// PostgreSQL cuts longer identifiers silently.
pub(super) const BYTES_MAX: usize = 63;

/// What may follow a function's prefix of 27 bytes.
const FUNCTION_SUFFIX_MAX: usize = 36;

/// A table of the host's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostTable {
    /// Unquoted.
    pub schema: String,
    /// Unquoted.
    pub name: String,
}

impl HostTable {
    /// Both parts, quoted for SQL.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// What names are made of.
    fn suffix(&self) -> String {
        if self.schema == "public" { self.name.clone() } else { format!("{}_{}", self.schema, self.name) }
    }

    /// A trigger on the table.
    pub(crate) fn trigger(&self, prefix: TriggerPrefix) -> String {
        cut(&format!("{}{}", prefix.text(), self.suffix()), BYTES_MAX).to_owned()
    }

    /// A function that belongs to this table alone.
    pub(crate) fn function(&self, prefix: FunctionPrefix) -> String {
        let suffix = self.suffix();
        if self.schema == "public" && suffix.len() <= FUNCTION_SUFFIX_MAX && !looks_hashed(&suffix) {
            return format!("{}{suffix}", prefix.text());
        }
        format!("{}{}_{}", prefix.text(), cut(&suffix, 23), digest(&self.to_string()))
    }
}

impl fmt::Display for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl FromStr for HostTable {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = text.split('.').collect();
        let (schema, name) = match parts[..] {
            [name] => ("public", name),
            [schema, name] => (schema, name),
            _ => ("", ""),
        };
        for part in [schema, name] {
            let starts = part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let continues = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !starts || !continues || part.len() > BYTES_MAX {
                let reason = format!(
                    "{text:?} is no name of a table: expected NAME or SCHEMA.NAME, each of 1 to {BYTES_MAX} letters, digits and \
                     underscores, not starting with a digit"
                );
                return Err(Refusal::new("table_name_invalid", reason));
            }
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }
}

/// What a trigger's name begins with. The library recognises its own by the first, and is to see exactly one on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TriggerPrefix {
    Audit,
    Update,
    Delete,
    Truncate,
}

impl TriggerPrefix {
    pub(crate) const ALL: [Self; 4] = [Self::Audit, Self::Update, Self::Delete, Self::Truncate];

    fn text(self) -> &'static str {
        match self {
            Self::Audit => "threadline_audit_",
            Self::Update => "threadline_update_",
            Self::Delete => "threadline_delete_",
            Self::Truncate => "threadline_truncate_",
        }
    }
}

/// What a function's name begins with; all are of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionPrefix {
    Changes,
    Updates,
    Deletes,
}

impl FunctionPrefix {
    pub(crate) const ALL: [Self; 3] = [Self::Changes, Self::Updates, Self::Deletes];

    fn text(self) -> &'static str {
        match self {
            Self::Changes => "threadline_capture_changes_",
            Self::Updates => "threadline_capture_updates_",
            Self::Deletes => "threadline_capture_deletes_",
        }
    }
}

/// The name of the nth migration for the same tables, without its version.
#[must_use]
pub fn migration(tables: &[HostTable], ordinal: usize) -> String {
    let suffixes: Vec<String> = tables.iter().map(HostTable::suffix).collect();
    let stem = format!("threadline_triggers_{}", suffixes.join("_"));
    let ordinal = if ordinal > 1 { format!("_{ordinal}") } else { String::new() };
    if stem.len() + ordinal.len() <= BYTES_MAX {
        return format!("{stem}{ordinal}");
    }
    let mut sorted: Vec<String> = tables.iter().map(HostTable::to_string).collect();
    sorted.sort();
    let digest = digest(&sorted.join(","));
    let kept = BYTES_MAX - digest.len() - 1 - ordinal.len();
    format!("{}_{digest}{ordinal}", cut(&stem, kept))
}

/// An identifier for SQL.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string for SQL, whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        format!("E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

/// An array of strings for SQL.
pub(super) fn array<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| literal(name)).collect();
    if names.is_empty() {
        return "'{}'::pg_catalog.text[]".to_owned();
    }
    format!("array[{}]::pg_catalog.text[]", names.join(", "))
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn looks_hashed(suffix: &str) -> bool {
    suffix.len() >= 13 && suffix.is_char_boundary(suffix.len() - 13) && {
        let tail = &suffix[suffix.len() - 13..];
        tail.starts_with('_') && tail[1..].bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

fn digest(text: &str) -> String {
    hexadecimal(&Sha256::digest(text.as_bytes())[..6])
}
