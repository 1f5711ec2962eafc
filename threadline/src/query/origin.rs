//! Where an export reads from, and up to where it has come: what another one needs to go on.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{
    Cursor, Entry, Filter, Instant, Kind, ReadError, Statement, Window, library_row, place::Place,
    plan::Driver,
};

/// Where everything was read from: the same for a reading that goes on later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// The time of the database when it began, RFC 3339.
    pub(crate) started_at: String,
    /// As `pg_current_snapshot()` printed it.
    pub(crate) snapshot: String,
    /// A standby does not say which transactions are running: nobody can go on later.
    pub(crate) is_standby: bool,
    pub(crate) database: String,
    pub(crate) system_identifier: String,
    /// The filter with the columns of its key and with both ends of its window, as they were then.
    pub(crate) filter: Filter,
}

/// Up to where entries have been handed over: the place of the last one of each kind of stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(super) changes: Option<String>,
    pub(super) actions: Option<String>,
}

/// Where a transaction reads from. It never times out by itself from here on, and compiles nothing for one stretch.
pub(super) async fn origin(connection: &mut PgConnection, filter: &Filter) -> Result<Origin, ReadError> {
    let row = Statement::new(
        "select pg_current_snapshot()::text, pg_is_in_recovery(), current_database()::text,
                (select system_identifier::text from pg_control_system()), now(),
                (select count(set_config(name, case name when 'jit' then 'off' else '0' end, true)) from pg_settings
                 where name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout', 'jit'))",
    )
    .query()
    .fetch_one(connection)
    .await?;
    let started_at: OffsetDateTime = row.try_get(4)?;
    let (from, to) = filter.window.ends(started_at);
    let window = match filter.window {
        Window::Everything => Window::Everything,
        _ => Window::Between { from: from.map(Instant::new), to: to.map(Instant::new) },
    };
    Ok(Origin {
        started_at: super::time_text(started_at),
        snapshot: row.try_get(0)?,
        is_standby: row.try_get(1)?,
        database: row.try_get(2)?,
        system_identifier: row.try_get(3)?,
        filter: filter.clone().within(window),
    })
}

/// The name of the database, and the system identifier of its cluster.
pub(crate) async fn database(pool: &PgPool) -> Result<(String, String), sqlx::Error> {
    let statement =
        "select current_database()::text, (select system_identifier::text from pg_control_system())";
    let mut transaction = pool.begin().await?;
    let row = Statement::new(statement).query().fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Knows where entries of a reading end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(super) driver: Driver,
}

impl Ends {
    /// Moves a position behind rows that were handed over.
    pub(crate) fn pass_rows(rows: &[PgRow], position: &mut Position) -> Result<(), sqlx::Error> {
        if let Some(last) = rows.last() {
            position.changes = Some(library_row::cursor(last)?.to_string());
        }
        Ok(())
    }

    /// Moves a position behind entries that were handed over.
    pub(crate) fn pass_entries(self, entries: &[Entry], position: &mut Position) {
        let behind = |entry: &Entry| Cursor::new(&Place::of(entry, self.driver.unit())).to_string();
        let is_change = |entry: &&Entry| entry.kind() == Kind::Change;
        if let Some(last) = entries.iter().rev().find(is_change) {
            position.changes = Some(behind(last));
        }
        if let Some(last) = entries.iter().rev().find(|entry| !is_change(entry)) {
            position.actions = Some(behind(last));
        }
    }
}
