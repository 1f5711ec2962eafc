//! How audit rows are read, whatever the table has: which columns, in which order, and what makes of them an event.
//!
//! A few bytes on disk may be a gigabyte as text. So only what is needed is requested, and the server sends of a row that
//! is too large nothing but how large it is.

use std::panic::{UnwindSafe, catch_unwind};

use common::{
    event::{AuditEvent, TEXT_COLUMNS},
    identifier::{TableName, quote},
    outbox::capture::columns::{self, Columns},
    session::Session,
    time_arg::clamped,
};
use serde_json::value::RawValue;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::forwarder::ForwarderFactory;

/// Where [`RowQuery::select`] puts the times, behind the id.
const TIMES_FROM: usize = 1;

/// Where it puts the [texts](TEXT_COLUMNS).
const TEXTS_FROM: usize = TIMES_FROM + 2;

/// Where it puts how many bytes the texts take.
const SIZE_AT: usize = TEXTS_FROM + TEXT_COLUMNS.len();

/// The first place behind what it reads.
pub(crate) const REST_AT: usize = SIZE_AT + 1;

/// Most bytes that the texts of one row may take; more when a batch may take more.
const ROW_BYTES: usize = 16 << 20;

/// Up to so many bytes a `json` document is looked through here: the server refuses some that are valid.
const DOCUMENT_BYTES: usize = 1 << 20;

/// Why there is no event of a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The server cannot hand it over, or the driver cannot take it.
    #[error("the audit row cannot be read: {0}")]
    Broken(String),
    /// It took too much of the server, or made it fail or end the connection, which may be the server's own fault.
    #[error("the audit row cannot be read: {error}")]
    Unclear {
        /// The server's message.
        error: String,
        /// Whether another row could be read meanwhile: then an attempt is used.
        counts: bool,
    },
    /// Its columns would take too much memory.
    #[error(
        "the columns of the audit row that its forwarder reads take {bytes} bytes as text, more than a row may \
         ({limit}: 16 MiB, or consumer.batch_bytes where that is more)"
    )]
    TooLarge {
        /// So many.
        bytes: i64,
        /// Allowed.
        limit: usize,
    },
}

/// The types that times are read from.
const TIMES: [&str; 3] = ["timestamp without time zone", ZONED, "date"];
const ZONED: &str = "timestamp with time zone";

/// How the rows of one table are read.
#[derive(Debug, Clone)]
pub(crate) struct RowQuery {
    /// `id`, the two times, the texts and their size, of a row `e` with its [texts](Self::texts): columns stand in one order
    /// whatever the table has and the forwarder wants.
    pub(crate) select: String,
    /// The texts of a row `e`, made once for each: joined to whatever `e` is.
    pub(crate) texts: String,
    /// Those of the texts that the table has and the forwarder needs.
    pub(crate) read: Vec<&'static str>,
    /// Most bytes that the texts may take.
    limit: usize,
    /// When it happened, as an action's time: with it windows are cut.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) time: String,
    /// The statement for the oldest row's time, by that of its insert, which retention uses, where there is one.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) oldest: String,
    /// The statement for the time of the row that happened first.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) first: String,
    /// The table, quoted.
    pub(crate) table: String,
}

impl RowQuery {
    /// Reads the table's columns; of the texts only those that a forwarder needs are loaded. A row may take as much as
    /// a batch of `batch_bytes`, or [`ROW_BYTES`].
    ///
    /// # Errors
    /// When the server is away or the table is missing.
    pub(crate) async fn of(
        connection: &mut Session,
        table: &TableName,
        wanted: &dyn ForwarderFactory,
        batch_bytes: usize,
    ) -> Result<Self, sqlx::Error> {
        let columns = columns::of(connection, table).await?;
        let limit = batch_bytes.max(ROW_BYTES);
        // An older installation may lack some.
        let read: Vec<&'static str> = TEXT_COLUMNS
            .into_iter()
            .filter(|name| columns.contains_key(*name) && wanted.columns().contains(name))
            .collect();
        let texts = TEXT_COLUMNS.map(|name| {
            if read.contains(&name) {
                format!("case when x.size <= {limit} then x.{} end", quote(name))
            } else {
                "null::text".to_owned()
            }
        });
        for (name, kinds) in [("id", &["uuid"][..]), ("occurred_at", &TIMES)] {
            if !columns.get(name).is_some_and(|kind| kinds.contains(&kind.as_str())) {
                return Err(unreadable(table, name, kinds, columns.get(name)));
            }
        }
        let times = ["occurred_at", "inserted_at"].map(|name| {
            utc(&columns, name).map_or_else(|| "null::timestamptz".to_owned(), |utc| clamped(&utc))
        });
        let time = format!("coalesce({})", times.join(", "));
        let table_quoted = table.quoted();
        Ok(Self {
            select: format!("e.id, {}, {}, x.size", times.join(", "), texts.join(", ")),
            texts: text(&columns, &read, wanted.metadata_keys()),
            read,
            limit,
            oldest: oldest(&columns, table),
            first: format!("select min({time}) from {table_quoted} e"),
            time,
            table: table_quoted,
        })
    }
}

/// The columns `read` of a row `e` as text, with their size, as a join `x`. Each text is made once: `offset 0` keeps the
/// server from putting what makes it wherever it is used.
fn text(columns: &Columns, read: &[&str], keys: Option<&[&str]>) -> String {
    if read.is_empty() {
        return "cross join (select 0::int8 as size) x".to_owned();
    }
    let texts: Vec<String> = read
        .iter()
        .map(|name| {
            let made = match (*name, keys) {
                ("metadata", Some(keys)) => metadata(&columns[*name], keys),
                _ => format!("e.{}::text", quote(name)),
            };
            format!("{made} as {}", quote(name))
        })
        .collect();
    let size: Vec<String> =
        read.iter().map(|name| format!("coalesce(octet_length(t.{}), 0)::int8", quote(name))).collect();
    format!(
        "cross join lateral (select t.*, {} as size from (select {} offset 0) t offset 0) x",
        size.join(" + "),
        texts.join(", ")
    )
}

