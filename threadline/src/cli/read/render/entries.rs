//! Entries for people.

use threadline::query::Entry;
use uuid::Uuid;

use super::{
    Table, safe, time, width,
    words::{actor, heading, key_of, outcome, table_name, what},
};

const HEADER: [&str; 7] = ["TIME", "OP", "TABLE", "KEY", "WHO", "ACTION", "WHAT"];

/// One row for each.
pub(in crate::cli) fn of_entries(entries: &[Entry]) -> String {
    table(entries, cells).text(width())
}

/// One by itself, without a header.
pub(in crate::cli) fn of_entry(entry: &Entry) -> String {
    let line = table(std::slice::from_ref(entry), cells).lines(width()).pop();
    line.unwrap_or_default() + "\n"
}

/// Changes of one transaction, without what all of them have in common.
pub(in crate::cli) fn of_transaction(entries: &[Entry]) -> String {
    table(entries, cells_below).text(width())
}

/// One row for each, with a line about each transaction above what it did.
pub(in crate::cli) fn by_transaction(entries: &[Entry]) -> String {
    let mut lines = table(entries, cells_below).lines(width()).into_iter();
    let mut text = lines.next().map_or_else(String::new, |header| header + "\n");
    let mut above: Option<Uuid> = None;
    for (entry, line) in entries.iter().zip(lines) {
        let unit = unit(entry);
        if above != Some(unit) {
            text += &(safe(&about(entry)) + "\n");
            above = Some(unit);
        }
        text += &(line + "\n");
    }
    text
}

/// What an entry is a part of: its transaction, the one that it is linked to, or itself.
fn unit(entry: &Entry) -> Uuid {
    match entry {
        Entry::Change(change) => change.transaction_id,
        Entry::Action(linked) | Entry::Event(linked) => {
            linked.transaction.as_ref().map_or(linked.action.id, |transaction| transaction.id)
        }
    }
}

/// A line about it.
fn about(entry: &Entry) -> String {
    match (entry, entry.transaction()) {
        (Entry::Change(change), Some(transaction)) => heading(transaction, change.action.as_ref()),
        (Entry::Change(change), None) => format!("transaction {}  removed", change.transaction_id),
        (Entry::Action(linked) | Entry::Event(linked), Some(transaction)) => {
            heading(transaction, Some(&linked.action))
        }
        (_, None) => format!("{} {}", entry.kind().as_str(), entry.id()),
    }
}

fn table(entries: &[Entry], cells: fn(&Entry) -> [String; 7]) -> Table {
    let mut table = Table::new(&HEADER);
    for entry in entries {
        table.push(cells(entry));
    }
    table
}

/// Below a line about the transaction, which says who and in which action.
fn cells_below(entry: &Entry) -> [String; 7] {
    let cells = cells(entry);
    if !matches!(entry, Entry::Change(_)) {
        return cells;
    }
    let [at, op, table, key, _, _, what] = cells;
    [at, op, table, key, String::new(), String::new(), what]
}

fn cells(entry: &Entry) -> [String; 7] {
    let at = time(entry.at());
    match entry {
        Entry::Change(change) => [
            at,
            change.op.clone(),
            table_name(&change.table_schema, &change.table_name),
            key_of(change),
            actor(change.transaction.as_ref().and_then(|transaction| transaction.actor_ref.as_deref())),
            change.action.as_ref().map(|action| action.name.clone()).unwrap_or_default(),
            what(change),
        ],
        Entry::Action(linked) | Entry::Event(linked) => [
            at,
            entry.kind().as_str().to_owned(),
            String::new(),
            String::new(),
            actor(Some(&linked.action.actor_ref)),
            linked.action.name.clone(),
            outcome(&linked.action),
        ],
    }
}
