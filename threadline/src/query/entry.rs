//! A timeline entry is what stands in a timeline, as it is read. Nothing here is checked: a reader fails on no row that is stored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::{Row as _, postgres::PgRow};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{Kind, Names, serialize};

/// An entry of a timeline.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A change of a row.
    Change(Box<Change>),
    /// An action of a host's.
    Action(Box<LinkedAction>),
    /// An audit event that the pipeline has carried.
    Event(Box<LinkedAction>),
}

/// A JSON document as PostgreSQL prints it: every digit is there.
pub type Json = Box<RawValue>;

/// A captured change of a row, with its transaction and the action that is linked to it.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Primary key.
    pub id: Uuid,
    /// The transaction that it is part of.
    pub transaction_id: Uuid,
    /// The schema of the table.
    pub table_schema: String,
    /// The table.
    pub table_name: String,
    /// The partition that the row is in, `schema.name`.
    pub partition: Option<String>,
    /// The key of the row: the texts of its columns by their names. `{}` where it is not known.
    pub table_pk: Json,
    /// The key before an update that changed it.
    pub key_before: Option<Json>,
    /// `insert`, `update`, `delete` or `truncate`.
    pub op: String,
    /// The row after it; none after a delete.
    pub data_after: Option<Json>,
    /// The row before a delete.
    pub data_before: Option<Json>,
    /// The names of the columns that an update has changed, sorted.
    pub changed_fields: Option<Names>,
    /// The values of these columns before it.
    pub changed_from: Option<Json>,
    /// Columns of type `json` or `jsonb` that are null in SQL; all others that show `null` hold JSON's.
    pub json_nulls: Option<Names>,
    /// When, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub captured_at: OffsetDateTime,
    /// Grows with every change that is captured; within a transaction it is the order of capture.
    pub position: i64,
    /// Its transaction; none where somebody has removed it.
    pub transaction: Option<Transaction>,
    /// The action that its transaction is linked to.
    pub action: Option<Action>,
    /// The columns of which a value was erased, sorted; none of a change of which nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased: Option<Vec<String>>,
    /// `captured_at` as PostgreSQL prints it, where that is beyond the years 1 to 9999 or at one of their ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured_at_stored: Option<String>,
    /// `captured_at` as PostgreSQL prints it.
    #[serde(skip)]
    pub(super) captured_text: String,
}

/// A captured transaction.
#[derive(Debug, Clone, Serialize)]
pub struct Transaction {
    /// Primary key.
    pub id: Uuid,
    /// Its number in the cluster.
    pub txid: i64,
    /// When its first change was captured, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub occurred_at: OffsetDateTime,
    /// Who, as JSON.
    pub actor_ref: Option<Json>,
    /// What the host calls its source.
    pub source: Option<String>,
    /// What ties it to other transactions and actions.
    pub correlation_id: Option<String>,
    /// The HTTP request that it was part of.
    pub request_id: Option<String>,
    /// The background job that it was part of.
    pub job_id: Option<String>,
    /// What the host added at its end.
    pub meta: Option<Json>,
    /// Further keys of its context.
    pub context: Option<Json>,
    /// The action that it is linked to.
    pub action_id: Option<Uuid>,
    /// `occurred_at` as PostgreSQL prints it, where that is beyond the years 1 to 9999 or at one of their ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at_stored: Option<String>,
    /// `occurred_at` as PostgreSQL prints it.
    #[serde(skip)]
    pub(super) occurred_text: String,
}

/// A recorded action, or a projected audit event.
#[derive(Debug, Clone, Serialize)]
pub struct Action {
    /// Primary key; of an event, the event's.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Who, as JSON.
    pub actor_ref: Json,
    /// `ok` or `error`.
    pub status: String,
    /// What was done.
    pub verb: Option<String>,
    /// What it was done to.
    pub category: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Free text.
    pub comment: Option<String>,
    /// What ties it to other actions and changes; of an event, its own id.
    pub correlation_id: Option<String>,
    /// The HTTP request that it was part of.
    pub request_id: Option<String>,
    /// The background job that it was part of.
    pub job_id: Option<String>,
    /// When, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub inserted_at: OffsetDateTime,
    /// `inserted_at` as PostgreSQL prints it, where that is beyond the years 1 to 9999 or at one of their ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inserted_at_stored: Option<String>,
    /// `inserted_at` as PostgreSQL prints it.
    #[serde(skip)]
    pub(super) inserted_text: String,
}

