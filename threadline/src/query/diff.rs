//! What a change changed, field by field.
//!
//! [`Diff`] is one document for all kinds of changes, in the form that the Elixir library of the same name gives it. Documents in it are
//! those that are stored: placeholders stay, nothing is read besides, and numbers keep their digits.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Change, Json, canonical, serialize};

/// What of a change is told beyond what the Elixir library tells of it unless asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// The columns of an inserted row.
    pub expand_inserts: bool,
    /// The columns of a deleted row, where it was stored. The library has no such option.
    pub expand_deletes: bool,
}

impl DiffOptions {
    /// Every field that is known, for people.
    #[must_use]
    pub fn expanded() -> Self {
        Self { expand_inserts: true, expand_deletes: true }
    }
}

/// What a change changed.
#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    /// Of this form: 1.
    pub schema_version: u8,
    /// Whether values before an update are known.
    pub before_values: BeforeValues,
    /// `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
    pub op: String,
    /// Of the change.
    pub id: Uuid,
    /// The transaction that it is part of.
    pub transaction_id: Uuid,
    /// The schema of the table.
    pub table_schema: String,
    /// The table.
    pub table_name: String,
    /// The key of the row; `{}` where it is not known.
    pub table_pk: Json,
    /// When.
    #[serde(serialize_with = "serialize::time")]
    pub captured_at: OffsetDateTime,
    /// The row after it.
    pub data_after: Option<Json>,
    /// Each once, in the order of the bytes of their names.
    pub field_changes: Vec<FieldChange>,
}

/// Whether values before an update are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BeforeValues {
    /// None was stored.
    None,
    /// Those of fields that it changed.
    Sparse,
}

/// What became of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// An update gave it another value.
    Changed,
    /// It came with the row.
    Set,
    /// It went with the row.
    Removed,
}

/// One field of a change.
///
/// As JSON it has `name`; `after`, unless it was removed; `before` where that is known, or `"prior_state": "omitted"` where others of the
/// same change are; and `"kind"`, `set` or `removed`, where no update changed it. Where a column of type json or jsonb is null in SQL it
/// has `"after_is_sql_null": true`, of a deleted row `"before_is_sql_null": true`: without these, a null of such a column is JSON's.
/// Which of the two an update has replaced is not stored.
#[derive(Debug, Clone)]
pub struct FieldChange {
    /// The name of the column.
    pub name: String,
    /// What became of it.
    pub kind: FieldKind,
    /// Its value before, where it is known.
    pub before: Option<Json>,
    /// Its value after; none where it has none.
    pub after: Option<Json>,
    /// The change has values before it, but not this one.
    pub before_is_omitted: bool,
    /// The document before was null in SQL.
    pub before_is_sql_null: bool,
    /// The document after is null in SQL.
    pub after_is_sql_null: bool,
}

/// A change as a flat map with the keys of an export.
#[derive(Debug, Clone, Serialize)]
pub struct CompatibleChange<'c> {
    id: Uuid,
    transaction_id: Uuid,
    table_schema: &'c str,
    table_name: &'c str,
    op: &'c str,
    #[serde(serialize_with = "serialize::time")]
    captured_at: OffsetDateTime,
    table_pk: &'c RawValue,
    data_after: Option<&'c RawValue>,
    changed_fields: &'c [String],
    changed_from: Json,
}

