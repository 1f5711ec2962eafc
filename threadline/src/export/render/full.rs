//! An entry with everything that is known of it: the entry of the library as it is serialised, with its documents in canonical form, or
//! a flat record.

use serde::Serialize;

use super::{Format, Renderer, ocsf, push_time};
use crate::export::ExportError;
use crate::query::{Action, Again, Entry, Json, Transaction, canonical::sorted};

pub(super) fn write(renderer: &mut Renderer, entry: &mut Entry, out: &mut String) -> Result<(), ExportError> {
    match renderer.options.format {
        Format::Csv => record(renderer, entry, out),
        Format::Json | Format::Ndjson => {
            out.push_str(&entry_line(entry)?);
        }
        Format::Ocsf => {
            documents(entry);
            ocsf::write(entry, out)?;
        }
        Format::Parquet => {
            documents(entry);
            if let Some(table) = &mut renderer.table {
                table.add(entry)?;
            }
        }
    }
    Ok(())
}

/// What was read again, as a line of NDJSON has it.
pub(crate) fn line(again: &mut Again) -> Result<String, serde_json::Error> {
    match again {
        Again::Entry(entry) => entry_line(entry),
        Again::Transaction(transaction) => transaction_line(transaction),
    }
}

fn entry_line(entry: &mut Entry) -> Result<String, serde_json::Error> {
    documents(entry);
    serde_json::to_string(entry)
}

/// A captured transaction that no change holds, as one object.
pub(super) fn transaction_line(transaction: &mut Transaction) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Line<'t> {
        kind: &'static str,
        #[serde(flatten)]
        transaction: &'t Transaction,
    }
    documents_of(transaction);
    serde_json::to_string(&Line { kind: "transaction", transaction })
}

fn sort(document: &mut Json) {
    *document = sorted(document);
}

fn sort_any(documents: &mut [&mut Option<Json>]) {
    documents.iter_mut().filter_map(|document| document.as_mut()).for_each(sort);
}

fn documents_of(transaction: &mut Transaction) {
    let Transaction { actor_ref, meta, context, .. } = transaction;
    sort_any(&mut [actor_ref, meta, context]);
}

/// Puts every document of the entry into canonical form.
fn documents(entry: &mut Entry) {
    fn of_transaction(transaction: &mut Option<Transaction>) {
        if let Some(transaction) = transaction {
            documents_of(transaction);
        }
    }
    match entry {
        Entry::Change(change) => {
            sort(&mut change.table_pk);
            sort_any(&mut [
                &mut change.key_before,
                &mut change.data_after,
                &mut change.data_before,
                &mut change.changed_from,
            ]);
            of_transaction(&mut change.transaction);
            if let Some(action) = &mut change.action {
                sort(&mut action.actor_ref);
            }
        }
        Entry::Action(linked) | Entry::Event(linked) => {
            sort(&mut linked.action.actor_ref);
            of_transaction(&mut linked.transaction);
        }
    }
}

/// A cell for each of the columns; empty where there is nothing.
fn record(renderer: &mut Renderer, entry: &Entry, out: &mut String) {
    out.push_str(entry.kind().as_str());
    renderer.next_cell(&entry.id().to_string(), out);
    out.push(',');
    push_time(entry.at(), out);
    if let Entry::Change(change) = entry {
        renderer.next_cell(&change.table_schema, out);
        renderer.next_cell(&change.table_name, out);
        optional(renderer, change.partition.as_deref(), out);
        renderer.next_document(change.table_pk.get(), out);
        document(renderer, change.key_before.as_ref(), out);
        renderer.next_cell(&change.op, out);
        document(renderer, change.data_after.as_ref(), out);
        document(renderer, change.data_before.as_ref(), out);
        names(renderer, change.changed_fields.as_ref(), out);
        document(renderer, change.changed_from.as_ref(), out);
        names(renderer, change.json_nulls.as_ref(), out);
        renderer.next_cell(&change.position.to_string(), out);
        renderer.next_cell(&change.transaction_id.to_string(), out);
        transaction(renderer, change.transaction.as_ref(), out);
        action(renderer, change.action.as_ref(), out);
    } else {
        out.push_str(&",".repeat(OF_CHANGE));
        let id = entry.transaction().map(|transaction| transaction.id.to_string());
        optional(renderer, id.as_deref(), out);
        transaction(renderer, entry.transaction(), out);
        if let Entry::Action(linked) | Entry::Event(linked) = entry {
            action(renderer, Some(&linked.action), out);
        }
    }
    names(renderer, if let Entry::Change(change) = entry { change.erased.as_ref() } else { None }, out);
}

/// Columns that changes alone have.
const OF_CHANGE: usize = 12;

/// Columns of a transaction besides its id.
const OF_TRANSACTION: usize = 9;

/// Columns of an action.
const OF_ACTION: usize = 12;

fn transaction(renderer: &mut Renderer, transaction: Option<&Transaction>, out: &mut String) {
    let Some(transaction) = transaction else { return out.push_str(&",".repeat(OF_TRANSACTION)) };
    renderer.next_cell(&transaction.txid.to_string(), out);
    out.push(',');
    push_time(transaction.occurred_at, out);
    document(renderer, transaction.actor_ref.as_ref(), out);
    for text in
        [&transaction.source, &transaction.correlation_id, &transaction.request_id, &transaction.job_id]
    {
        optional(renderer, text.as_deref(), out);
    }
    document(renderer, transaction.meta.as_ref(), out);
    document(renderer, transaction.context.as_ref(), out);
}

fn action(renderer: &mut Renderer, action: Option<&Action>, out: &mut String) {
    let Some(action) = action else { return out.push_str(&",".repeat(OF_ACTION)) };
    renderer.next_cell(&action.id.to_string(), out);
    renderer.next_cell(&action.name, out);
    renderer.next_document(action.actor_ref.get(), out);
    renderer.next_cell(&action.status, out);
    for text in [
        &action.verb,
        &action.category,
        &action.reason,
        &action.comment,
        &action.correlation_id,
        &action.request_id,
        &action.job_id,
    ] {
        optional(renderer, text.as_deref(), out);
    }
    out.push(',');
    push_time(action.inserted_at, out);
}

fn optional(renderer: &Renderer, text: Option<&str>, out: &mut String) {
    renderer.next_cell(text.unwrap_or_default(), out);
}

fn document(renderer: &mut Renderer, document: Option<&Json>, out: &mut String) {
    match document {
        Some(document) => renderer.next_document(document.get(), out),
        None => out.push(','),
    }
}

fn names(renderer: &Renderer, names: Option<&impl Serialize>, out: &mut String) {
    match names.map(serde_json::to_string) {
        Some(Ok(names)) => renderer.next_cell(&names, out),
        _ => out.push(','),
    }
}
