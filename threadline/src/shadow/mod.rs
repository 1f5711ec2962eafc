//! A second table of actions next to the first, which may take its place: made like it, kept in step by a journal of what
//! changes meanwhile, swapped in one short transaction, and swapped back as quickly.
//!
//! Readers see one table or the other, whole. Writers wait while the last changes are carried over.

mod columns;
mod dependents;
mod holders;
mod indexes;
mod journal;
mod load;
mod rows;
mod shape;
mod swap;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

pub use indexes::LackingIndex;

use crate::{ActionTable, StorageSchema, schema::JOURNAL_TRIGGER};

/// The second table, before and after the swap.
const SHADOW: &str = "audit_actions_shadow";

/// Ids of actions that were written or deleted since the second table was made.
const JOURNAL: &str = "audit_actions_journal";

/// What the second table is, by its comment.
const FILLING: &str = "threadline: being rebuilt, not yet in the place of audit_actions";
const FILLED: &str = "threadline: rebuilt, and filled, not yet in the place of audit_actions";
const KEPT: &str = "threadline: what audit_actions was before the last swap";

/// How long a lock is waited for: the application's statements queue up behind us, and a deadlock with one of its
/// transactions must end with us and not with it, so below the server's `deadlock_timeout`.
const LOCK_TIMEOUT: &str = "500ms";

/// How often everything is tried that needs a lock, and how long others continue in between.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no second table, or none that may be swapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShadowError {
    /// A swap would leave something behind, or undo it.
    #[error("{0}")]
    Incompatible(String),
    /// Somebody else's table has the name of one of ours.
    #[error(
        "audit_actions_shadow or audit_actions_journal is a table that no rebuild has made, and nothing is done to it: rename it, or \
         move it to another schema"
    )]
    Foreign,
    /// Readers or writers held their locks for too long.
    #[error("audit_actions was too busy for a swap: {0}. Nothing has changed; try again when it is quieter")]
    Busy(String),
    /// The server is away, or refuses.
    #[error("timeline database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// What there is next to `audit_actions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    None,
    /// What is left of a rebuild whose second table was dropped.
    Abandoned,
    /// A table that is being filled.
    Filling,
    /// A table that has every row, and may lack indexes.
    Filled,
    /// The table that was `audit_actions` before the last swap.
    Kept,
    /// Tables of these names that no rebuild has made.
    Foreign,
}

/// The second table of a schema.
#[derive(Debug, Clone)]
pub struct Shadow {
    schema: StorageSchema,
}

impl Shadow {
    /// Of a schema.
    #[must_use]
    pub fn of(schema: &StorageSchema) -> Self {
        Self { schema: schema.clone() }
    }

    /// The second table.
    #[must_use]
    pub fn table(&self) -> ActionTable {
        ActionTable::of(&self.schema, SHADOW)
    }

    fn live(&self) -> ActionTable {
        self.schema.actions()
    }

    /// That one of the tables stayed locked, and by whom.
    async fn busy(&self, connection: &mut PgConnection, error: &sqlx::Error) -> ShadowError {
        // Who it was may have gone meanwhile.
        let holders = holders::of(connection, &self.live(), &self.table()).await.unwrap_or_default();
        ShadowError::Busy(match holders.join("; by ") {
            none if none.is_empty() => errors::database(error),
            holders => format!(
                "it was locked by {holders}: end that, or wait for its end ({})",
                errors::database(error)
            ),
        })
    }

    fn journal(&self) -> String {
        self.schema.table(JOURNAL)
    }

    fn function(&self) -> String {
        self.schema.table(JOURNAL_TRIGGER)
    }

