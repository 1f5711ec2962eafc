//! The journal: which actions of the first table have changed since the second one was made.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Shadow, ShadowError, triggers};

impl Shadow {
    /// The triggers of the journal, on the table that is in place. Always: rows that logical replication applies are rows
    /// too.
    pub(super) fn trigger(&self) -> String {
        let (live, function, [each, truncate]) = (self.live(), self.function(), triggers());
        format!(
            "create trigger {each} after insert or update or delete on {live}
                 for each row execute function {function}();
             create trigger {truncate} before truncate on {live}
                 for each statement execute function {function}();
             alter table {live} enable always trigger {each};
             alter table {live} enable always trigger {truncate}"
        )
    }

    /// Whoever switches the triggers off and on again, or recreates one, leaves them in another mode than ours.
    ///
    /// # Errors
    /// When changes may be missing from the journal, with what is to be done; or the server is away.
    pub(super) async fn refuse_a_journal_with_gaps(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), ShadowError> {
        let both: bool = sqlx::query_scalar(
            "select count(*) = 2 from pg_trigger t
             where t.tgrelid = $1::text::regclass and t.tgname = any ($2) and t.tgenabled = 'A'",
        )
        .bind(self.live().to_string())
        .bind(triggers())
        .fetch_one(connection)
        .await?;
        if both {
            return Ok(());
        }
        Err(ShadowError::Incompatible(
            "the triggers audit_actions_journal of audit_actions were dropped or switched off: what has changed since then is not \
             known, and the second table has not got it. Run `consumer rebuild --drop-old`, and rebuild again"
                .to_owned(),
        ))
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

    /// How many changes wait in the journal, counted up to one more than `at_most`; `None` when this role may not read it.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn count(
        &self,
        connection: &mut PgConnection,
        at_most: i64,
    ) -> Result<Option<i64>, sqlx::Error> {
        let journal = self.journal();
        let readable: Option<bool> =
            sqlx::query_scalar("select has_table_privilege(to_regclass($1), 'select')")
                .bind(&journal)
                .fetch_one(&mut *connection)
                .await?;
        match readable {
            // Dropped.
            None => Ok(Some(0)),
            Some(false) => Ok(None),
            Some(true) => {
                let statement = format!("select count(*) from (select from {journal} limit $1 + 1) changes");
                sqlx::query_scalar(AssertSqlSafe(statement))
                    .bind(at_most)
                    .fetch_one(connection)
                    .await
                    .map(Some)
            }
        }
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
}
