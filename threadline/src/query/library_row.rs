//! A change with what the Elixir library shows of it, borrowed from the row that the server sent: a million of them are read at a time.

use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Cursor,
    cursor::Point,
    entry::{ACTION, CHANGE, TRANSACTION, clamped, known},
};

/// What is read of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// Everything.
    Entry,
    /// What the Elixir library shows, and the linked action.
    Library,
    /// The same without the action, which then is not looked for.
    LibraryAlone,
}

impl Columns {
    /// Of `audit_changes c`, its transaction `t` and the action `a`.
    pub(super) fn of_change(self) -> String {
        match self {
            Self::Entry => format!("{CHANGE}, {TRANSACTION}, {ACTION}"),
            Self::Library => format!("{LIBRARY}, a.id, a.correlation_id"),
            Self::LibraryAlone => LIBRARY.to_owned(),
        }
    }
}

/// Of `audit_changes c` and `audit_transactions t`. The text of the time is there only where the time itself is clamped.
const LIBRARY: &str = concat!(
    "c.id, c.transaction_id, c.table_schema, c.table_name, c.op, ",
    clamped!("c.captured_at"),
    ", case when c.captured_at between '0002-01-02 00:00:00+00' and '9998-12-30 00:00:00+00' then null else c.captured_at::text end, \
     c.table_pk::text, c.data_after::text, to_json(c.changed_fields)::text, c.changed_from::text, t.id, ",
    clamped!("t.occurred_at"),
    ", t.actor_ref::text, t.source"
);

const LIBRARY_WIDTH: usize = 15;

/// A change. Documents are texts as PostgreSQL prints them.
#[derive(Debug)]
pub(crate) struct LibraryRow<'r> {
    pub(crate) id: Uuid,
    pub(crate) transaction_id: Uuid,
    pub(crate) table_schema: &'r str,
    pub(crate) table_name: &'r str,
    pub(crate) op: &'r str,
    pub(crate) captured_at: OffsetDateTime,
    pub(crate) table_pk: &'r str,
    pub(crate) data_after: Option<&'r str>,
    pub(crate) changed_fields: Option<&'r str>,
    pub(crate) changed_from: Option<&'r str>,
    /// None where somebody has removed it.
    pub(crate) transaction: Option<LibraryTransaction<'r>>,
    /// The id of the linked action, and its correlation id.
    pub(crate) action: Option<(Uuid, Option<&'r str>)>,
}

/// The transaction of a change.
#[derive(Debug)]
pub(crate) struct LibraryTransaction<'r> {
    pub(crate) id: Uuid,
    pub(crate) occurred_at: OffsetDateTime,
    pub(crate) actor_ref: Option<&'r str>,
    pub(crate) source: Option<&'r str>,
}

impl<'r> LibraryRow<'r> {
    /// A row of [`Columns::Library`] or [`Columns::LibraryAlone`].
    pub(crate) fn of(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let transaction = match row.try_get(11)? {
            Some(id) => Some(LibraryTransaction {
                id,
                occurred_at: row.try_get(12)?,
                actor_ref: row.try_get(13)?,
                source: row.try_get(14)?,
            }),
            None => None,
        };
        let action: Option<Uuid> = if row.len() > LIBRARY_WIDTH { row.try_get(LIBRARY_WIDTH)? } else { None };
        Ok(Self {
            id: row.try_get(0)?,
            transaction_id: row.try_get(1)?,
            table_schema: row.try_get(2)?,
            table_name: row.try_get(3)?,
            op: row.try_get(4)?,
            captured_at: row.try_get(5)?,
            table_pk: known(row.try_get(7)?, "table_pk")?,
            data_after: row.try_get(8)?,
            changed_fields: row.try_get(9)?,
            changed_from: row.try_get(10)?,
            transaction,
            action: match action {
                Some(id) => Some((id, row.try_get(LIBRARY_WIDTH + 1)?)),
                None => None,
            },
        })
    }
}

/// The place behind such a row.
pub(super) fn cursor(row: &PgRow) -> Result<Cursor, sqlx::Error> {
    let clamped: Option<&str> = row.try_get(6)?;
    let entry = Point::new(row.try_get(5)?, clamped.unwrap_or_default(), row.try_get(0)?);
    Ok(Cursor { unit: None, entry })
}
