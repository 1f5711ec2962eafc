//! The swap itself: names are exchanged, and what points to the table by its identity is pointed to the other.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use time::OffsetDateTime;

use super::{ATTEMPTS, KEPT, LOCK_TIMEOUT, SHADOW, Shadow, ShadowError, TRIGGER, is_busy};
use crate::ActionTable;

/// How long writers may wait for readers whose snapshots are older than the last changes.
const SNAPSHOTS_MAX: Duration = Duration::from_secs(3);

impl Shadow {
    /// Puts the second table in the first one's place, and the first in the second's. `last` carries over what is left in the
    /// journal, on a connection of its own, while writers wait.
    ///
    /// # Errors
    /// When either table stays busy; then nothing has changed.
    pub async fn swap(
        &self,
        connection: &mut PgConnection,
        last: &mut impl AsyncFnMut() -> Result<(), ShadowError>,
    ) -> Result<(), ShadowError> {
        let mut attempt = 1;
        let references = loop {
            match self.swap_once(connection, last).await {
                Ok(references) => break references,
                Err(ShadowError::Database(error)) if is_busy(&error) && attempt < ATTEMPTS => attempt += 1,
                Err(ShadowError::Database(error)) if is_busy(&error) => {
                    return Err(ShadowError::Busy(error.to_string()));
                }
                Err(ShadowError::Busy(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
            // Writers go on for a moment before they are asked to wait again.
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        // They hold for new rows already; those that were there before are looked at without locking anybody out.
        for (table, constraint) in references {
            let validate = format!("alter table {table} validate constraint {constraint}");
            connection.execute(AssertSqlSafe("set statement_timeout = 0".to_owned())).await?;
            connection.execute(AssertSqlSafe(validate)).await?;
            connection.execute(AssertSqlSafe("reset statement_timeout".to_owned())).await?;
        }
        Ok(())
    }

    /// Answers the references to check, each a table and a constraint, quoted.
    async fn swap_once(
        &self,
        connection: &mut PgConnection,
        last: &mut impl AsyncFnMut() -> Result<(), ShadowError>,
    ) -> Result<Vec<(String, String)>, ShadowError> {
        let (live, shadow) = (self.live(), self.table());
        let mut transaction = connection.begin().await?;
        let lock = format!(
            "set local lock_timeout = '{LOCK_TIMEOUT}'; set local search_path = '';
             lock table {live} in share row exclusive mode"
        );
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
        // Nobody writes now, and everybody reads.
        last().await?;
        wait_for_older_snapshots(&mut transaction).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("lock table {live}, {shadow} in access exclusive mode")))
            .execute(&mut *transaction)
            .await?;
        let references = references(&mut transaction, &live).await?;
        for statement in self.exchange(&mut transaction, &references).await? {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(references.into_iter().map(|reference| (reference.table, reference.name)).collect())
    }

    async fn exchange(
        &self,
        connection: &mut PgConnection,
        references: &[Reference],
    ) -> Result<Vec<String>, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let function = self.schema.table(TRIGGER);
        let comment: String =
            sqlx::query_scalar("select quote_nullable(obj_description($1::text::regclass, 'pg_class'))")
                .bind(live.to_string())
                .fetch_one(&mut *connection)
                .await?;
        let mut statements = Vec::new();
        for Reference { table, name, .. } in references {
            statements.push(format!("alter table {table} drop constraint {name}"));
        }
        statements.push(format!("drop trigger {TRIGGER} on {live}"));
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
        statements.push(format!(
            "create trigger {TRIGGER} after insert or update or delete on {live}
                 for each row execute function {function}()"
        ));
        for Reference { table, name, definition } in references {
            statements.push(format!("alter table {table} add constraint {name} {definition} not valid"));
        }
        Ok(statements)
    }

    /// Each index of the first table with its like of the second, quoted.
    async fn index_pairs(&self, connection: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
        sqlx::query_as(
            "with described as (
                 select i.indrelid, quote_ident(c.relname) as name, d.text,
                        row_number() over (partition by i.indrelid, d.text order by c.oid) as nth
                 from pg_index i join pg_class c on c.oid = i.indexrelid
                 -- All but the two names.
                 cross join lateral (select i.indisprimary::text || i.indisunique::text
                     || substring(pg_get_indexdef(i.indexrelid) from ' USING .*$') as text) d
                 where i.indrelid in ($1::text::regclass, $2::text::regclass))
             select l.name, s.name from described l join described s using (text, nth)
             where l.indrelid = $1::text::regclass and s.indrelid = $2::text::regclass",
        )
        .bind(self.live().to_string())
        .bind(self.table().to_string())
        .fetch_all(connection)
        .await
    }
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
        // Those that wait for our lock take a new snapshot when they have it.
        let older: Vec<i32> = sqlx::query_scalar(
            "select a.pid from pg_stat_activity a
             where a.datname = current_database() and a.pid <> pg_backend_pid()
               and a.backend_type = 'client backend' and a.backend_xmin is not null
               and a.xact_start < $1 and a.wait_event_type is distinct from 'Lock'",
        )
        .bind(changed_at)
        .fetch_all(&mut *connection)
        .await?;
        if older.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > SNAPSHOTS_MAX {
            return Err(ShadowError::Busy(format!(
                "processes {older:?} hold snapshots that are older than the last changes"
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
