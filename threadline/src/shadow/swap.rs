//! The swap itself: names are exchanged, and what points to the table by its identity is pointed to the other.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use time::OffsetDateTime;

use super::{
    ATTEMPTS, KEPT, LOCK_TIMEOUT, PAUSE, SHADOW, Shadow, ShadowError, State, holders, is_busy,
    shape::INDEXES, triggers,
};
use crate::ActionTable;

/// How long writers may wait for readers whose snapshots are older than the last changes.
const SNAPSHOTS_MAX: Duration = Duration::from_secs(3);

impl Shadow {
    /// Puts the second table, which must be in the state `from`, in the first one's place, and the first in the second's.
    /// `last` carries over what is left in the journal, on a connection of its own, while writers wait.
    ///
    /// # Errors
    /// When either table stays busy, another process has swapped, or the swap would undo what was done to one of the tables; then
    /// nothing has changed.
    pub async fn swap(
        &self,
        connection: &mut PgConnection,
        from: State,
        last: &mut impl AsyncFnMut() -> Result<(), ShadowError>,
    ) -> Result<(), ShadowError> {
        let mut attempt = 1;
        let references = loop {
            let mut transaction = connection.begin().await?;
            let error = match self.swap_in(&mut transaction, from, last).await {
                Ok(references) => {
                    transaction.commit().await?;
                    break references;
                }
                Err(error) => error,
            };
            // Now, not when the connection is used next: writers wait for it.
            transaction.rollback().await?;
            match error {
                ShadowError::Database(error) if is_busy(&error) && attempt < ATTEMPTS => {}
                ShadowError::Database(error) if is_busy(&error) => {
                    return Err(self.busy(connection, &error).await);
                }
                ShadowError::Busy(_) if attempt < ATTEMPTS => {}
                error => return Err(error),
            }
            // Longer each time: a transaction with an old snapshot may last for a while.
            tokio::time::sleep(PAUSE * attempt).await;
            attempt += 1;
        };
        // They hold for new rows already; those that were there before are looked at without blocking other transactions. Should that
        // fail, the swap has happened all the same.
        for reference in references {
            if let Err(error) = validate(connection, &reference).await {
                let Reference { table, name, .. } = reference;
                tracing::warn!(
                    error = errors::line(&error),
                    "could not check the foreign key: alter table {table} validate constraint {name}"
                );
            }
        }
        Ok(())
    }

    /// Returns the references to check.
    async fn swap_in(
        &self,
        transaction: &mut PgConnection,
        from: State,
        last: &mut impl AsyncFnMut() -> Result<(), ShadowError>,
    ) -> Result<Vec<Reference>, ShadowError> {
        let (live, shadow) = (self.live(), self.table());
        let lock = format!(
            "set local lock_timeout = '{LOCK_TIMEOUT}'; set local search_path = '';
             lock table {live} in share row exclusive mode"
        );
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        if self.state(transaction).await? != from {
            return Err(ShadowError::Incompatible(
                "another process has swapped or removed the other table meanwhile".to_owned(),
            ));
        }
        // Writers are blocked now, readers are not.
        tokio::time::timeout(SNAPSHOTS_MAX, last())
            .await
            .unwrap_or_else(|_| Err(ShadowError::Busy("the last changes took too long".to_owned())))?;
        wait_for_older_snapshots(transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("lock table {live}, {shadow} in access exclusive mode")))
            .execute(&mut *transaction)
            .await?;
        self.refuse_what_would_be_undone(transaction).await?;
        let references = references(transaction, &live).await?;
        for statement in self.exchange(transaction, &references).await? {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        Ok(references)
    }

