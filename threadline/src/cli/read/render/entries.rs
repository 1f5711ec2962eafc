//! Entries for people.

use threadline::query::Entry;
use uuid::Uuid;

use super::{
    Table, safe, time, width,
    words::{actor, heading, key_of, outcome, table_name, what},
};

const HEADER: [&str; 7] = ["TIME", "OP", "TABLE", "KEY", "WHO", "WHAT", "ACTION"];

/// One row for each.
pub(in crate::cli::read) fn of_entries(entries: &[Entry]) -> String {
    table(entries).text(width())
}

/// The same, with a line about each transaction above what it did.
pub(in crate::cli::read) fn by_transaction(entries: &[Entry]) -> String {
    let mut lines = table(entries).lines(width()).into_iter();
    let mut text = lines.next().map_or_else(String::new, |header| header + "\n");
    let mut above: Option<Uuid> = None;
    for (entry, line) in entries.iter().zip(lines) {
        let unit = transaction_of(entry);
        if unit != above {
            let transaction = entry.transaction().filter(|_| unit.is_some());
            let action = if let Entry::Change(change) = entry { change.action.as_ref() } else { None };
            match (transaction, unit) {
                (Some(transaction), _) => text += &(safe(&heading(transaction, action)) + "\n"),
                (None, Some(id)) => text += &format!("transaction {id}\n"),
                (None, None) => text += "without a transaction\n",
            }
            above = unit;
        }
        text += &(line + "\n");
    }
    text
}

/// The transaction that a change is part of. An action stands alone, although it may be linked to one.
fn transaction_of(entry: &Entry) -> Option<Uuid> {
    match entry {
        Entry::Change(change) => Some(change.transaction_id),
        Entry::Action(_) | Entry::Event(_) => None,
    }
}

fn table(entries: &[Entry]) -> Table {
    let mut table = Table::new(&HEADER);
    for entry in entries {
        table.push(cells(entry));
    }
    table
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
            what(change),
            change.action.as_ref().map(|action| action.name.clone()).unwrap_or_default(),
        ],
        Entry::Action(linked) | Entry::Event(linked) => [
            at,
            entry.kind().as_str().to_owned(),
            String::new(),
            String::new(),
            actor(Some(&linked.action.actor_ref)),
            outcome(&linked.action),
            linked.action.name.clone(),
        ],
    }
}
