//! What a run leaves: its row, the action that stands for it, and evidence, in the transaction that ends it.

use std::{collections::BTreeMap, ops::Add, time::Duration};

use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{archive, error::PurgeError, windows::Windows};
use crate::{
    Action, ActorRef, Status, StorageSchema,
    batches::session_user,
    evidence::{Entrypoint, Record, Subject},
    lease::Lease,
    query::Statement,
    telemetry,
};

/// The action that stands for a purge.
const PURGED: &str = "audit.purged";

/// The lease of whoever purges.
pub(crate) const LEASE: &str = "retention";

/// After so long a run without a holder, one of the Elixir library's, counts as failed; the library thinks so too.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What was deleted, row by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) changes: u64,
    pub(super) transactions: u64,
    pub(super) actions: u64,
    /// Changes by their tables, `schema.table`.
    pub(super) tables: BTreeMap<String, u64>,
}

impl Add for Counts {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (table, count) in other.tables {
            *self.tables.entry(table).or_default() += count;
        }
        Self {
            tables: self.tables,
            changes: self.changes + other.changes,
            transactions: self.transactions + other.transactions,
            actions: self.actions + other.actions,
        }
    }
}

impl Counts {
    /// Rows of any kind.
    pub(super) fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A run that has begun.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: Uuid,
    pub(super) lease: Lease,
    pub(super) windows: Windows,
}

/// How a run ended.
struct Ended<'a> {
    run: Uuid,
    counts: Counts,
    windows: Value,
    /// The words of its failure.
    failure: Option<&'a str>,
}

/// The time of the database at the start of the transaction.
pub(super) async fn now(connection: &mut PgConnection) -> Result<OffsetDateTime, sqlx::Error> {
    Statement::new("select now()").query().fetch_one(connection).await?.try_get(0)
}

impl Run {
    /// Takes the lease, ends runs that nobody goes on with, and begins one.
    ///
    /// # Errors
    /// [`PurgeError::Held`], and what the database says.
    pub(super) async fn begin(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        windows: Windows,
        actor: Option<&ActorRef>,
    ) -> Result<Self, PurgeError> {
        let lease = Lease::new(LEASE);
        let until = lease.take(connection, storage).await??;
        end_interrupted(connection, storage, actor).await?;
        let mut statement = Statement::new(format!(
            "insert into {} (status, started_at, inserted_at, updated_at, holder, lease_until, deleted_changes, deleted_transactions, \
             deleted_actions, deleted_tables, windows) values ('running', now(), now(), now(), ",
            storage.table("threadline_retention_runs")
        ));
        statement
            .bind(lease.holder())
            .push(", ")
            .bind(until)
            .push(", 0, 0, 0, '{}', ")
            .bind(windows.to_json().to_string())
            .push("::jsonb) returning id");
        let id = statement.query().fetch_one(connection).await?.try_get(0)?;
        Ok(Self { id, lease, windows })
    }

    /// Records how far the run is, and that it is alive.
    pub(super) async fn renew(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        counts: &Counts,
    ) -> Result<(), PurgeError> {
        let until = self.lease.renew(connection, storage).await?.ok_or(PurgeError::LeaseLost)?;
        let mut statement = Statement::new(format!(
            "update {} set updated_at = clock_timestamp(), lease_until = ",
            storage.table("threadline_retention_runs")
        ));
        statement.bind(until);
        push_counts(counts, &mut statement);
        statement.push(" where status = 'running' and id = ").bind(self.id);
        statement.query().execute(connection).await?;
        Ok(())
    }

    /// Ends the run, unless another process has ended it, and gives the lease back.
    pub(super) async fn end(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        counts: &Counts,
        took: Duration,
        (failure, actor): (Option<&str>, Option<&ActorRef>),
    ) -> Result<(), sqlx::Error> {
        let mut statement = Statement::new(format!(
            "update {} set completed_at = clock_timestamp(), updated_at = clock_timestamp(), status = ",
            storage.table("threadline_retention_runs")
        ));
        statement.bind(if failure.is_some() { "failed" } else { "completed" });
        push_counts(counts, &mut statement);
        statement.push(", duration_ms = ").bind(clamped(telemetry::milliseconds(took)));
        if let Some(failure) = failure {
            statement.push(", error_message = ").bind(failure);
        }
        statement.push(" where status = 'running' and id = ").bind(self.id);
        let ended = statement.query().execute(&mut *connection).await?.rows_affected() > 0;
        if ended {
            let ended =
                Ended { run: self.id, counts: counts.clone(), windows: self.windows.to_json(), failure };
            ended.record(connection, storage, actor).await?;
        }
        self.lease.release(connection, storage).await
    }
}

