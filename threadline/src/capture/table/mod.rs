//! What the catalog says about a table, and whether it can be captured.

mod read;

use std::collections::BTreeMap;

use sqlx::FromRow;

use super::{
    names::HostTable,
    policy::{Level, Policy, key_redacted, refused},
    refusal::Refusal,
};

/// Types whose text form is the same in every session.
const KEY_TYPES: [&str; 9] = ["int2", "int4", "int8", "text", "varchar", "bpchar", "citext", "uuid", "date"];

/// A table as it is.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: HostTable,
    /// Its number, which a rename does not change.
    pub(crate) oid: i64,
    kind: TableKind,
    /// In order.
    columns: Vec<Column>,
    primary_key: Vec<String>,
    unique_indexes: Vec<UniqueIndex>,
    /// Of a partitioned table, all that hold rows.
    pub(crate) leaves: Vec<HostTable>,
}

#[derive(Debug, Clone, FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "answers of one statement")]
struct TableKind {
    kind: String,
    is_partition: bool,
    has_relatives: bool,
    is_unlogged: bool,
    has_capture: bool,
}

#[derive(Debug, Clone, FromRow)]
struct Column {
    name: String,
    /// As in SQL.
    type_name: String,
    /// Of what a domain is over, at last.
    base: String,
    is_enum: bool,
    /// Whether a cast of somebody's own decides how an image shows it.
    has_json_cast: bool,
    is_virtual: bool,
    number: i16,
    /// Columns that a generated one is computed from.
    computed_from: Vec<String>,
}

#[derive(Debug, Clone, FromRow)]
struct UniqueIndex {
    name: String,
    /// Key columns; an expression is none.
    columns: Vec<String>,
    /// Why it identifies no row, in words.
    flaws: Vec<String>,
}

impl Table {
    /// The key by which a change names its row, in order.
    ///
    /// # Errors
    /// When the table cannot be captured under the policy: why, and what to do.
    pub fn check(&self, policy: &Policy) -> Result<Vec<String>, Refusal> {
        let name = &self.name;
        if !matches!(self.kind.kind.as_str(), "r" | "p") {
            return Err(refused(name, "not_a_table", "is no table: triggers see what is written to tables")
                .hint("capture what it is made from"));
        }
        if self.kind.is_partition {
            return Err(
                refused(name, "is_partition", "is a partition").hint("capture the table that it belongs to")
            );
        }
        policy.check(name)?;
        for column in policy.redacted().iter().chain(&policy.except) {
            if self.column(column).is_none() {
                return Err(refused(
                    name,
                    "column_unknown",
                    &format!("has no column {column}, which its policy names"),
                ));
            }
        }
        for path in &policy.paths {
            if !self.is_document(&path[0]) {
                let reason = format!(
                    "the column {} of the path {} is of no type json or jsonb",
                    path[0],
                    path.join(".")
                );
                return Err(refused(name, "path_invalid", &reason).hint("mask hides a whole column"));
            }
        }
        self.check_generated(policy)?;
        let key = self.key(&policy.primary_key)?;
        let uses = [
            ("exclude", &policy.exclude),
            ("mask", &policy.mask),
            ("hash", &policy.hash),
            ("except", &policy.except),
        ];
        for column in &key {
            if let Some((option, _)) = uses.iter().find(|(_, columns)| columns.contains(column)) {
                return Err(key_redacted(name, column, option));
            }
        }
        self.check_level(policy)?;
        Ok(key)
    }

    /// What is computed from a secret would reveal it.
    fn check_generated(&self, policy: &Policy) -> Result<(), Refusal> {
        let redacted = policy.redacted();
        let telling = self.columns.iter().find(|column| {
            !column.is_virtual
                && !redacted.contains(&column.name)
                && column.computed_from.iter().any(|from| redacted.contains(from))
        });
        telling.map_or(Ok(()), |column| {
            let reason =
                format!("the column {} is computed from {}", column.name, column.computed_from.join(", "));
            Err(refused(&self.name, "computed_from_redacted", &reason).hint("redact it too"))
        })
    }

    fn check_level(&self, policy: &Policy) -> Result<(), Refusal> {
        match self.blind_spot() {
            Some(why) if policy.level == Some(Level::Statement) => {
                let reason = format!("triggers of statement level would miss changes: {why}");
                Err(refused(&self.name, "statement_level_impossible", &reason).hint("level = \"row\""))
            }
            _ => Ok(()),
        }
    }

    /// The level that the policy requests, or the best for the table.
    #[must_use]
    pub fn level(&self, policy: &Policy) -> Level {
        let best = if self.blind_spot().is_some() { Level::Row } else { Level::Statement };
        policy.level.unwrap_or(best)
    }

