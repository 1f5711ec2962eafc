//! A database transaction whose changes say who made them, and why.

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{Action, AuditContext, StorageSchema, Timeline, telemetry};

/// A transaction to be run: with the context that its changes are captured with, and what it is, if that has a name.
///
/// ```no_run
/// use threadline::{Action, ActorRef, ActorType, StorageSchema, Timeline};
///
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let timeline = Timeline::new(pool, StorageSchema::default());
/// let admin = ActorRef::new(ActorType::Admin, Some("a1"))?;
/// let suspended = timeline
///     .transaction(admin.clone())
///     .action(Action::new("user.suspended", admin).reason("fraud"))
///     .run(async |connection| {
///         sqlx::query("update users set suspended = true where id = 7").execute(connection).await
///     })
///     .await?;
/// println!("{} rows, {:?}", suspended.value.rows_affected(), suspended.audit_transaction_id);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is run, or attached to a transaction"]
pub struct AuditedTransaction {
    timeline: Timeline,
    context: AuditContext,
    action: Option<Action>,
    meta: Option<Map<String, Value>>,
    requires_changes: bool,
}

/// What an audited transaction has left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited<T> {
    /// What the work returned.
    pub value: T,
    /// The row of `audit_transactions`; `None` where nothing was captured and no action recorded.
    pub audit_transaction_id: Option<Uuid>,
    /// The row of `audit_actions`.
    pub action_id: Option<Uuid>,
}

/// Why an audited transaction was rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditedError<E> {
    /// The transaction has begun with an actor already, by another audited transaction that is attached to it.
    #[error("nested_audited_transaction")]
    Nested,
    /// Nothing that is captured has changed: there is no row to link the action or the meta data to.
    #[error("missing_audit_transaction_for_link")]
    NothingCaptured,
    /// The context takes more than 8 KiB as JSON.
    #[error("context_too_large")]
    ContextTooLarge,
    /// The work returned an error.
    #[error(transparent)]
    Work(E),
    /// The database refuses, or is away.
    #[error("timeline database: {}", errors::database(.0))]
    Database(#[source] sqlx::Error),
}

impl<E> AuditedError<E> {
    fn of(error: sqlx::Error) -> Self {
        let database = error.as_database_error();
        match database.and_then(|error| Some((error.code()?, error.message()))) {
            Some((code, _)) if code == "TL002" => Self::Nested,
            Some((code, _)) if code == "TL003" => Self::NothingCaptured,
            Some((code, message)) if code == "TL004" && message == "context_too_large" => {
                Self::ContextTooLarge
            }
            _ => Self::Database(error),
        }
    }
}

/// An audited transaction that has begun in a transaction of the host's own.
#[derive(Debug)]
#[must_use = "the action is recorded by finish"]
pub struct AttachedTransaction {
    schema: StorageSchema,
    action: Option<Action>,
    meta: Option<Map<String, Value>>,
    requires_changes: bool,
}

impl AuditedTransaction {
    pub(crate) fn new(timeline: Timeline, context: AuditContext) -> Self {
        Self { timeline, context, action: None, meta: None, requires_changes: false }
    }

    /// Records what is done, linked to its changes. Ids that the action does not have are those of the context.
    pub fn action(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    /// Merged into `audit_transactions.meta`.
    pub fn meta(mut self, meta: Map<String, Value>) -> Self {
        self.meta = Some(meta);
        self
    }

    /// Rolled back unless something that is captured changes, as the Elixir library does it for every action.
    pub fn require_changes(mut self) -> Self {
        self.requires_changes = true;
        self
    }

    /// Runs `work` in a transaction of its own: committed if it succeeds, rolled back if it returns an error, panics or is dropped.
    ///
    /// # Errors
    /// The work's own, and why nothing could be recorded. Nothing was committed then.
    pub async fn run<T, E>(
        self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<Audited<T>, AuditedError<E>> {
        let status = self.action.as_ref().map(Action::outcome);
        let mut transaction = self.timeline.pool().begin().await.map_err(AuditedError::Database)?;
        let attached = self.attach(&mut transaction).await?;
        let value = match work(&mut transaction).await {
            Ok(value) => value,
            Err(error) => {
                // Rolled back in any case; like this, before the caller goes on.
                let _ = transaction.rollback().await;
                return Err(AuditedError::Work(error));
            }
        };
        let audited = attached.finish(&mut transaction).await?;
        transaction.commit().await.map_err(AuditedError::Database)?;
        let Audited { audit_transaction_id, action_id, value: () } = audited;
        if let Some(status) = status {
            telemetry::action_recorded(status);
        }
        telemetry::transaction_committed(audit_transaction_id.is_some());
        Ok(Audited { value, audit_transaction_id, action_id })
    }

    /// Begins in the transaction that is open on `connection`. [`AttachedTransaction::finish`] records the action; commit and roll-back
    /// are the host's.
    ///
    /// # Errors
    /// When the transaction has begun with an actor already, the context is too large, or the database refuses.
    pub async fn attach<E>(
        self,
        connection: &mut PgConnection,
    ) -> Result<AttachedTransaction, AuditedError<E>> {
        let Self { timeline, context, action, meta, requires_changes } = self;
        let statement = format!("select {}($1)", timeline.schema().table("threadline_begin"));
        let begun = sqlx::query(AssertSqlSafe(statement)).bind(context.to_json()).persistent(false);
        begun.execute(connection).await.map_err(AuditedError::of)?;
        Ok(AttachedTransaction { schema: timeline.schema().clone(), action, meta, requires_changes })
    }
}

impl AttachedTransaction {
    /// Records the action and the meta data, before the host's commit; after it, [`telemetry`] takes what is to be said of it.
    ///
    /// # Errors
    /// When nothing was captured and something is to be linked to it, or the database refuses. The transaction is of no use then.
    pub async fn finish<E>(self, connection: &mut PgConnection) -> Result<Audited<()>, AuditedError<E>> {
        let Self { schema, action, meta, requires_changes } = self;
        let finished = if let Some(action) = action {
            let (name, mut options) = action.into_options();
            options.insert("meta".to_owned(), meta.into());
            options.insert("require_changes".to_owned(), requires_changes.into());
            let statement = format!(
                "select transaction_id, action_id from {}($1, $2)",
                schema.table("threadline_record_action")
            );
            let query = sqlx::query(AssertSqlSafe(statement)).bind(name).bind(Value::from(options));
            query.persistent(false).fetch_one(connection).await
        } else {
            let statement = format!(
                "select {}($1) as transaction_id, null::uuid as action_id",
                schema.table("threadline_link")
            );
            // An empty object is nothing to add, but asks for something to add it to.
            let meta = meta.or(requires_changes.then(Map::new)).map(Value::from);
            sqlx::query(AssertSqlSafe(statement)).bind(meta).persistent(false).fetch_one(connection).await
        };
        let row: PgRow = finished.map_err(AuditedError::of)?;
        let ids = (row.try_get("transaction_id"), row.try_get("action_id"));
        let (audit_transaction_id, action_id) =
            (ids.0.map_err(AuditedError::Database)?, ids.1.map_err(AuditedError::Database)?);
        Ok(Audited { value: (), audit_transaction_id, action_id })
    }
}