/// An action, and the transaction that is linked to it.
#[derive(Debug, Clone, Serialize)]
pub struct LinkedAction {
    /// The action.
    #[serde(flatten)]
    pub action: Action,
    /// The transaction; none where the action stands by itself.
    pub transaction: Option<Transaction>,
}

impl Entry {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Change(_) => Kind::Change,
            Self::Action(_) => Kind::Action,
            Self::Event(_) => Kind::Event,
        }
    }

    /// Its primary key.
    #[must_use]
    pub fn id(&self) -> Uuid {
        match self {
            Self::Change(change) => change.id,
            Self::Action(linked) | Self::Event(linked) => linked.action.id,
        }
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> OffsetDateTime {
        match self {
            Self::Change(change) => change.captured_at,
            Self::Action(linked) | Self::Event(linked) => linked.action.inserted_at,
        }
    }

    /// The same as PostgreSQL prints it.
    pub(super) fn at_text(&self) -> &str {
        match self {
            Self::Change(change) => &change.captured_text,
            Self::Action(linked) | Self::Event(linked) => &linked.action.inserted_text,
        }
    }

    /// The transaction that it is part of.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        match self {
            Self::Change(change) => change.transaction.as_ref(),
            Self::Action(linked) | Self::Event(linked) => linked.transaction.as_ref(),
        }
    }
}

/// The ends of the years that a driver holds.
const FIRST: OffsetDateTime = datetime!(0001-01-01 00:00 UTC);
const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59.999999 UTC);

/// What PostgreSQL prints of a time, unless the time says as much.
fn stored(at: OffsetDateTime, text: &str) -> Option<String> {
    (at <= FIRST || at >= LAST).then(|| text.to_owned())
}

/// `infinity` and years beyond 9999 are legal in PostgreSQL and make a driver panic: clamped there.
macro_rules! clamped {
    ($column:literal) => {
        concat!("least(greatest(", $column, ", '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')")
    };
}

/// The same of any column; `greatest` leaves null out, which would be the year 1.
pub(crate) fn clamped_time(column: &str) -> String {
    format!(concat!("case when {0} is not null then ", clamped!("{0}"), " end"), column)
}
pub(crate) use clamped;

/// Of `audit_changes c`.
pub(super) const CHANGE: &str = concat!(
    "c.id, c.transaction_id, c.table_schema, c.table_name, c.partition, c.table_pk::text, c.key_before::text, c.op, \
     c.data_after::text, c.data_before::text, c.changed_fields, c.changed_from::text, c.json_nulls, ",
    clamped!("c.captured_at"),
    ", c.captured_at::text, c.position, c.erased::text"
);
const CHANGE_WIDTH: usize = 17;

/// Of `audit_transactions t`.
pub(super) const TRANSACTION: &str = concat!(
    "t.id, t.txid, ",
    clamped!("t.occurred_at"),
    ", t.occurred_at::text, t.actor_ref::text, t.source, t.correlation_id, t.request_id, t.job_id, t.meta::text, \
     t.context::text, t.action_id"
);
pub(super) const TRANSACTION_WIDTH: usize = 12;

/// Of `audit_actions a`.
pub(super) const ACTION: &str = concat!(
    "a.id, a.name, a.actor_ref::text, a.status, a.verb, a.category, a.reason, a.comment, a.correlation_id, a.request_id, a.job_id, ",
    clamped!("a.inserted_at"),
    ", a.inserted_at::text"
);
pub(super) const ACTION_WIDTH: usize = 13;

/// Of a change, its transaction and its action.
pub(super) const WIDTH: usize = CHANGE_WIDTH + TRANSACTION_WIDTH + ACTION_WIDTH;