    /// Why triggers of statement level do not do for the table.
    #[must_use]
    pub fn blind_spot(&self) -> Option<&'static str> {
        if self.kind.kind == "p" {
            Some("they do not see what is written to its partitions directly")
        } else if self.kind.has_relatives {
            Some(
                "they do not see what is written through tables that it inherits from, or to those that inherit from it",
            )
        } else if self.columns.iter().any(|column| column.base == "json") {
            Some("a document of type json that jsonb cannot hold is put aside row by row")
        } else {
            None
        }
    }

    /// The primary key, or of a table without one the declared columns.
    pub(crate) fn key(&self, declared: &[String]) -> Result<Vec<String>, Refusal> {
        let name = &self.name;
        if !self.primary_key.is_empty() && !declared.is_empty() {
            let key = self.primary_key.join(", ");
            let reason = format!("has the primary key ({key}), and primary_key is for tables without one");
            return Err(
                refused(name, "primary_key_not_needed", &reason).hint("remove primary_key from its section")
            );
        }
        let key = if self.has_primary_key() { &self.primary_key[..] } else { declared };
        if key.is_empty() {
            return Err(self.without_key());
        }
        if let Some(missing) = key.iter().find(|column| self.column(column).is_none()) {
            let reason = format!("has no column {missing}, which primary_key names");
            return Err(refused(name, "primary_key_column_unknown", &reason));
        }
        if self.primary_key.is_empty() && !self.is_identified_by(key) {
            let flaws: Vec<String> = self.unique_indexes.iter().map(|index| index.describe(key)).collect();
            let flaws =
                if flaws.is_empty() { "there is no unique index".to_owned() } else { flaws.join("; ") };
            let reason = format!("no unique index says that ({}) names one row: {flaws}", key.join(", "));
            return Err(refused(name, "primary_key_without_index", &reason)
                .hint("create a unique index over exactly these columns, all of them not null"));
        }
        for column in key.iter().filter_map(|column| self.column(column)) {
            let is_stable =
                column.is_enum || column.base == "timestamp" || KEY_TYPES.contains(&column.base.as_str());
            if column.is_virtual || column.has_json_cast || !is_stable {
                let reason = format!(
                    "the key column {} is {}{}{}, which has no stable text form",
                    column.name,
                    if column.is_virtual { "virtual and " } else { "" },
                    column.type_name,
                    if column.has_json_cast { " with a cast to json" } else { "" }
                );
                return Err(refused(name, "primary_key_type", &reason).hint(
                    "keys are of smallint, integer, bigint, text, varchar, char, citext, uuid, date, timestamp without time zone, \
                     enums, and domains over these",
                ));
            }
        }
        Ok(key.to_vec())
    }

    fn without_key(&self) -> Refusal {
        let usable = self.unique_indexes.iter().find(|index| index.flaws.is_empty());
        let refusal = |found: &str| {
            let reason = format!("has no primary key, so it is unknown which row a change is of; {found}");
            refused(&self.name, "primary_key_missing", &reason)
        };
        match usable {
            Some(index) => {
                let columns: Vec<String> = index.columns.iter().map(|column| format!("{column:?}")).collect();
                let section =
                    format!("[capture.tables.\"{}\"] primary_key = [{}]", self.name, columns.join(", "));
                refusal(&format!("the unique index {} would do", index.name))
                    .hint(format!("in the settings: {section}"))
            }
            None => refusal("no unique index over columns that are not null would do")
                .hint("add a primary key, or such an index and primary_key = [\"column\"]"),
        }
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn is_document(&self, name: &str) -> bool {
        self.column(name).is_some_and(|column| matches!(column.base.as_str(), "json" | "jsonb"))
    }

    pub(crate) fn has_primary_key(&self) -> bool {
        !self.primary_key.is_empty()
    }

    /// Whether it has partitions.
    #[must_use]
    pub fn is_partitioned(&self) -> bool {
        self.kind.kind == "p"
    }

    /// Whether a crash empties it, which is not captured.
    #[must_use]
    pub fn is_unlogged(&self) -> bool {
        self.kind.is_unlogged
    }

    /// Whether a trigger of Threadline's, ours or the Elixir library's, is there already.
    #[must_use]
    pub fn has_capture(&self) -> bool {
        self.kind.has_capture
    }

    /// All columns that have values, in order.
    pub(super) fn column_names(&self) -> Vec<String> {
        self.columns.iter().filter(|column| !column.is_virtual).map(|column| column.name.clone()).collect()
    }

    pub(crate) fn virtual_columns(&self) -> Vec<String> {
        self.columns.iter().filter(|column| column.is_virtual).map(|column| column.name.clone()).collect()
    }

    /// Those of type json, which takes documents that jsonb does not.
    pub(super) fn json_columns(&self) -> Vec<String> {
        self.columns.iter().filter(|column| column.base == "json").map(|column| column.name.clone()).collect()
    }

    pub(super) fn document_columns(&self) -> Vec<String> {
        self.columns
            .iter()
            .filter(|column| self.is_document(&column.name))
            .map(|column| column.name.clone())
            .collect()
    }

    /// All columns, with their numbers, which a rename does not change.
    pub(crate) fn numbers(&self) -> BTreeMap<String, i16> {
        self.columns.iter().map(|column| (column.name.clone(), column.number)).collect()
    }

    /// Names of its key columns, in order; nothing without a primary key.
    pub(crate) fn primary_key(&self) -> &[String] {
        &self.primary_key
    }

    /// Whether a unique index says that these columns name one row.
    pub(crate) fn is_identified_by(&self, key: &[String]) -> bool {
        self.unique_indexes.iter().any(|index| index.identifies(key))
    }
}

impl UniqueIndex {
    fn identifies(&self, key: &[String]) -> bool {
        self.flaws.is_empty() && self.is_over(key)
    }

    fn is_over(&self, key: &[String]) -> bool {
        self.columns.len() == key.len() && key.iter().all(|column| self.columns.contains(column))
    }

    fn describe(&self, key: &[String]) -> String {
        let mut flaws = self.flaws.clone();
        if !self.is_over(key) {
            flaws.push("column-set mismatch".to_owned());
        }
        format!("{} ({}): {}", self.name, self.columns.join(", "), flaws.join(", "))
    }
}
