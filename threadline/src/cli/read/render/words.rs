//! What an entry says, in few words.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use threadline::query::{Action, Change, Table, Transaction};

use super::time;

type Fields = BTreeMap<String, Box<RawValue>>;

/// A value of a column, as it is shown to people: one that was erased is no text.
pub(in crate::cli) fn value(value: &str, column: &str, erased: Option<&[String]>) -> String {
    let is_erased = erased.is_some_and(|erased| erased.iter().any(|name| name == column));
    if is_erased && value == r#""[ERASED]""# { "[erased]" } else { value }.to_owned()
}

/// The columns of an image; none of what is no object.
pub(in crate::cli) fn fields(image: Option<&RawValue>) -> Fields {
    image.and_then(|image| serde_json::from_str(image.get()).ok()).unwrap_or_default()
}

/// An image in a line, without the columns of its key, which are beside it.
pub(in crate::cli) fn image(image: &RawValue, key: &BTreeMap<String, String>) -> String {
    image_of(image, key, None)
}

/// The same of a change of which these columns were erased.
fn image_of(image: &RawValue, key: &BTreeMap<String, String>, erased: Option<&[String]>) -> String {
    let fields = fields(Some(image)).into_iter().filter(|(name, _)| !key.contains_key(name));
    let shown = fields.map(|(name, held)| format!("{name}: {}", value(held.get(), &name, erased)));
    shown.collect::<Vec<_>>().join(", ")
}

/// Who: `admin:a1`, `anonymous`, or the document where it is no actor.
pub(in crate::cli) fn actor(actor: Option<&RawValue>) -> String {
    let Some(actor) = actor else { return String::new() };
    let fields: Fields = serde_json::from_str(actor.get()).unwrap_or_default();
    let text =
        |name: &str| fields.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    match (text("type"), text("id")) {
        (Some(kind), Some(id)) if kind != "anonymous" => format!("{kind}:{id}"),
        (Some(kind), _) if kind == "anonymous" => kind,
        _ => actor.get().to_owned(),
    }
}

/// A table, as a filter takes it.
pub(in crate::cli) fn table_name(schema: &str, name: &str) -> String {
    Table { schema: Some(schema.to_owned()), name: name.to_owned() }.to_string()
}

/// The key of a row, as a filter and `threadline history` take it: the value alone where it has one column.
pub(super) fn key(key: &RawValue) -> String {
    match serde_json::from_str(key.get()) {
        Ok(columns) => key_of_texts(&columns),
        Err(_) => key.get().to_owned(),
    }
}

/// The same of a key whose columns are known.
pub(in crate::cli) fn key_of_texts(key: &BTreeMap<String, String>) -> String {
    match key.values().next() {
        None => String::new(),
        Some(value) if key.len() == 1 && !value.starts_with(['{', '"']) => value.clone(),
        _ => serde_json::to_string(key).unwrap_or_default(),
    }
}

/// The key of the row of a change, and the one that it had before.
pub(super) fn key_of(change: &Change) -> String {
    match &change.key_before {
        Some(before) => format!("{} → {}", key(before), key(&change.table_pk)),
        None => key(&change.table_pk),
    }
}

/// A line about a change.
pub(in crate::cli) fn about(change: &Change) -> String {
    let table = table_name(&change.table_schema, &change.table_name);
    let id = format!("change {}", change.id);
    let parts = [time(change.captured_at), change.op.clone(), table, key_of(change), id];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// What became of the row: the fields that an update changed, or the row that came or went. The columns of its key are left out, because
/// they are beside it.
pub(in crate::cli) fn what(change: &Change) -> String {
    let (after, erased) = (change.data_after.as_deref(), change.erased.as_deref());
    if change.op == "update" {
        let (before, after) = (fields(change.changed_from.as_deref()), fields(after));
        let field = |name: &String| {
            let shown = |fields: &Fields| {
                fields.get(name).map_or_else(|| "?".to_owned(), |held| value(held.get(), name, erased))
            };
            format!("{name}: {} → {}", shown(&before), shown(&after))
        };
        return change
            .changed_fields
            .as_deref()
            .unwrap_or_default()
            .iter()
            .map(field)
            .collect::<Vec<_>>()
            .join(", ");
    }
    let row = if change.op == "delete" { change.data_before.as_deref() } else { after };
    let key = serde_json::from_str(change.table_pk.get()).unwrap_or_default();
    row.map(|row| image_of(row, &key, erased)).unwrap_or_default()
}

/// How an action ended, and why.
pub(in crate::cli) fn outcome(action: &Action) -> String {
    let why = [&action.reason, &action.comment].into_iter().flatten().map(String::as_str);
    std::iter::once(action.status.as_str()).chain(why).collect::<Vec<_>>().join(": ")
}

/// A line about a transaction.
pub(in crate::cli) fn heading(transaction: &Transaction, action: Option<&Action>) -> String {
    let parts = [
        ("", Some(time(transaction.occurred_at))),
        ("", Some(actor(transaction.actor_ref.as_deref())).filter(|who| !who.is_empty())),
        ("action ", action.map(|action| action.name.clone())),
        ("source ", transaction.source.clone()),
        ("correlation ", transaction.correlation_id.clone()),
        ("request ", transaction.request_id.clone()),
        ("job ", transaction.job_id.clone()),
    ];
    let said = parts.into_iter().filter_map(|(name, value)| value.map(|value| format!("  {name}{value}")));
    said.fold(format!("transaction {}", transaction.id), |line, part| line + &part)
}
