//! A timeline as a host holds it.

use sqlx::PgPool;

use crate::{
    Action, AuditAction, AuditContext, AuditedTransaction, Installation, Layout, SchemaStatus, StorageSchema,
    check_schema,
    evidence::{Evidence, EvidenceError, EvidenceRecord, Record},
    install, install_as,
    query::{Reader, Scope},
    telemetry,
};

/// A pool of connections to the timeline's database, and the schema that its tables are in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timeline {
    pool: PgPool,
    schema: StorageSchema,
}

impl Timeline {
    /// The timeline in `schema` of the database that `pool` leads to. Nothing is asked of the server.
    #[must_use]
    pub fn new(pool: PgPool, schema: StorageSchema) -> Self {
        Self { pool, schema }
    }

    /// The pool, for transactions of the host's own.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The schema that its tables are in.
    #[must_use]
    pub fn schema(&self) -> &StorageSchema {
        &self.schema
    }

    /// Creates or completes its tables; see [`install`](fn@install).
    ///
    /// # Errors
    /// When the server is away or refuses, or the tables are of a newer version.
    pub async fn install(&self) -> Result<Installation, sqlx::Error> {
        install(&mut *self.pool.acquire().await?, &self.schema).await
    }

    /// The same, with changes stored in that layout; see [`install_as`].
    ///
    /// # Errors
    /// As [`Self::install`]; and when changes are stored in another layout already.
    pub async fn install_as(&self, layout: Layout) -> Result<Installation, sqlx::Error> {
        install_as(&mut *self.pool.acquire().await?, &self.schema, layout).await
    }

    /// Whether its tables are there and may be written to.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn check(&self) -> Result<SchemaStatus, sqlx::Error> {
        check_schema(&mut *self.pool.acquire().await?, &self.schema).await
    }

    /// Records an action in a transaction of its own. To have it committed or rolled back with what it is about, use
    /// [`Action::record`] on the transaction's connection.
    ///
    /// # Errors
    /// When no connection can be had, and what the database says.
    pub async fn record(&self, action: Action) -> Result<AuditAction, sqlx::Error> {
        let status = action.outcome();
        let recorded = action.record(&mut *self.pool.acquire().await?, &self.schema).await?;
        telemetry::action_recorded(status);
        Ok(recorded)
    }

    /// Records a claim in a transaction of its own. To have it committed or rolled back with what it is about, use [`Record::record`] on the
    /// transaction's connection.
    ///
    /// # Errors
    /// When it is no record, when no connection can be had, and what the database says.
    pub async fn record_evidence(&self, record: Record) -> Result<EvidenceRecord, EvidenceError> {
        let mut connection = self.pool.acquire().await.map_err(EvidenceError::Database)?;
        record.record(&mut connection, &self.schema).await
    }

    /// What was recorded of the audit itself, to be read. It belongs to no tenant.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence::new(self.pool.clone(), self.schema.clone())
    }

    /// The timeline as far as `scope` shows it, to be read.
    #[must_use]
    pub fn reader(&self, scope: Scope) -> Reader {
        Reader::new(self.pool.clone(), self.schema.clone(), scope)
    }

    /// A transaction whose changes are captured in this context, an actor at least.
    pub fn transaction(&self, context: impl Into<AuditContext>) -> AuditedTransaction {
        AuditedTransaction::new(self.clone(), context.into())
    }
}
