//! What an entry says, in few words.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use threadline::query::{Action, Change, Table, Transaction};

use super::time;

type Fields = BTreeMap<String, Box<RawValue>>;

/// Who: `admin:a1`, `anonymous`, or the document where it is no actor.
pub(in crate::cli::read) fn actor(actor: Option<&RawValue>) -> String {
    let Some(actor) = actor else { return String::new() };
    let fields: Fields = serde_json::from_str(actor.get()).unwrap_or_default();
    let text = |name: &str| fields.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
    match (text("type"), text("id")) {
        (Some(kind), Some(id)) if kind != "anonymous" => format!("{kind}:{id}"),
        (Some(kind), _) if kind == "anonymous" => kind,
        _ => actor.get().to_owned(),
    }
}

/// A table, as a filter takes it.
pub(in crate::cli::read) fn table_name(schema: &str, name: &str) -> String {
    Table { schema: Some(schema.to_owned()), name: name.to_owned() }.to_string()
}

/// The key of a row, as a filter and `threadline history` take it: the value alone where it has one column.
pub(in crate::cli::read) fn key(key: &RawValue) -> String {
    let columns: BTreeMap<String, String> = serde_json::from_str(key.get()).unwrap_or_default();
    match columns.values().next() {
        Some(value) if columns.len() == 1 && !value.starts_with(['{', '"']) => value.clone(),
        None if key.get() == "{}" => String::new(),
        _ => key.get().to_owned(),
    }
}

/// The key of the row of a change, and the one that it had before.
pub(super) fn key_of(change: &Change) -> String {
    match &change.key_before {
        Some(before) => format!("{} → {}", key(before), key(&change.table_pk)),
        None => key(&change.table_pk),
    }
}

/// What became of the row: the fields that an update changed, or the row that came or went. The columns of its key are left out, because
/// they are beside it.
pub(in crate::cli::read) fn what(change: &Change) -> String {
    let image = |document: Option<&Box<RawValue>>| -> Fields {
        document.and_then(|document| serde_json::from_str(document.get()).ok()).unwrap_or_default()
    };
    let after = image(change.data_after.as_ref());
    if change.op == "update" {
        let before = image(change.changed_from.as_ref());
        let field = |name: &String| {
            let value = |fields: &Fields| fields.get(name).map_or("?", |value| value.get()).to_owned();
            format!("{name}: {} → {}", value(&before), value(&after))
        };
        return change.changed_fields.iter().flatten().map(field).collect::<Vec<_>>().join(", ");
    }
    let key: BTreeMap<String, Box<RawValue>> = image(Some(&change.table_pk));
    let row = if change.op == "delete" { image(change.data_before.as_ref()) } else { after };
    let fields = row.iter().filter(|(name, _)| !key.contains_key(*name));
    fields.map(|(name, value)| format!("{name}: {}", value.get())).collect::<Vec<_>>().join(", ")
}

/// How an action ended, and why.
pub(super) fn outcome(action: &Action) -> String {
    let why = [&action.reason, &action.comment].into_iter().flatten().map(String::as_str);
    std::iter::once(action.status.as_str()).chain(why).collect::<Vec<_>>().join(": ")
}

/// A line about a transaction.
pub(in crate::cli::read) fn heading(transaction: &Transaction, action: Option<&Action>) -> String {
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
