//! Rows of the second table: carried over from the first, and compared with it.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::Shadow;

impl Shadow {
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
}
