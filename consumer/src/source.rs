//! Reloading audit rows by id, together with what is known of their failures. One documented function per statement.

use std::{
    collections::{HashMap, HashSet},
    panic::{UnwindSafe, catch_unwind},
};

use common::{
    database::Database,
    event::{AuditEvent, TEXTS},
    failures::{self, Earlier},
    identifier::{ForwarderId, TableName, quote},
};
use futures::TryStreamExt as _;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

/// Where [`statement`] puts the times, behind the id.
const TIMES_FROM: usize = 1;

/// Where it puts the [texts](TEXTS).
const TEXTS_FROM: usize = TIMES_FROM + 2;

/// Where it says whether anything has ever failed, the same in all rows.
const FAILURES_AT: usize = TEXTS_FROM + TEXTS.len();

/// A session with the source database. Made anew after an error, so that a changed table is seen.
#[derive(Debug)]
pub struct Source {
    connection: PgConnection,
    statement: String,
    /// How many rows the next statement asks for.
    rows: usize,
}

/// Most rows that one statement asks for.
const ROWS_MAX: usize = 10_000;

/// Some of the rows that were asked for. Those that are neither here nor absent are for the next call.
#[derive(Debug)]
pub struct Slice {
    /// Rows, with what is known of their failures.
    pub loaded: Vec<Loaded>,
    /// Ids without a row.
    pub absent: Vec<Uuid>,
}

/// One row with its past.
#[derive(Debug)]
pub struct Loaded {
    /// Its id.
    pub id: Uuid,
    /// The row, or why it cannot be read.
    pub event: Result<AuditEvent, String>,
    /// `None` when it never failed for this forwarder.
    pub earlier: Option<Earlier>,
}

impl Source {
    /// Connects and looks at the table's columns; of the texts only `wanted` ones are read.
    ///
    /// # Errors
    /// When the server is away or the table is missing.
    pub async fn connect(
        database: &Database,
        table: &TableName,
        wanted: &[&str],
    ) -> Result<Self, sqlx::Error> {
        let mut connection = database.connect().await?;
        let columns = columns(&mut connection, table).await?;
        Ok(Self { statement: statement(table, &columns, wanted), connection, rows: ROWS_MAX })
    }

    /// The connection, for statements about failures.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Reloads the first of these rows, as many as `bytes_max` allows. The answer of the server is always read to its end:
    /// what is left of one on the connection would hold up the next statement.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn load(
        &mut self,
        forwarder: &ForwarderId,
        ids: &[Uuid],
        bytes_max: usize,
    ) -> Result<Slice, sqlx::Error> {
        let asked = &ids[..ids.len().min(self.rows)];
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(self.statement.as_str()))
            .bind(asked)
            .bind(forwarder.as_str())
            .fetch(&mut self.connection);
        let mut loaded: Vec<Loaded> = Vec::new();
        let mut absent: HashSet<Uuid> = asked.iter().copied().collect();
        let mut weight = 0;
        let mut left = false;
        let mut failures = false;
        while let Some(row) = rows.try_next().await? {
            absent.remove(&row.try_get(0)?);
            if weight >= bytes_max {
                left = true;
                continue;
            }
            failures = row.try_get(FAILURES_AT)?;
            let id = row.try_get(0)?;
            let event = contained(|| event(&row, id));
            weight += event.as_ref().map_or(0, AuditEvent::weight);
            loaded.push(Loaded { id, event, earlier: None });
        }
        drop(rows);
        // Not joined: as a rule there are none, and a plan that was made for none would visit all for each row.
        if failures {
            let known = failures::earlier(&mut self.connection, forwarder, asked).await?;
            for row in &mut loaded {
                row.earlier = known.get(&row.id).copied();
            }
        }
        // Rows are about as large as their neighbours: so many as were taken, or twice as many if there was room.
        self.rows = if left { loaded.len() } else { self.rows.saturating_mul(2) }.clamp(1, ROWS_MAX);
        Ok(Slice { loaded, absent: absent.into_iter().collect() })
    }

    /// Whether this is a standby, where a row that is missing may merely be late.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn is_standby(&mut self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut self.connection).await
    }
}

/// Column names with their types.
async fn columns(
    connection: &mut PgConnection,
    table: &TableName,
) -> Result<HashMap<String, String>, sqlx::Error> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select attname::text, atttypid::regtype::text from pg_attribute
         where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
    )
    .bind(table.quoted())
    .fetch_all(connection)
    .await?;
    Ok(columns.into_iter().collect())
}

/// Columns stand in one order whatever the table has and the forwarder wants: they are read by their place.
fn statement(table: &TableName, columns: &HashMap<String, String>, wanted: &[&str]) -> String {
    let texts = TEXTS.map(|name| {
        // An older installation may lack some.
        let read = columns.contains_key(name) && wanted.contains(&name);
        if read { format!("e.{}::text", quote(name)) } else { "null::text".to_owned() }
    });
    // `timestamp` is UTC by convention. Clamped to what the driver can hold: `infinity` and the year 10000 are legal
    // in PostgreSQL and would make it panic.
    let times = ["occurred_at", "inserted_at"].map(|name| {
        let utc = match columns.get(name).map(String::as_str) {
            None => return "null::timestamptz".to_owned(),
            Some("timestamp without time zone") => format!("e.{name} at time zone 'UTC'"),
            Some(_) => format!("e.{name}"),
        };
        format!(
            "least(greatest({utc}, '0001-01-01 00:00:00+00'::timestamptz), \
             '9999-12-31 23:59:59.999999+00'::timestamptz)"
        )
    });
    format!(
        "select e.id, {}, {}, (select exists (select from outbox.failures f where f.forwarder = $2))
         from {} e
         where e.id = any ($1)",
        times.join(", "),
        texts.join(", "),
        table.quoted()
    )
}

/// A row that cannot be read is a fault of that row: neither an outage nor the end of the worker. Drivers do panic on
/// values that they do not expect.
fn contained(
    read: impl FnOnce() -> Result<AuditEvent, sqlx::Error> + UnwindSafe,
) -> Result<AuditEvent, String> {
    match catch_unwind(read) {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(error)) => Err(format!("the audit row cannot be read: {error}")),
        Err(_) => Err("the audit row cannot be read: the driver panicked".to_owned()),
    }
}

fn event(row: &PgRow, id: Uuid) -> Result<AuditEvent, sqlx::Error> {
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