/// As much of the metadata as there is under `keys`: strings, at the top level of an object.
fn metadata(kind: &str, keys: &[&str]) -> String {
    let literal = |key: &&str| format!("'{}'", key.replace('\'', "''"));
    let parts = |of: &str| {
        let part = |key: &&str| {
            let key = literal(key);
            format!("{key}, case {of}_typeof(e.metadata -> {key}) when 'string' then e.metadata -> {key} end")
        };
        format!("{of}_build_object({})::text", keys.iter().map(part).collect::<Vec<_>>().join(", "))
    };
    match kind {
        "jsonb" => {
            let any = keys.iter().map(literal).collect::<Vec<_>>().join(", ");
            format!("case when e.metadata ?| array[{any}]::text[] then {} end", parts("jsonb"))
        }
        // As large as it is stored: it does not grow.
        "json" => format!(
            "case when octet_length(e.metadata::text) <= {DOCUMENT_BYTES} then e.metadata::text else {} end",
            parts("json")
        ),
        _ => "e.metadata::text".to_owned(),
    }
}

/// In the order of the column itself, which has an index where there is a clean-up.
fn oldest(columns: &Columns, table: &TableName) -> String {
    let name = if utc(columns, "inserted_at").is_some() { "inserted_at" } else { "occurred_at" };
    let at = clamped(&utc(columns, name).unwrap_or_default());
    let table = table.quoted();
    format!("select {at} from {table} e where e.{name} is not null order by e.{name} limit 1")
}

/// A column as `timestamptz`; `None` when it is not there, or no time: then it counts as not there.
fn utc(columns: &Columns, name: &str) -> Option<String> {
    let column = columns.get(name)?;
    let kind = TIMES.iter().find(|kind| *kind == column)?;
    // What has no zone is UTC by convention.
    Some(if *kind == ZONED { format!("e.{name}") } else { format!("e.{name}::timestamp at time zone 'UTC'") })
}

/// To read on without a column that `attach` insists on would deliver actions that are wrong.
fn unreadable(table: &TableName, name: &str, kinds: &[&str], found: Option<&String>) -> sqlx::Error {
    let found = found.map_or_else(|| "has none".to_owned(), |kind| format!("has one of type {kind}"));
    let message = format!(
        "{table} needs a column \"{name}\" of type {}, and {found}: give it back its name and type; `publisher doctor` \
         says more",
        kinds.join(" or ")
    );
    sqlx::Error::Configuration(message.into())
}

/// A row that cannot be read is a fault of that row: neither an outage nor the end of the worker. Drivers do panic on
/// values that they do not expect.
fn catch_decode_panic(
    read: impl FnOnce() -> Result<AuditEvent, sqlx::Error> + UnwindSafe,
) -> Result<AuditEvent, Unreadable> {
    match catch_unwind(read) {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(error)) => Err(Unreadable::Broken(errors::database(&error))),
        Err(_) => Err(Unreadable::Broken("the driver panicked".to_owned())),
    }
}

impl RowQuery {
    /// The event of a row that was read by [`RowQuery::select`].
    ///
    /// # Errors
    /// When the answer is another one.
    pub(crate) fn event(&self, row: &PgRow, id: Uuid) -> Result<Result<AuditEvent, Unreadable>, sqlx::Error> {
        let (bytes, limit) = (row.try_get(SIZE_AT)?, self.limit);
        let is_sent = self.fits(bytes);
        Ok(if is_sent {
            catch_decode_panic(|| event(row, id))
        } else {
            Err(Unreadable::TooLarge { bytes, limit })
        })
    }

    /// How many bytes of a row's texts were sent.
    ///
    /// # Errors
    /// When the answer is another one.
    pub(crate) fn sent(&self, row: &PgRow) -> Result<usize, sqlx::Error> {
        let bytes: i64 = row.try_get(SIZE_AT)?;
        Ok(if self.fits(bytes) { usize::try_from(bytes).unwrap_or_default() } else { 0 })
    }

    fn fits(&self, bytes: i64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| bytes <= self.limit)
    }
}

fn event(row: &PgRow, id: Uuid) -> Result<AuditEvent, sqlx::Error> {
    let mut places = TEXTS_FROM..;
    let mut text = || row.try_get::<Option<String>, _>(places.next().unwrap_or_default());
    let mut event = AuditEvent::default();
    event.id = id;
    event.occurred_at = row.try_get(TIMES_FROM)?;
    event.inserted_at = row.try_get(TIMES_FROM + 1)?;
    // In the order of the list.
    event.action = text()?;
    event.outcome = text()?;
    event.actor_id = text()?;
    event.actor_type = text()?;
    event.target_id = text()?;
    event.target_type = text()?;
    event.organization_id = text()?;
    event.effective_user_id = text()?;
    event.ip_address = text()?;
    event.user_agent = text()?;
    event.metadata = text()?.and_then(|text| RawValue::from_string(text).ok());
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_makes_the_driver_panic_is_a_fault_of_that_row() {
        let error = catch_decode_panic(|| panic!("year 10000")).expect_err("contained");
        assert!(error.to_string().contains("the driver panicked"), "{error}");
        let error = catch_decode_panic(|| Err(sqlx::Error::RowNotFound)).expect_err("contained");
        assert!(error.to_string().starts_with("the audit row cannot be read"), "{error}");
    }
}
