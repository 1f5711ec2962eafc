//! How audit rows are read, whatever the table has: which columns, in which order, and what makes of them an event.

use std::panic::{UnwindSafe, catch_unwind};

use common::{
    event::{AuditEvent, TEXTS},
    identifier::TableName,
    moment::clamped,
    outbox::columns::{self, Columns},
    session::Session,
};
use serde_json::value::RawValue;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

/// Where [`Reading::select`] puts the times, behind the id.
const TIMES_FROM: usize = 1;

/// Where it puts the [texts](TEXTS).
const TEXTS_FROM: usize = TIMES_FROM + 2;

/// The first place behind what it reads.
pub(crate) const REST_AT: usize = TEXTS_FROM + TEXTS.len();

/// The types that times are read from.
const TIMES: [&str; 3] = ["timestamp without time zone", ZONED, "date"];
const ZONED: &str = "timestamp with time zone";

/// How the rows of one table are read.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// `id`, the two times, and the texts, of a row `e`: columns stand in one order whatever the table has and the
    /// forwarder wants.
    pub(crate) select: String,
    /// When it happened, as an action's time: with it windows are cut.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) time: String,
    /// The statement for the oldest row's time, by that of its insert, which is what retention goes by, where there is one.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) oldest: String,
    /// The statement for the time of the row that happened first.
    #[cfg_attr(not(feature = "threadline"), expect(dead_code, reason = "there is nothing to compare with"))]
    pub(crate) first: String,
    /// The table, quoted.
    pub(crate) table: String,
}

impl Reading {
    /// Looks at the table's columns; of the texts only `wanted` ones are read.
    ///
    /// # Errors
    /// When the server is away or the table is missing.
    pub(crate) async fn of(
        connection: &mut Session,
        table: &TableName,
        wanted: &[&str],
    ) -> Result<Self, sqlx::Error> {
        let columns = columns::of(connection, table).await?;
        let texts = TEXTS.map(|name| {
            // An older installation may lack some.
            if wanted.contains(&name) { columns::text(&columns, "e", name) } else { "null::text".to_owned() }
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
            select: format!("e.id, {}, {}", times.join(", "), texts.join(", ")),
            oldest: oldest(&columns, table),
            first: format!("select min({time}) from {table_quoted} e"),
            time,
            table: table_quoted,
        })
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
pub(crate) fn contained(
    read: impl FnOnce() -> Result<AuditEvent, sqlx::Error> + UnwindSafe,
) -> Result<AuditEvent, String> {
    match catch_unwind(read) {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(error)) => Err(format!("the audit row cannot be read: {error}")),
        Err(_) => Err("the audit row cannot be read: the driver panicked".to_owned()),
    }
}

/// The event of a row that was read by [`Reading::select`].
pub(crate) fn event(row: &PgRow, id: Uuid) -> Result<AuditEvent, sqlx::Error> {
    let mut places = TEXTS_FROM..;
    let mut text = || row.try_get::<Option<String>, _>(places.next().unwrap_or_default());
    Ok(AuditEvent {
        id,
        occurred_at: row.try_get(TIMES_FROM)?,
        inserted_at: row.try_get(TIMES_FROM + 1)?,
        // In the order of the list.
        action: text()?,
        outcome: text()?,
        actor_id: text()?,
        actor_type: text()?,
        target_id: text()?,
        target_type: text()?,
        organization_id: text()?,
        effective_user_id: text()?,
        ip_address: text()?,
        user_agent: text()?,
        metadata: text()?.and_then(|text| RawValue::from_string(text).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_makes_the_driver_panic_is_a_fault_of_that_row() {
        let error = contained(|| panic!("year 10000")).expect_err("contained");
        assert!(error.contains("the driver panicked"), "{error}");
        let error = contained(|| Err(sqlx::Error::RowNotFound)).expect_err("contained");
        assert!(error.starts_with("the audit row cannot be read"), "{error}");
    }
}
