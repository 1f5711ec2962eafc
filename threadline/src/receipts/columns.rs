//! What is sealed of a row: the columns of each table, in the order in which they are hashed. Columns that a table gains later are of a
//! later version of the format: these lists never change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which table a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A captured transaction.
    Transaction = 1,
    /// A change of a row.
    Change = 2,
    /// An action that a host recorded. What the pipeline projects has receipts of its own.
    Action = 3,
}

/// How a column becomes the text that is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A UUID, in lower case with hyphens.
    Id,
    /// An integer, in decimal.
    Integer,
    /// A time: microseconds since the year 2000 in UTC, in decimal; what is infinite is the largest and the smallest integer of 64 bits.
    Time,
    /// The text itself.
    Text,
    /// An array of texts, item by item.
    Texts,
    /// What may be about a person: it enters as the hash of its text, so that the hash can be kept where the value is erased.
    Erasable,
}

/// A column that is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) form: Form,
}

const fn column(name: &'static str, form: Form) -> Column {
    Column { name, form }
}

const TRANSACTION: [Column; 11] = [
    column("id", Form::Id),
    column("txid", Form::Integer),
    column("occurred_at", Form::Time),
    column("source", Form::Text),
    column("meta", Form::Erasable),
    column("actor_ref", Form::Erasable),
    column("action_id", Form::Id),
    column("correlation_id", Form::Text),
    column("request_id", Form::Text),
    column("job_id", Form::Text),
    column("context", Form::Erasable),
];

const CHANGE: [Column; 15] = [
    column("id", Form::Id),
    column("transaction_id", Form::Id),
    column("table_schema", Form::Text),
    column("table_name", Form::Text),
    column("table_pk", Form::Erasable),
    column("op", Form::Text),
    column("data_after", Form::Erasable),
    column("changed_fields", Form::Texts),
    column("changed_from", Form::Erasable),
    column("captured_at", Form::Time),
    column("key_before", Form::Erasable),
    column("data_before", Form::Erasable),
    column("partition", Form::Text),
    column("json_nulls", Form::Texts),
    column("position", Form::Integer),
];

const ACTION: [Column; 13] = [
    column("id", Form::Id),
    column("name", Form::Text),
    column("actor_ref", Form::Erasable),
    column("status", Form::Text),
    column("verb", Form::Text),
    column("category", Form::Text),
    column("reason", Form::Erasable),
    column("comment", Form::Erasable),
    column("correlation_id", Form::Text),
    column("request_id", Form::Text),
    column("job_id", Form::Text),
    column("inserted_at", Form::Time),
    column("txid", Form::Integer),
];

impl Kind {
    /// In the order of a receipt.
    pub(super) const ALL: [Self; 3] = [Self::Transaction, Self::Change, Self::Action];

    /// Its place among all of them.
    pub(super) fn place(self) -> usize {
        self as usize - 1
    }

    pub(super) fn of_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// As it is hashed and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Change => "change",
            Self::Action => "action",
        }
    }

    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Transaction => "audit_transactions",
            Self::Change => "audit_changes",
            Self::Action => "audit_actions",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Transaction => &TRANSACTION,
            Self::Change => &CHANGE,
            Self::Action => &ACTION,
        }
    }

    /// As every statement calls its row.
    pub(super) fn alias(self) -> &'static str {
        match self {
            Self::Transaction => "t",
            Self::Change => "c",
            Self::Action => "a",
        }
    }

    /// The columns for a `select`, and what was erased of the row; [`Row::read`](super::row::Row::read) takes them.
    pub(super) fn select(self) -> String {
        let alias = self.alias();
        let select = |column: &Column| {
            let name = column.name;
            match column.form {
                Form::Id | Form::Integer | Form::Time => format!("{alias}.{name}"),
                Form::Text | Form::Erasable => format!("{alias}.{name}::text"),
                Form::Texts => format!("to_json({alias}.{name})::text"),
            }
        };
        let columns = self.columns().iter().map(select).collect::<Vec<_>>().join(", ");
        format!("{columns}, {alias}.erased::text")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