    /// What there is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn state(&self, connection: &mut PgConnection) -> Result<State, sqlx::Error> {
        let (comment, is_foreign, is_left): (Option<Vec<Option<String>>>, bool, bool) = sqlx::query_as(
            "select (select array[obj_description(c.oid, 'pg_class')] from pg_class c where c.oid = to_regclass($1)),
                    exists (select from pg_class c where c.oid = to_regclass($2)
                        and array['id', 'n'] <> (select array_agg(a.attname::text order by a.attname) from pg_attribute a
                                                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)),
                    to_regclass($2) is not null or to_regprocedure($3) is not null
                    or exists (select from pg_trigger t where t.tgrelid = to_regclass($4) and t.tgname = any ($5))",
        )
        .bind(self.table().to_string())
        .bind(self.journal())
        .bind(format!("{}()", self.function()))
        .bind(self.live().to_string())
        .bind(triggers())
        .fetch_one(connection)
        .await?;
        Ok(match comment.as_deref() {
            _ if is_foreign => State::Foreign,
            None if is_left => State::Abandoned,
            None => State::None,
            Some([Some(comment)]) if comment == KEPT => State::Kept,
            Some([Some(comment)]) if comment == FILLING => State::Filling,
            Some([Some(comment)]) if comment == FILLED => State::Filled,
            Some(_) => State::Foreign,
        })
    }

    /// Makes the second table, empty, with everything that the first has but indexes that only find rows, and begins the journal. From
    /// the end of this on every change of the first is in the journal.
    ///
    /// # Errors
    /// When something depends on the first table that a swap would leave behind; when tables of these names are somebody else's; when
    /// it is too busy.
    pub async fn create(&self, connection: &mut PgConnection) -> Result<(), ShadowError> {
        self.refuse_what_would_be_left_behind(connection).await?;
        self.when_not_busy(connection, async |transaction| self.create_once(transaction).await).await
    }

    async fn create_once(&self, transaction: &mut PgConnection) -> Result<(), ShadowError> {
        let (live, shadow, journal, function) = (self.live(), self.table(), self.journal(), self.function());
        match self.state(transaction).await? {
            State::Foreign => return Err(ShadowError::Foreign),
            State::Abandoned => {
                sqlx::raw_sql(AssertSqlSafe(self.removal())).execute(&mut *transaction).await?;
            }
            State::None | State::Filling | State::Filled | State::Kept => {}
        }
        let trigger = self.trigger();
        let make = format!(
            "create table {shadow} (like {live} including all);
             comment on table {shadow} is '{FILLING}';
             create table {journal} (n bigint generated always as identity primary key, id uuid not null);
             create function {function}() returns trigger language plpgsql security definer
             set search_path = pg_catalog, pg_temp as $journal$
             begin
                 if tg_op = 'TRUNCATE' then
                     raise exception 'audit_actions is being rebuilt and cannot be truncated'
                         using hint = 'Run: consumer rebuild --drop-old';
                 end if;
                 if tg_op <> 'INSERT' then
                     insert into {journal} (id) values (old.id);
                 end if;
                 if tg_op <> 'DELETE' then
                     insert into {journal} (id) values (new.id);
                 end if;
                 return null;
             end $journal$;
             revoke execute on function {function}() from public;
             {trigger}"
        );
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *transaction).await?;
        // With all indexes first: what a second table cannot be given is known before anything is filled.
        self.complete(transaction).await?;
        Ok(self.drop_indexes(transaction).await?)
    }

    /// Removes the second table with its journal, or what is left of them.
    ///
    /// # Errors
    /// When the first table stays busy; when tables of these names are somebody else's.
    pub async fn remove(&self, connection: &mut PgConnection) -> Result<(), ShadowError> {
        if self.state(connection).await? == State::Foreign {
            return Err(ShadowError::Foreign);
        }
        let removal = format!("{}; drop table if exists {}", self.removal(), self.table());
        self.when_not_busy(connection, async |transaction| {
            sqlx::raw_sql(AssertSqlSafe(removal.clone())).execute(transaction).await?;
            Ok(())
        })
        .await
    }

    /// Ends the journal.
    fn removal(&self) -> String {
        let (live, journal, function) = (self.live(), self.journal(), self.function());
        let [each, truncate] = triggers();
        format!(
            "drop trigger if exists {each} on {live};
             drop trigger if exists {truncate} on {live};
             drop function if exists {function}();
             drop table if exists {journal}"
        )
    }

    /// Does it in a transaction, and again while locks are not to be had.
    async fn when_not_busy(
        &self,
        connection: &mut PgConnection,
        work: impl AsyncFn(&mut PgConnection) -> Result<(), ShadowError>,
    ) -> Result<(), ShadowError> {
        let mut attempt = 1;
        loop {
            let mut transaction = connection.begin().await?;
            let limit = format!("set local lock_timeout = '{LOCK_TIMEOUT}'");
            transaction.execute(AssertSqlSafe(limit)).await?;
            let Err(error) = work(&mut transaction).await else { return Ok(transaction.commit().await?) };
            transaction.rollback().await?;
            match error {
                ShadowError::Database(error) if is_busy(&error) && attempt < ATTEMPTS => attempt += 1,
                ShadowError::Database(error) if is_busy(&error) => {
                    return Err(self.busy(connection, &error).await);
                }
                error => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The names of both triggers: for each row, and for `truncate`.
fn triggers() -> [String; 2] {
    [JOURNAL_TRIGGER.to_owned(), format!("{JOURNAL_TRIGGER}_truncate")]
}

/// `lock_not_available`, or a deadlock.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
