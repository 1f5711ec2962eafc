//! Which of the values that were stored can be put back.

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{image::Held, reason::Reason, target::Target};
use crate::query::Json;

/// What a policy without a placeholder of its own shows in place of a value.
const PLACEHOLDER: &str = "[REDACTED]";

/// What an image says of itself where it is none.
const CUT: [&str; 2] = ["threadline.too_large", "threadline.unreadable"];

/// A value that a column can be given.
#[derive(Debug, Clone)]
pub(super) enum Value {
    SqlNull,
    /// JSON's null, in a column of documents. A record cannot be filled with it.
    JsonNull,
    Document(Json),
}

impl Value {
    pub(super) fn of(document: &Json, is_sql_null: bool) -> Self {
        match (document.get(), is_sql_null) {
            ("null", true) => Self::SqlNull,
            ("null", false) => Self::JsonNull,
            _ => Self::Document(document.clone()),
        }
    }

    /// What is neither null.
    pub(super) fn document(&self) -> Option<&Json> {
        match self {
            Self::Document(document) => Some(document),
            Self::SqlNull | Self::JsonNull => None,
        }
    }

    /// How an image shows it; nothing for a null that a record cannot be filled with.
    pub(super) fn shown(&self) -> Option<&str> {
        match self {
            Self::SqlNull => Some("null"),
            Self::JsonNull => None,
            Self::Document(document) => Some(document.get()),
        }
    }
}

/// An object of these members, which are JSON.
pub(super) fn object<'m>(members: impl Iterator<Item = (&'m String, &'m str)>) -> Json {
    let members: Vec<String> = members
        .map(|(name, document)| format!("{}: {document}", serde_json::Value::from(name.as_str())))
        .collect();
    RawValue::from_string(format!("{{{}}}", members.join(", "))).unwrap_or_default()
}

pub(super) fn column_missing() -> Reason {
    Reason::new("column_missing", "the table has no such column any more: it was removed or renamed")
}

/// The value that a column is to get back: refused where it may not be what the row held.
pub(super) fn restorable(
    target: &Target,
    name: &str,
    held: Option<&Held>,
    captured_at: OffsetDateTime,
) -> Result<Value, Reason> {
    if target.hides(name) {
        return Err(Reason::new("redacted", "the policy redacts the column: its values are not stored"));
    }
    if CUT.contains(&name) && !target.columns.contains_key(name) {
        return Err(Reason::new("cut", "the row was too large, or could not be read, and was not stored"));
    }
    let column = target.columns.get(name).ok_or_else(column_missing)?;
    let Some(held) = held else {
        return Err(Reason::new("before_unknown", "the value before the change was not stored"));
    };
    let text = held.document.get();
    if shows_redaction(target, text) {
        return Err(Reason::new("redacted", "what is stored is a placeholder or a hash, or may be one"));
    }
    if text.starts_with("{\"threadline.too_large\"") {
        return Err(Reason::new("too_large", "the value was too large to be stored"));
    }
    // Where documents were masked by another policy, with another placeholder, nothing shows it.
    let is_older = target.policy_since.is_none_or(|since| captured_at < since);
    if is_older && text.starts_with(['{', '[']) && column.is_document {
        return Err(policy_newer());
    }
    if column.is_json && is_document_as_text(&held.document) {
        let reason = "it is stored as a text, which may be the document or one that jsonb could not hold";
        return Err(Reason::new("document_unclear", reason));
    }
    if text != "null" {
        return Ok(Value::Document(held.document.clone()));
    }
    match (column.is_document, held.is_sql_null, column.is_not_null) {
        (true, Some(false), _) | (true, None, true) => Ok(Value::JsonNull),
        (_, _, true) => Err(Reason::new("not_null", "it was null, which the column does not take any more")),
        (true, None, false) => {
            let reason = "it was null, and whether it was SQL's or JSON's is not stored; set the one that is right by hand";
            Err(Reason::new("null_unclear", reason))
        }
        _ => Ok(Value::SqlNull),
    }
}

pub(super) fn policy_newer() -> Reason {
    let reason = "the triggers of the table were made again since: what was redacted before is not known";
    Reason::new("policy_newer", reason)
}

/// Under this policy or under an earlier one.
fn shows_redaction(target: &Target, text: &str) -> bool {
    let placeholder = target.policy.as_ref().map_or(PLACEHOLDER, |policy| &policy.mask_placeholder);
    let shows = |placeholder: &str| text.contains(&serde_json::Value::from(placeholder).to_string());
    shows(PLACEHOLDER) || shows(placeholder) || text.contains("\"hmac:")
}

/// Whether it is a text that is JSON itself.
fn is_document_as_text(document: &Json) -> bool {
    serde_json::from_str::<String>(document.get())
        .is_ok_and(|text| serde_json::from_str::<&RawValue>(&text).is_ok())
}
