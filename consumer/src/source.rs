//! Reloading audit rows by id, together with what is known of their failures. One documented function per statement.

use std::collections::HashSet;

use common::{
    database::Database,
    event::AuditEvent,
    failures::{self, Earlier},
    identifier::{ForwarderId, TableName},
    session::Session,
};
use futures::TryStreamExt as _;
use sqlx::Row as _;
use uuid::Uuid;

use crate::rows::{self, Reading};

/// Where the statement says whether anything has ever failed, the same in all rows.
const FAILURES_AT: usize = rows::REST_AT;

/// A session with the source database. Made anew after an error, so that a changed table is seen.
#[derive(Debug)]
pub struct Source {
    connection: Session,
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
        let Reading { select, table, .. } = Reading::of(&mut connection, table, wanted).await?;
        let statement = format!(
            "select {select}, (select exists (select from outbox.failures f where f.forwarder = $2))
             from {table} e
             where e.id = any ($1)"
        );
        Ok(Self { statement, connection, rows: ROWS_MAX })
    }

    /// The connection, for statements about failures.
    pub fn connection(&mut self) -> &mut Session {
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
            let event = rows::contained(|| rows::event(&row, id));
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