    async fn exchange(
        &self,
        connection: &mut PgConnection,
        references: &[Reference],
    ) -> Result<Vec<String>, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let comment: String =
            sqlx::query_scalar("select quote_nullable(obj_description($1::text::regclass, 'pg_class'))")
                .bind(live.to_string())
                .fetch_one(&mut *connection)
                .await?;
        let mut statements = Vec::new();
        for Reference { table, name, .. } in references {
            statements.push(format!("alter table {table} drop constraint {name}"));
        }
        for trigger in triggers() {
            statements.push(format!("drop trigger {trigger} on {live}"));
        }
        for (ours, theirs) in self.index_pairs(connection).await? {
            let schema = format!("\"{}\"", self.schema);
            statements.push(format!("alter index {schema}.{ours} rename to audit_actions_swapping"));
            statements.push(format!("alter index {schema}.{theirs} rename to {ours}"));
            statements.push(format!("alter index {schema}.audit_actions_swapping rename to {theirs}"));
        }
        let swapping = self.schema.table("audit_actions_swapping");
        statements.push(format!("alter table {live} rename to audit_actions_swapping"));
        statements.push(format!("alter table {shadow} rename to audit_actions"));
        statements.push(format!("alter table {swapping} rename to {SHADOW}"));
        statements
            .push(format!("comment on table {shadow} is '{KEPT}'; comment on table {live} is {comment}"));
        statements.push(self.trigger());
        statements.extend(self.sequences(connection).await?);
        for Reference { table, name, definition } in references {
            statements.push(format!("alter table {table} add constraint {name} {definition} not valid"));
        }
        Ok(statements)
    }

    /// The numbers that the server gives to rows continue where the first table's were, and the sequences of a host's own columns go
    /// with the table. For after the names are exchanged.
    async fn sequences(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "with columns as (
                 select l.attname, l.attidentity, pg_get_serial_sequence($1, l.attname) as first,
                        pg_get_serial_sequence($2, l.attname) as second
                 from pg_attribute l
                 where l.attrelid = $1::text::regclass and l.attnum > 0 and not l.attisdropped)
             select case attidentity
                 when '' then format('alter sequence %s owned by %s.%I', first, $1, attname)
                 else format('select setval(%L, last_value, is_called) from %s', second, first)
             end
             from columns where first is not null",
        )
        .bind(self.live().to_string())
        .bind(self.table().to_string())
        .fetch_all(connection)
        .await
    }

    /// Each index of the first table with its like of the second, quoted.
    async fn index_pairs(&self, connection: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
        let statement = format!(
            "with described as ({INDEXES})
             select l.name, s.name from described l join described s using (text, nth)
             where l.indrelid = $1::text::regclass and s.indrelid = $2::text::regclass"
        );
        sqlx::query_as(AssertSqlSafe(statement))
            .bind(self.live().to_string())
            .bind(self.table().to_string())
            .fetch_all(connection)
            .await
    }
}

async fn validate(connection: &mut PgConnection, reference: &Reference) -> Result<(), sqlx::Error> {
    let Reference { table, name, .. } = reference;
    let mut transaction = connection.begin().await?;
    transaction.execute("set local statement_timeout = 0").await?;
    let validate = format!("alter table {table} validate constraint {name}");
    transaction.execute(AssertSqlSafe(validate)).await?;
    transaction.commit().await
}

/// A foreign key of another table to the first; names are quoted.
struct Reference {
    table: String,
    name: String,
    definition: String,
}

async fn references(
    connection: &mut PgConnection,
    live: &ActionTable,
) -> Result<Vec<Reference>, sqlx::Error> {
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "select c.conrelid::regclass::text, quote_ident(c.conname),
                regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '')
         from pg_constraint c where c.confrelid = $1::text::regclass and c.contype = 'f'",
    )
    .bind(live.to_string())
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|(table, name, definition)| Reference { table, name, definition }).collect())
}

/// A reader whose snapshot is older than the last changes, and who has not looked at the table yet, would not find them
/// behind its name.
async fn wait_for_older_snapshots(connection: &mut PgConnection) -> Result<(), ShadowError> {
    let begun = Instant::now();
    let changed_at: OffsetDateTime =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *connection).await?;
    loop {
        let (older, hidden): (Option<Vec<i32>>, bool) = sqlx::query_as(
            "select array_agg(a.pid) filter (where a.backend_type = 'client backend' and a.backend_xmin is not null
                        and a.xact_start < $1
                        -- Those that wait for our lock take a new snapshot when they have it.
                        and not (a.wait_event_type is not distinct from 'Lock'
                                 and pg_backend_pid() = any (pg_blocking_pids(a.pid)))),
                    coalesce(bool_or(a.backend_type is null), false)
             from pg_stat_activity a
             where a.datname = current_database() and a.pid <> pg_backend_pid()",
        )
        .bind(changed_at)
        .fetch_one(&mut *connection)
        .await?;
        if hidden {
            return Err(ShadowError::Incompatible(
                "the snapshots of other roles cannot be seen: grant pg_read_all_stats to the role that rebuilds".to_owned(),
            ));
        }
        let older = older.unwrap_or_default();
        if older.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > SNAPSHOTS_MAX {
            let sessions = holders::sessions(connection, &older).await?;
            return Err(ShadowError::Busy(format!(
                "transactions hold snapshots that are older than the last changes: {}",
                sessions.join("; ")
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