/// Pushes the counts of a run; the library's column holds the sum of what it knows, as far as it reaches.
fn push_counts(counts: &Counts, statement: &mut Statement) {
    statement
        .push(", deleted_count = ")
        .bind(clamped(counts.changes.saturating_add(counts.transactions)))
        .push("::integer, deleted_changes = ")
        .bind(signed(counts.changes))
        .push(", deleted_transactions = ")
        .bind(signed(counts.transactions))
        .push(", deleted_actions = ")
        .bind(signed(counts.actions))
        .push(", deleted_tables = ")
        .bind(json!(counts.tables).to_string())
        .push("::jsonb");
}

/// For a column of 32 bits.
fn clamped(number: u64) -> i64 {
    i32::try_from(number).unwrap_or(i32::MAX).into()
}

fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Runs whose process is gone: ours once their lease has expired, and the library's, which have none, after a day.
async fn end_interrupted(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    actor: Option<&ActorRef>,
) -> Result<(), sqlx::Error> {
    let interrupted = "interrupted: its process ended, or lost its database, before it could say how";
    let mut statement = Statement::new(format!(
        "update {} r set status = 'failed', completed_at = clock_timestamp(), updated_at = clock_timestamp(), error_message = \
         case when r.holder is null then 'abandoned: nobody has said within a day how it ended' else ",
        storage.table("threadline_retention_runs")
    ));
    statement
        .bind(interrupted)
        .push(" end where r.status = 'running' and case when r.holder is null then coalesce(r.started_at, r.inserted_at) < clock_timestamp() - ")
        .bind(i64::try_from(ABANDONED_AFTER.as_secs()).unwrap_or(i64::MAX))
        .push(" * interval '1 second' else coalesce(r.lease_until, '-infinity') < clock_timestamp() end
               returning r.id, r.holder is not null, r.deleted_changes, r.deleted_transactions, r.deleted_actions, r.windows::text");
    for row in statement.fetch_all(&mut *connection).await? {
        let is_ours: bool = row.try_get(1)?;
        if !is_ours {
            continue;
        }
        let count = |index: usize| -> Result<u64, sqlx::Error> {
            let count: Option<i64> = row.try_get(index)?;
            Ok(count.and_then(|count| count.try_into().ok()).unwrap_or_default())
        };
        let counts =
            Counts { changes: count(2)?, transactions: count(3)?, actions: count(4)?, ..Counts::default() };
        let windows: Option<String> = row.try_get(5)?;
        let windows = windows.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let ended = Ended { run: row.try_get(0)?, counts, windows, failure: Some(interrupted) };
        ended.record(connection, storage, actor).await?;
    }
    Ok(())
}

impl Ended<'_> {
    /// The action, and the record of evidence.
    async fn record(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        actor: Option<&ActorRef>,
    ) -> Result<(), sqlx::Error> {
        let actor = match actor {
            Some(actor) => actor.clone(),
            None => session_user(connection).await?,
        };
        let Counts { changes, transactions, actions, .. } = self.counts;
        let counts = json!({"deleted_changes": changes, "deleted_transactions": transactions, "deleted_actions": actions});
        let mut comment = json!({"run": self.run});
        let mut detail = json!({"windows": self.windows, "failure": self.failure});
        for document in [&mut comment, &mut detail] {
            for (name, value) in counts.as_object().into_iter().flatten() {
                document[name] = value.clone();
            }
        }
        if let Some(archives) = archive::evidence(connection, storage, self.run).await? {
            detail["archives"] = archives;
        }
        let mut action = Action::new(PURGED, actor.clone())
            .verb("purge")
            .category("audit")
            .status(if self.failure.is_some() { Status::Error } else { Status::Ok })
            .comment(comment.to_string());
        if let Some(failure) = self.failure {
            action = action.reason(failure);
        }
        action.record(&mut *connection, storage).await?;
        let status = if self.failure.is_some() { "failed" } else { "completed" };
        Record::new(Subject::RetentionRun, json!({"run": self.run}), status)
            .made_by(Entrypoint::Purge)
            .actor(actor)
            .detail(detail)
            .append(connection, storage)
            .await
    }
}