/// A document of a column: what PostgreSQL prints is JSON.
pub(crate) fn json(row: &PgRow, index: usize) -> Result<Option<Json>, sqlx::Error> {
    let text: Option<String> = row.try_get(index)?;
    text.map(RawValue::from_string).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(crate) fn known<T>(value: Option<T>, what: &'static str) -> Result<T, sqlx::Error> {
    value.ok_or_else(|| sqlx::Error::Decode(format!("{what} is null").into()))
}

/// A row of [`CHANGE`], [`TRANSACTION`], [`ACTION`].
pub(super) fn change(row: &PgRow) -> Result<Change, sqlx::Error> {
    let transaction = CHANGE_WIDTH;
    let (captured_at, captured_text): (_, String) = (row.try_get(13)?, row.try_get(14)?);
    Ok(Change {
        id: row.try_get(0)?,
        transaction_id: row.try_get(1)?,
        table_schema: row.try_get(2)?,
        table_name: row.try_get(3)?,
        partition: row.try_get(4)?,
        table_pk: known(json(row, 5)?, "table_pk")?,
        key_before: json(row, 6)?,
        op: row.try_get(7)?,
        data_after: json(row, 8)?,
        data_before: json(row, 9)?,
        changed_fields: row.try_get(10)?,
        changed_from: json(row, 11)?,
        json_nulls: row.try_get(12)?,
        captured_at,
        captured_at_stored: stored(captured_at, &captured_text),
        captured_text,
        position: row.try_get(15)?,
        transaction: self::transaction(row, transaction)?,
        action: action(row, transaction + TRANSACTION_WIDTH)?,
        erased: row.try_get::<Option<&str>, _>(16)?.map(erased),
    })
}

/// The columns that a change says were erased: members of its images, or a column of the timeline where its whole value went. What says
/// something else names none.
fn erased(marks: &str) -> Vec<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Marks {
        columns: BTreeMap<String, Mark>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Mark {
        keys: Option<Vec<String>>,
    }
    let marks: Marks = serde_json::from_str(marks).unwrap_or_default();
    let names =
        marks.columns.into_iter().flat_map(|(column, mark)| mark.keys.unwrap_or_else(|| vec![column]));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A row of [`ACTION`], whether it is an event, [`TRANSACTION`].
pub(super) fn entry_of_action(row: &PgRow) -> Result<Entry, sqlx::Error> {
    let linked = Box::new(LinkedAction {
        action: known(action(row, 0)?, "the action")?,
        transaction: transaction(row, ACTION_WIDTH + 1)?,
    });
    let is_event: bool = row.try_get(ACTION_WIDTH)?;
    Ok(if is_event { Entry::Event(linked) } else { Entry::Action(linked) })
}

/// The transaction whose columns begin at `first`; none where they are null.
pub(super) fn transaction(row: &PgRow, first: usize) -> Result<Option<Transaction>, sqlx::Error> {
    let Some(id) = row.try_get(first)? else { return Ok(None) };
    let (occurred_at, occurred_text): (_, String) = (row.try_get(first + 2)?, row.try_get(first + 3)?);
    Ok(Some(Transaction {
        id,
        txid: row.try_get(first + 1)?,
        occurred_at,
        occurred_at_stored: stored(occurred_at, &occurred_text),
        occurred_text,
        actor_ref: json(row, first + 4)?,
        source: row.try_get(first + 5)?,
        correlation_id: row.try_get(first + 6)?,
        request_id: row.try_get(first + 7)?,
        job_id: row.try_get(first + 8)?,
        meta: json(row, first + 9)?,
        context: json(row, first + 10)?,
        action_id: row.try_get(first + 11)?,
    }))
}

/// The action whose columns begin at `first`; none where they are null.
pub(super) fn action(row: &PgRow, first: usize) -> Result<Option<Action>, sqlx::Error> {
    let Some(id) = row.try_get(first)? else { return Ok(None) };
    let (inserted_at, inserted_text): (_, String) = (row.try_get(first + 11)?, row.try_get(first + 12)?);
    Ok(Some(Action {
        id,
        name: row.try_get(first + 1)?,
        actor_ref: known(json(row, first + 2)?, "actor_ref")?,
        status: row.try_get(first + 3)?,
        verb: row.try_get(first + 4)?,
        category: row.try_get(first + 5)?,
        reason: row.try_get(first + 6)?,
        comment: row.try_get(first + 7)?,
        correlation_id: row.try_get(first + 8)?,
        request_id: row.try_get(first + 9)?,
        job_id: row.try_get(first + 10)?,
        inserted_at,
        inserted_at_stored: stored(inserted_at, &inserted_text),
        inserted_text,
    }))
}
