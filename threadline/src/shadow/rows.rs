//! Rows of the second table: carried over from the first, written over, and compared with it.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::{FILLED, Shadow, columns::Columns};
use crate::{
    AuditAction,
    action::{overwrite_batch, update_batch},
    stored,
};

impl Shadow {
    /// Whether the host has given columns of its own to the table, or something of it was erased. Only the first table has that.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn has_own_columns(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let columns = self.columns(connection).await?;
        if !columns.own.is_empty() || !columns.all.iter().any(|column| column == "erased") {
            return Ok(!columns.own.is_empty());
        }
        let mut transaction = connection.begin().await?;
        transaction.execute("set local statement_timeout = 0").await?;
        let statement = format!("select exists (select from {} a where a.erased is not null)", self.live());
        let erased = sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(erased)
    }

    /// Copies what the first table has and the second has not: what a host recorded by itself, and actions whose events are
    /// gone. Answers how many.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn carry_over(&self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let carried = self.carry_over_in(&mut transaction).await?;
        transaction.commit().await?;
        Ok(carried)
    }

    /// Ends the filling: carries over, and remembers that every row is there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn finish_filling(&self, connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let carried = self.carry_over_in(&mut transaction).await?;
        let filled = format!("comment on table {} is '{FILLED}'", self.table());
        transaction.execute(AssertSqlSafe(filled)).await?;
        transaction.commit().await?;
        Ok(carried)
    }

    async fn carry_over_in(&self, transaction: &mut PgConnection) -> Result<u64, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let columns = self.columns(transaction).await?.list();
        transaction.execute("set local statement_timeout = 0; set local enable_seqscan = on").await?;
        let statement = format!(
            "insert into {shadow} ({columns}) overriding system value select {columns} from {live} l
             where not exists (select from {shadow} s where s.id = l.id) on conflict do nothing"
        );
        Ok(sqlx::query(AssertSqlSafe(statement)).execute(transaction).await?.rows_affected())
    }

    /// Tells the planner what the second table holds: nobody has done so since it was filled.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn analyze(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        transaction.execute("set local statement_timeout = 0").await?;
        transaction.execute(AssertSqlSafe(format!("analyze {}", self.table()))).await?;
        transaction.commit().await
    }

    /// Makes these actions of the second table what they are in the first: written, or gone.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn copy(&self, connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let columns = self.columns(connection).await?.list();
        let delete = format!("delete from {shadow} where id = any ($1)");
        sqlx::query(AssertSqlSafe(delete)).bind(ids).execute(&mut *connection).await?;
        let insert = format!(
            "insert into {shadow} ({columns}) overriding system value select {columns} from {live} where id = any ($1)"
        );
        sqlx::query(AssertSqlSafe(insert)).bind(ids).execute(connection).await?;
        Ok(())
    }

    /// Writes actions over those of the second table, which keep their values in columns of the host's own. One that is in neither
    /// table is numbered as the first table would. Returns how many rows were written.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn overwrite(
        &self,
        connection: &mut PgConnection,
        actions: &[AuditAction],
        times: bool,
    ) -> Result<u64, sqlx::Error> {
        let (table, columns) = (self.table(), self.columns(connection).await?);
        if !columns.are_numbered() {
            return overwrite_batch(connection, &table, actions, times).await;
        }
        let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
        let there: HashSet<Uuid> = stored::present(connection, &table, &ids).await?.into_iter().collect();
        let (old, new): (Vec<_>, Vec<_>) =
            actions.iter().cloned().partition(|action| there.contains(&action.id));
        let mut written = update_batch(connection, &table, &old, times).await?;
        for action in new {
            columns.take_numbers(connection).await?;
            written += overwrite_batch(connection, &table, &[action], times).await?;
        }
        Ok(written)
    }

    /// Actions that a host recorded by itself and that are not the same in both, and such as differ in columns of the host's own,
    /// a thousand at most; of `only` these ids, where they are given.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn foreign_differences(
        &self,
        connection: &mut PgConnection,
        only: Option<&[Uuid]>,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let (live, shadow) = (self.live(), self.table());
        let columns = self.columns(connection).await?;
        let mut transaction = connection.begin().await?;
        transaction.execute("set local statement_timeout = 0; set local enable_seqscan = on").await?;
        let chosen = "($1::uuid[] is null or a.id = any ($1))";
        let own = format!("a.correlation_id is distinct from a.id::text and {chosen}");
        let all = Columns::text(&columns.all, "a");
        let of_projected = if columns.own.is_empty() {
            String::new()
        } else {
            let (first, second) = (Columns::text(&columns.own, "a"), Columns::text(&columns.own, "s"));
            format!(
                "union all select a.id from {live} a join {shadow} s on s.id = a.id
                 where a.correlation_id = a.id::text and {chosen} and {first} is distinct from {second}"
            )
        };
        let statement = format!(
            "with first as materialized (select a.id, {all} as shown from {live} a where {own}),
                  second as materialized (select a.id, {all} as shown from {shadow} a where {own})
             select distinct id from (
                 select id from ((table first except table second) union all (table second except table first)) f
                 {of_projected}) different limit 1000"
        );
        let different =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(only).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(different)
    }
}
