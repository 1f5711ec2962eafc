//! Lines of tabs: a header, then a line for each row, escaped as PostgreSQL's `copy` reads them. Columns keep their places.

use serde::Serialize;
use serde_json::value::RawValue;
use threadline::query::{Action, Change, Entry, Transaction, time_text};

use super::safe;

/// A column: its name, and its value of a row.
pub(in crate::cli) type Column<T> = (&'static str, fn(&T) -> Option<String>);

/// Lines of one kind of rows.
pub(in crate::cli) struct Tabs<T: 'static>(pub(in crate::cli) &'static [Column<T>]);

impl<T> Tabs<T> {
    /// The names of the columns.
    pub(in crate::cli) fn header(&self) -> String {
        self.0.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("\t") + "\n"
    }

    /// A row.
    pub(in crate::cli) fn line(&self, row: &T) -> String {
        let cell =
            |value: Option<String>| value.map_or_else(|| r"\N".to_owned(), |value| safe::copied(&value));
        self.0.iter().map(|(_, value)| cell(value(row))).collect::<Vec<_>>().join("\t") + "\n"
    }
}

/// The columns of entries.
pub(in crate::cli) fn entry_columns() -> Tabs<Entry> {
    Tabs(ENTRY)
}

const ENTRY: &[Column<Entry>] = &[
    ("kind", |e| Some(e.kind().as_str().to_owned())),
    ("id", |e| Some(e.id().to_string())),
    ("at", |e| Some(time_text(e.at()))),
    ("table_schema", |e| change(e).map(|c| c.table_schema.clone())),
    ("table_name", |e| change(e).map(|c| c.table_name.clone())),
    ("partition", |e| change(e)?.partition.clone()),
    ("table_pk", |e| change(e).map(|c| c.table_pk.get().to_owned())),
    ("key_before", |e| document(change(e)?.key_before.as_deref())),
    ("op", |e| change(e).map(|c| c.op.clone())),
    ("data_after", |e| document(change(e)?.data_after.as_deref())),
    ("data_before", |e| document(change(e)?.data_before.as_deref())),
    ("changed_fields", |e| names(change(e)?.changed_fields.as_ref())),
    ("changed_from", |e| document(change(e)?.changed_from.as_deref())),
    ("json_nulls", |e| names(change(e)?.json_nulls.as_ref())),
    ("position", |e| change(e).map(|c| c.position.to_string())),
    ("transaction_id", |e| transaction_id(e)),
    ("txid", |e| transaction(e).map(|t| t.txid.to_string())),
    ("occurred_at", |e| transaction(e).map(|t| time_text(t.occurred_at))),
    ("transaction_actor_ref", |e| document(transaction(e)?.actor_ref.as_deref())),
    ("source", |e| transaction(e)?.source.clone()),
    ("transaction_correlation_id", |e| transaction(e)?.correlation_id.clone()),
    ("transaction_request_id", |e| transaction(e)?.request_id.clone()),
    ("transaction_job_id", |e| transaction(e)?.job_id.clone()),
    ("meta", |e| document(transaction(e)?.meta.as_deref())),
    ("context", |e| document(transaction(e)?.context.as_deref())),
    ("action_id", |e| action(e).map(|a| a.id.to_string())),
    ("action_name", |e| action(e).map(|a| a.name.clone())),
    ("action_actor_ref", |e| action(e).map(|a| a.actor_ref.get().to_owned())),
    ("action_status", |e| action(e).map(|a| a.status.clone())),
    ("action_verb", |e| action(e)?.verb.clone()),
    ("action_category", |e| action(e)?.category.clone()),
    ("action_reason", |e| action(e)?.reason.clone()),
    ("action_comment", |e| action(e)?.comment.clone()),
    ("action_correlation_id", |e| action(e)?.correlation_id.clone()),
    ("action_request_id", |e| action(e)?.request_id.clone()),
    ("action_job_id", |e| action(e)?.job_id.clone()),
    ("action_inserted_at", |e| action(e).map(|a| time_text(a.inserted_at))),
];

fn change(entry: &Entry) -> Option<&Change> {
    if let Entry::Change(change) = entry { Some(change) } else { None }
}

fn transaction(entry: &Entry) -> Option<&Transaction> {
    entry.transaction()
}

/// Of a change it is known where the transaction has been removed, too.
fn transaction_id(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Change(change) => Some(change.transaction_id.to_string()),
        Entry::Action(linked) | Entry::Event(linked) => linked.transaction.as_ref().map(|t| t.id.to_string()),
    }
}

fn action(entry: &Entry) -> Option<&Action> {
    match entry {
        Entry::Change(change) => change.action.as_ref(),
        Entry::Action(linked) | Entry::Event(linked) => Some(&linked.action),
    }
}

/// A document as it is printed.
pub(in crate::cli) fn document(value: Option<&RawValue>) -> Option<String> {
    value.map(|value| value.get().to_owned())
}

/// As a JSON array.
pub(in crate::cli) fn names(names: Option<&impl Serialize>) -> Option<String> {
    names.and_then(|names| serde_json::to_string(names).ok())
}
