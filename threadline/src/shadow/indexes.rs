//! The indexes of the second table. Those that may refuse a row, unique ones and constraints, it has from the beginning. Those that only
//! find rows are built when it is filled: sorting once costs a fraction of finding the place of each entry.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, FromRow, PgConnection};

use super::{Shadow, shape::INDEXES};

/// What a build sorts in, in kilobytes, where the server's settings give it less.
const SORT_MEMORY: i64 = 256 * 1024;

/// An index of the first table that only finds rows, and that the second one lacks.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LackingIndex {
    /// Its name, quoted.
    pub name: String,
    statements: Vec<String>,
    tablespace: String,
}

/// Each has a name that nobody else has, until a swap gives it that of the first table's.
fn lacking() -> String {
    format!(
        "with described as ({INDEXES})
         select o.name, coalesce(s.spcname::text, '') as tablespace,
                array_remove(array[
                    format('create index %I on %s%s', n.name, $2::text, o.method),
                    case when n.comment is not null then format('comment on index %s.%I is %L', n.schema, n.name, n.comment) end,
                    case when o.indisclustered then format('alter table %s cluster on %I', $2::text, n.name) end], null) as statements
         from described o
         join pg_class c on c.oid = o.indexrelid
         left join pg_tablespace s on s.oid = c.reltablespace
         cross join lateral (
             select 'audit_actions_shadow_' || c.oid as name, c.relnamespace::regnamespace as schema,
                    obj_description(c.oid, 'pg_class') as comment) n
         where o.indrelid = $1::text::regclass and o.finds_only
           and not exists (select from described t
                           where t.indrelid = $2::text::regclass and t.text = o.text and t.nth = o.nth)
         order by c.oid"
    )
}

impl Shadow {
    /// Takes the indexes that only find rows from the second table, which is empty.
    pub(super) async fn drop_indexes(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let statement = format!(
            "with described as ({INDEXES})
             select format('drop index %s', indexrelid::regclass) from described
             where finds_only and indrelid = $2::text::regclass"
        );
        let drops: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(self.live().to_string())
            .bind(self.table().to_string())
            .fetch_all(&mut *connection)
            .await?;
        for drop in drops {
            connection.execute(AssertSqlSafe(drop)).await?;
        }
        Ok(())
    }

    /// The indexes that the second table lacks and that [`Shadow::build_index`] builds.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn lacking_indexes(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<LackingIndex>, sqlx::Error> {
        sqlx::query_as(AssertSqlSafe(lacking()))
            .bind(self.live().to_string())
            .bind(self.table().to_string())
            .fetch_all(connection)
            .await
    }

    /// Builds one, with all that belongs to it.
    ///
    /// # Errors
    /// When the server is away, or an expression of the index fails for a row.
    pub async fn build_index(
        &self,
        connection: &mut PgConnection,
        index: &LackingIndex,
    ) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query(
            "select set_config('statement_timeout', '0', true), set_config('default_tablespace', $1, true),
                    set_config('maintenance_work_mem', greatest(setting::int8, $2) || 'kB', true)
             from pg_settings where name = 'maintenance_work_mem'",
        )
        .bind(&index.tablespace)
        .bind(SORT_MEMORY)
        .execute(&mut *transaction)
        .await?;
        for statement in &index.statements {
            transaction.execute(AssertSqlSafe(statement.clone())).await?;
        }
        transaction.commit().await
    }
}
