//! An entry as a row: a value or a null for each column, in the order of the profile full.

use time::OffsetDateTime;
use uuid::Uuid;

use super::column::Column;
use crate::query::{Action, Change, Entry, Json, Transaction};

/// The columns that have no value of this row.
struct Row<'c>(std::slice::IterMut<'c, Column>);

pub(super) fn add(entry: &Entry, columns: &mut [Column]) {
    let mut row = Row(columns.iter_mut());
    row.text(Some(entry.kind().as_str()));
    row.id(Some(entry.id()));
    row.time(Some(entry.at()));
    let (change, of_action) = match entry {
        Entry::Change(change) => (Some(&**change), change.action.as_ref()),
        Entry::Action(linked) | Entry::Event(linked) => (None, Some(&linked.action)),
    };
    row.change(change);
    // Of a change it is known without its transaction too.
    let of_entry = || entry.transaction().map(|transaction| transaction.id);
    row.id(change.map(|change| change.transaction_id).or_else(of_entry));
    row.transaction(entry.transaction());
    row.action(of_action);
    row.texts(change.and_then(|change| change.erased.as_deref()));
    debug_assert!(row.0.next().is_none(), "a column has no value");
}

impl Row<'_> {
    fn change(&mut self, change: Option<&Change>) {
        self.text(change.map(|change| &*change.table_schema));
        self.text(change.map(|change| &*change.table_name));
        self.text(change.and_then(|change| change.partition.as_deref()));
        self.document(change.map(|change| &change.table_pk));
        self.document(change.and_then(|change| change.key_before.as_ref()));
        self.text(change.map(|change| &*change.op));
        self.document(change.and_then(|change| change.data_after.as_ref()));
        self.document(change.and_then(|change| change.data_before.as_ref()));
        self.texts(change.and_then(|change| change.changed_fields.as_deref()));
        self.document(change.and_then(|change| change.changed_from.as_ref()));
        self.texts(change.and_then(|change| change.json_nulls.as_deref()));
        self.number(change.map(|change| change.position));
    }

    fn transaction(&mut self, of: Option<&Transaction>) {
        self.number(of.map(|transaction| transaction.txid));
        self.time(of.map(|transaction| transaction.occurred_at));
        self.document(of.and_then(|transaction| transaction.actor_ref.as_ref()));
        self.text(of.and_then(|transaction| transaction.source.as_deref()));
        self.text(of.and_then(|transaction| transaction.correlation_id.as_deref()));
        self.text(of.and_then(|transaction| transaction.request_id.as_deref()));
        self.text(of.and_then(|transaction| transaction.job_id.as_deref()));
        self.document(of.and_then(|transaction| transaction.meta.as_ref()));
        self.document(of.and_then(|transaction| transaction.context.as_ref()));
    }

    fn action(&mut self, action: Option<&Action>) {
        self.id(action.map(|action| action.id));
        self.text(action.map(|action| &*action.name));
        self.document(action.map(|action| &action.actor_ref));
        self.text(action.map(|action| &*action.status));
        self.text(action.and_then(|action| action.verb.as_deref()));
        self.text(action.and_then(|action| action.category.as_deref()));
        self.text(action.and_then(|action| action.reason.as_deref()));
        self.text(action.and_then(|action| action.comment.as_deref()));
        self.text(action.and_then(|action| action.correlation_id.as_deref()));
        self.text(action.and_then(|action| action.request_id.as_deref()));
        self.text(action.and_then(|action| action.job_id.as_deref()));
        self.time(action.map(|action| action.inserted_at));
    }

    fn next(&mut self, add: impl FnOnce(&mut Column)) {
        if let Some(column) = self.0.next() {
            add(column);
        }
    }

    fn text(&mut self, text: Option<&str>) {
        self.next(|column| column.text(text));
    }

    fn id(&mut self, id: Option<Uuid>) {
        let mut buffer = Uuid::encode_buffer();
        let text = id.map(|id| &*id.hyphenated().encode_lower(&mut buffer));
        self.text(text);
    }

    fn document(&mut self, document: Option<&Json>) {
        self.text(document.map(|document| document.get()));
    }

    fn texts(&mut self, texts: Option<&[String]>) {
        self.next(|column| column.texts(texts));
    }

    fn number(&mut self, number: Option<i64>) {
        self.next(|column| column.number(number));
    }

    /// Microseconds since the epoch; those of the years 1 to 9999 are numbers of 64 bits.
    fn time(&mut self, time: Option<OffsetDateTime>) {
        let microseconds =
            |time: OffsetDateTime| time.unix_timestamp() * 1_000_000 + i64::from(time.microsecond());
        self.number(time.map(microseconds));
    }
}
