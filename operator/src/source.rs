//! The source database of the pipeline: connections of its own, and what its errors mean.

use std::time::Duration;

use common::{
    identifier::TableName,
    outbox::{self, OutboxError},
    session::Session,
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Limits, failure::Failure};

/// Connections for reading; a page holds one.
const READING: u32 = 4;

/// Connections that may write.
const WRITING: u32 = 2;

/// How long a request waits for one of them, or for the server.
const WAIT: Duration = Duration::from_secs(3);

/// Where it is, as the host says.
#[derive(Default)]
pub(crate) struct SourceOptions {
    pub(crate) reading: Option<(PgConnectOptions, TableName)>,
    pub(crate) redriving: Option<PgConnectOptions>,
}

/// The source database.
pub(crate) struct Source {
    /// The audit table.
    pub(crate) table: TableName,
    reader: PgPool,
    writer: Option<PgPool>,
}

impl SourceOptions {
    /// Nothing is connected before somebody asks.
    pub(crate) fn connect(self, limits: &Limits) -> Option<Source> {
        let (reading, table) = self.reading?;
        let reader = pool(reading.options([("default_transaction_read_only", "on")]), READING, limits);
        let writer = self.redriving.map(|options| {
            // What is acknowledged here must survive a crash of the server.
            pool(options.options([("synchronous_commit", "on")]), WRITING, limits)
        });
        Some(Source { table, reader, writer })
    }
}

fn pool(options: PgConnectOptions, connections: u32, limits: &Limits) -> PgPool {
    let milliseconds = limits.statement.as_millis().to_string();
    let options = options.application_name("threadline-operator").options([
        ("search_path", "pg_catalog,pg_temp"),
        ("default_transaction_isolation", "read committed"),
        // Rows that a policy hides must be an error, not "gone".
        ("row_security", "off"),
        // The statements of the pipeline find their rows by an index; see `common::database`.
        ("enable_seqscan", "off"),
        ("jit", "off"),
        ("statement_timeout", milliseconds.as_str()),
        ("lock_timeout", milliseconds.as_str()),
        ("idle_in_transaction_session_timeout", "60000"),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(WAIT)
        .idle_timeout(Duration::from_secs(300))
        .connect_lazy_with(options)
}

impl Source {
    /// Whether failed events can be delivered again from here.
    pub(crate) fn can_redrive(&self) -> bool {
        self.writer.is_some()
    }

    /// To read; it has an outbox, of the table.
    pub(crate) async fn read(&self) -> Result<Session, Failure> {
        self.session(&self.reader).await
    }

    /// To have failed events delivered again; none where the host has not connected it.
    pub(crate) async fn write(&self) -> Result<Option<Session>, Failure> {
        match &self.writer {
            Some(pool) => self.session(pool).await.map(Some),
            None => Ok(None),
        }
    }

    async fn session(&self, pool: &PgPool) -> Result<Session, Failure> {
        let mut session = Session::from(pool.acquire().await.map_err(failure)?);
        outbox::require(&mut session, &self.table).await.map_err(of_outbox)?;
        Ok(session)
    }
}

fn of_outbox(error: OutboxError) -> Failure {
    match error {
        OutboxError::Unreachable(error) | OutboxError::Database(error) => failure(error),
        other => Failure::Source { term: "outbox_missing", text: format!("{}.", errors::line(&other)) },
    }
}

/// What an error of the source means for whoever asked.
#[expect(clippy::needless_pass_by_value, reason = "as an error is handed over")]
pub(crate) fn failure(error: sqlx::Error) -> Failure {
    if let sqlx::Error::Configuration(error) = &error {
        // What was asked does not fit the table: it says so itself.
        return Failure::unusable("source_table", format!("{error}."));
    }
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.is_some_and(|code| code == "42501") {
        tracing::warn!(error = %errors::line(&error), "the operator surface lacks rights on the source");
        return Failure::Source {
            term: "source_rights",
            text: format!(
                "The role that reads the source may not see this ({}). deploy/postgres/source.sql has the grants: run it again after an \
                 upgrade; audit_operator sees the pipeline and its failures, audit_decider the way of one event too.",
                errors::database(&error)
            ),
        };
    }
    match Failure::of_database(&error, "source database") {
        Failure::Away => Failure::Source {
            term: "source_away",
            text: "The source database is away or lets nobody in. No event is lost: what was committed stays in the log, and is delivered \
                   when the database is back. Try again in a moment."
                .to_owned(),
        },
        Failure::Outdated => Failure::Source {
            term: "outbox_missing",
            text: "A table of the outbox or of the audit is missing, or of another version: `publisher attach` completes the outbox."
                .to_owned(),
        },
        other => other,
    }
}