impl Diff {
    /// Of a change, as the library tells it.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        Self::with(change, DiffOptions::default())
    }

    /// Of a change, with more than that.
    #[must_use]
    pub fn with(change: &Change, options: DiffOptions) -> Self {
        let field_changes = match change.op.as_str() {
            "update" => updated(change),
            "insert" if options.expand_inserts => inserted(change),
            "delete" if options.expand_deletes => deleted(change),
            _ => Vec::new(),
        };
        let is_sparse = change.op == "update" && change.changed_from.is_some();
        Self {
            schema_version: 1,
            before_values: if is_sparse { BeforeValues::Sparse } else { BeforeValues::None },
            op: change.op.to_ascii_uppercase(),
            id: change.id,
            transaction_id: change.transaction_id,
            table_schema: change.table_schema.clone(),
            table_name: change.table_name.clone(),
            table_pk: change.table_pk.clone(),
            captured_at: change.captured_at,
            data_after: change.data_after.clone(),
            field_changes,
        }
    }

    /// The change as a flat map: what the library calls the format `export_compat`.
    #[must_use]
    pub fn export_compat(change: &Change) -> CompatibleChange<'_> {
        CompatibleChange {
            id: change.id,
            transaction_id: change.transaction_id,
            table_schema: &change.table_schema,
            table_name: &change.table_name,
            op: &change.op,
            captured_at: change.captured_at,
            table_pk: &change.table_pk,
            data_after: change.data_after.as_deref(),
            changed_fields: change.changed_fields.as_deref().unwrap_or_default(),
            changed_from: change.changed_from.clone().unwrap_or_else(empty),
        }
    }
}

/// `{}`.
fn empty() -> Json {
    RawValue::from_string("{}".to_owned()).unwrap_or_default()
}

fn updated(change: &Change) -> Vec<FieldChange> {
    let mut after = change.data_after.as_deref().map(canonical::members).unwrap_or_default();
    let mut before = change.changed_from.as_deref().map(canonical::members);
    let mut names = Vec::from(change.changed_fields.clone().unwrap_or_default());
    names.sort();
    names.dedup();
    let field = |name: String| {
        let value = before.as_mut().map(|before| before.remove(&name));
        FieldChange {
            after: after.remove(&name),
            before_is_omitted: matches!(value, Some(None)),
            before: value.flatten(),
            after_is_sql_null: is_sql_null(change, &name),
            ..FieldChange::of(name, FieldKind::Changed)
        }
    };
    names.into_iter().map(field).collect()
}

fn inserted(change: &Change) -> Vec<FieldChange> {
    let image = change.data_after.as_deref().map(canonical::members).unwrap_or_default();
    let field = |(name, value)| FieldChange {
        after: Some(value),
        after_is_sql_null: is_sql_null(change, &name),
        ..FieldChange::of(name, FieldKind::Set)
    };
    image.into_iter().map(field).collect()
}

fn deleted(change: &Change) -> Vec<FieldChange> {
    let image = change.data_before.as_deref().map(canonical::members).unwrap_or_default();
    let field = |(name, value)| FieldChange {
        before: Some(value),
        before_is_sql_null: is_sql_null(change, &name),
        ..FieldChange::of(name, FieldKind::Removed)
    };
    image.into_iter().map(field).collect()
}

fn is_sql_null(change: &Change, name: &String) -> bool {
    change.json_nulls.as_ref().is_some_and(|names| names.contains(name))
}

impl FieldChange {
    fn of(name: String, kind: FieldKind) -> Self {
        Self {
            name,
            kind,
            before: None,
            after: None,
            before_is_omitted: false,
            before_is_sql_null: false,
            after_is_sql_null: false,
        }
    }
}

impl Serialize for FieldChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        if let Some(before) = &self.before {
            map.serialize_entry("before", before)?;
        }
        if self.before_is_omitted {
            map.serialize_entry("prior_state", "omitted")?;
        }
        if self.kind != FieldKind::Removed {
            map.serialize_entry("after", &self.after)?;
        }
        match self.kind {
            FieldKind::Changed => {}
            FieldKind::Set => map.serialize_entry("kind", "set")?,
            FieldKind::Removed => map.serialize_entry("kind", "removed")?,
        }
        for (key, is_null) in
            [("before_is_sql_null", self.before_is_sql_null), ("after_is_sql_null", self.after_is_sql_null)]
        {
            if is_null {
                map.serialize_entry(key, &true)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
