//! A second table of actions beside the first, which may take its place: made like it, kept in step by a journal of what
//! changes meanwhile, swapped in one short transaction, and swapped back as quickly.
//!
//! Readers see one table or the other, whole. Writers wait while the last changes are carried over.

mod holders;
mod swap;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::{ActionTable, StorageSchema};

/// The second table, before and after the swap.
const SHADOW: &str = "audit_actions_shadow";

/// Ids of actions that were written or deleted since the second table was made.
const JOURNAL: &str = "audit_actions_journal";

/// The trigger, and its function.
pub(crate) const TRIGGER: &str = "audit_actions_journal";

/// What the second table is, by its comment.
const FILLING: &str = "threadline: being rebuilt, not yet in the place of audit_actions";
const KEPT: &str = "threadline: what audit_actions was before the last swap";

/// How long a lock is waited for: the application's statements queue up behind us, and a deadlock with one of its
/// transactions must end with us and not with it, so below the server's `deadlock_timeout`.
const LOCK_TIMEOUT: &str = "500ms";

/// How often everything is tried that needs a lock, and how long others go on in between.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no second table, or none that may be swapped.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// Something would still point to the first table after a swap.
    #[error("{0}")]
    Incompatible(String),
    /// Readers or writers did not let go.
    #[error("audit_actions was too busy for a swap: {0}. Nothing has changed; try again when it is quieter")]
    Busy(String),
    /// The server is away, or refuses.
    #[error("timeline database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// What there is beside `audit_actions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    None,
    /// A table that is being filled.
    Filling,
    /// The table that was `audit_actions` before the last swap.
    Kept,
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

    /// What there is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn state(&self, connection: &mut PgConnection) -> Result<State, sqlx::Error> {
        let comment: Option<Option<String>> = sqlx::query_scalar(
            "select obj_description(c.oid, 'pg_class') from pg_class c where c.oid = to_regclass($1)",
        )
        .bind(self.table().to_string())
        .fetch_optional(connection)
        .await?;
        Ok(match comment {
            None => State::None,
            Some(comment) if comment.as_deref() == Some(KEPT) => State::Kept,
            Some(_) => State::Filling,
        })
    }

    /// Makes the second table, empty, with everything that the first has, and begins the journal. From the end of this on
    /// every change of the first is in the journal.
    ///
    /// # Errors
    /// When something depends on the first table that a swap would leave behind; or it is too busy.
    pub async fn create(&self, connection: &mut PgConnection) -> Result<(), ShadowError> {
        self.refuse_what_would_be_left_behind(connection).await?;
        let mut attempt = 1;
        loop {
            match self.create_once(connection).await {
                Err(error) if is_busy(&error) && attempt < ATTEMPTS => attempt += 1,
                Err(error) if is_busy(&error) => return Err(self.busy(connection, &error).await),
                result => return Ok(result?),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn create_once(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (live, shadow, journal) = (self.live(), self.table(), self.journal());
        let function = self.schema.table(TRIGGER);
        let mut transaction = connection.begin().await?;
        let trigger = self.trigger();
        let make = format!(
            "set local lock_timeout = '{LOCK_TIMEOUT}';
             create table {shadow} (like {live} including all);
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
        for statement in self.rights(&mut transaction).await? {
            transaction.execute(AssertSqlSafe(statement)).await?;
        }
        transaction.commit().await
    }

    /// The triggers of the journal, on the table that is in place. Always: rows that logical replication applies are rows
    /// too.
    fn trigger(&self) -> String {
        let (live, function) = (self.live(), self.schema.table(TRIGGER));
        format!(
            "create trigger {TRIGGER} after insert or update or delete on {live}
                 for each row execute function {function}();
             create trigger {TRIGGER}_truncate before truncate on {live}
                 for each statement execute function {function}();
             alter table {live} enable always trigger {TRIGGER};
             alter table {live} enable always trigger {TRIGGER}_truncate"
        )
    }

    /// What `like … including all` leaves out: owner, rights, storage parameters.
    async fn rights(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "with live as (select c.* from pg_class c where c.oid = $1::text::regclass)
             select format('alter table %s owner to %I', $2::text, pg_get_userbyid(relowner)) from live
             union all
             select format('alter table %s set (%s)', $2::text, array_to_string(reloptions, ', '))
             from live where reloptions is not null
             union all
             select format('grant %s on %s to %s%s', a.privilege_type, $2::text,
                           case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                           case when a.is_grantable then ' with grant option' else '' end)
             from live, aclexplode(live.relacl) a where a.grantee <> live.relowner
             union all
             select format('grant %s (%I) on %s to %s', a.privilege_type, t.attname, $2::text,
                           case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
             from live join pg_attribute t on t.attrelid = live.oid, aclexplode(t.attacl) a
             where a.grantee <> live.relowner",
        )
        .bind(self.live().to_string())
        .bind(self.table().to_string())
        .fetch_all(connection)
        .await
    }

    async fn refuse_what_would_be_left_behind(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShadowError> {
        let left: Vec<String> = sqlx::query_scalar(
            "with live as (select $1::text::regclass::oid as oid)
             -- As somebody who works in this schema calls it.
             select distinct 'view ' || case when v.relnamespace = t.relnamespace then quote_ident(v.relname)
                                             else v.oid::regclass::text end
             from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class, live
             join pg_class t on t.oid = live.oid
             where d.classid = 'pg_rewrite'::regclass and d.refobjid = live.oid and r.ev_class <> live.oid
             union all
             select 'rule ' || r.rulename from pg_rewrite r, live where r.ev_class = live.oid
             union all
             select 'uses of its row type' from pg_class c, live
             where c.oid = live.oid and exists (select from pg_depend d
                 where d.refclassid = 'pg_type'::regclass and d.refobjid = c.reltype and d.deptype = 'n')
             union all
             select 'trigger ' || t.tgname from pg_trigger t, live
             where t.tgrelid = live.oid and not t.tgisinternal
             union all
             select 'policy ' || p.polname from pg_policy p, live where p.polrelid = live.oid
             union all
             select 'row level security' from pg_class c, live where c.oid = live.oid and c.relrowsecurity
             union all
             select 'publication ' || b.pubname from pg_publication_rel p join pg_publication b on b.oid = p.prpubid, live
             where p.prrelid = live.oid
             union all
             select 'publication ' || b.pubname || ' for all tables' from pg_publication b where b.puballtables
             union all
             select 'a foreign key of a partitioned table, ' || c.conname
             from pg_constraint c join pg_class t on t.oid = c.conrelid, live
             where c.confrelid = live.oid and c.contype = 'f' and t.relkind = 'p'
             union all
             select 'partitions or children' from live
             where exists (select from pg_inherits i where i.inhrelid = live.oid or i.inhparent = live.oid)
             union all
             select 'a foreign key of its own, ' || c.conname from pg_constraint c, live
             where c.conrelid = live.oid and c.contype = 'f'",
        )
        .bind(self.live().to_string())
        .fetch_all(connection)
        .await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(ShadowError::Incompatible(format!(
            "a swap of audit_actions would leave behind what belongs to it: {}. Remove it for the time of the rebuild and \
             make it anew afterwards",
            left.join(", ")
        )))
    }

    /// Copies what the first table has and the second has not: what a host recorded by itself, and actions whose events are
    /// gone. Answers how many.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn carry_over(&self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let mut transaction = connection.begin().await?;
        transaction.execute("set local statement_timeout = 0; set local enable_seqscan = on").await?;
        let statement = format!(
            "insert into {shadow} select l.* from {live} l
             where not exists (select from {shadow} s where s.id = l.id) on conflict do nothing"
        );
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Takes changes out of the journal, in the caller's transaction: what they did to the second table must share their
    /// fate. Empty when there are none.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn changes(&self, connection: &mut PgConnection, limit: i64) -> Result<Vec<Uuid>, sqlx::Error> {
        let journal = self.journal();
        let statement = format!(
            "with taken as (
                 delete from {journal} where n = any (array(select n from {journal} order by n limit $1)) returning id)
             select distinct id from taken"
        );
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(limit).fetch_all(connection).await
    }

    /// Whether more than so many changes wait in the journal.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn waits(&self, connection: &mut PgConnection, few: i64) -> Result<bool, sqlx::Error> {
        let statement = format!("select exists (select from {} offset $1)", self.journal());
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(few).fetch_one(connection).await
    }

    /// The last change that the journal has, by its number; 0 when it is empty.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn last_change(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let statement = format!("select coalesce(max(n), 0) from {}", self.journal());
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await
    }

    /// Whether changes up to that number still wait.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn waits_up_to(&self, connection: &mut PgConnection, n: i64) -> Result<bool, sqlx::Error> {
        let statement = format!("select exists (select from {} where n <= $1)", self.journal());
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(n).fetch_one(connection).await
    }

    /// Makes these actions of the second table what they are in the first: written, or gone.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn copy(&self, connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let delete = format!("delete from {shadow} where id = any ($1)");
        sqlx::query(AssertSqlSafe(delete)).bind(ids).execute(&mut *connection).await?;
        let insert = format!("insert into {shadow} select * from {live} where id = any ($1)");
        sqlx::query(AssertSqlSafe(insert)).bind(ids).execute(connection).await?;
        Ok(())
    }

    /// Actions that a host recorded by itself and that are not the same in both, a thousand at most; of `only` these ids,
    /// where they are given.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn foreign_differences(
        &self,
        connection: &mut PgConnection,
        only: Option<&[Uuid]>,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let mut transaction = connection.begin().await?;
        transaction.execute("set local statement_timeout = 0; set local enable_seqscan = on").await?;
        let own = "correlation_id is distinct from id::text and ($1::uuid[] is null or id = any ($1))";
        let statement = format!(
            "select distinct id from (
                 (select * from {live} where {own} except select * from {shadow} where {own})
                 union all
                 (select * from {shadow} where {own} except select * from {live} where {own})) different limit 1000"
        );
        let different =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(only).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(different)
    }

    /// Removes the second table with its journal.
    ///
    /// # Errors
    /// When the first table stays busy.
    pub async fn remove(&self, connection: &mut PgConnection) -> Result<(), ShadowError> {
        let (live, shadow, journal) = (self.live(), self.table(), self.journal());
        let function = self.schema.table(TRIGGER);
        let statement = format!(
            "set local lock_timeout = '{LOCK_TIMEOUT}';
             drop trigger if exists {TRIGGER} on {live};
             drop trigger if exists {TRIGGER}_truncate on {live};
             drop function if exists {function}();
             drop table if exists {journal};
             drop table if exists {shadow}"
        );
        let mut attempt = 1;
        loop {
            let mut transaction = connection.begin().await?;
            let removed = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
            let Err(error) = removed else { return Ok(transaction.commit().await?) };
            transaction.rollback().await?;
            match error {
                error if is_busy(&error) && attempt < ATTEMPTS => attempt += 1,
                error if is_busy(&error) => return Err(self.busy(connection, &error).await),
                error => return Err(error.into()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// `lock_not_available`, or a deadlock.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}
