//! A trigger of the Elixir library's that captures a table already. Rolling ours back makes it again.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::names::{HostTable, literal, quote};
use crate::StorageSchema;

/// As the catalog has it: it fires for each row.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct LibraryTrigger {
    /// Its name.
    pub name: String,
    schema: String,
    relation: String,
    function: String,
    /// Of a function of this table's own, the statement that makes it.
    definition: Option<String>,
    arguments: Vec<u8>,
}

impl LibraryTrigger {
    /// Those of the table and of partitions alone that are not ours: ours of row level have a stored policy, and a function of the
    /// table's own.
    ///
    /// # Errors
    /// When the server is away.
    pub(super) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        table: &HostTable,
    ) -> Result<Vec<Self>, sqlx::Error> {
        let policies = storage.table("threadline_capture_policies");
        let has_policies: bool = sqlx::query_scalar("select pg_catalog.to_regclass($1) is not null")
            .bind(&policies)
            .fetch_one(&mut *connection)
            .await?;
        let is_ours = if has_policies {
            format!(
                "exists (select from {policies} p where p.level = 'row' and (p.table_schema, p.table_name) = ($1, $2))"
            )
        } else {
            "false".to_owned()
        };
        let statement = format!(
            "with of_table as (
                 select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                 where n.nspname = $1 and c.relname = $2)
             select t.tgname::text as name, n.nspname::text as schema, c.relname::text as relation, f.proname::text as function,
                    t.tgargs as arguments,
                    case when f.proname <> 'threadline_capture_changes' then pg_catalog.pg_get_functiondef(f.oid) end as definition
             from of_table o
             join pg_catalog.pg_trigger t on t.tgrelid = o.oid
                 or t.tgrelid in (select p.relid from pg_catalog.pg_partition_tree(o.oid) p)
             join pg_catalog.pg_class c on c.oid = t.tgrelid
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             join pg_catalog.pg_proc f on f.oid = t.tgfoid
             join pg_catalog.pg_namespace s on s.oid = f.pronamespace
             where s.nspname = $3 and f.proname ~ '^threadline_capture_changes' and not t.tgisinternal and t.tgparentid = 0
               and t.tgtype & 1 <> 0 and (f.proname = 'threadline_capture_changes' or not {is_ours})
             order by 1, 2, 3"
        );
        sqlx::query_as(AssertSqlSafe(statement))
            .bind(&table.schema)
            .bind(&table.name)
            .bind(storage.as_str())
            .fetch_all(connection)
            .await
    }

    /// Whether it calls the function that all tables share.
    pub(super) fn is_global(&self) -> bool {
        self.definition.is_none()
    }

    /// Makes its function again, where it is the table's own.
    pub(super) fn function(&self) -> String {
        self.definition.as_ref().map(|definition| format!("{definition};")).unwrap_or_default()
    }

    /// Makes the trigger again, in place of the one of its name.
    pub(super) fn statement(&self, storage: &StorageSchema) -> String {
        let table = HostTable { schema: self.schema.clone(), name: self.relation.clone() };
        let arguments: Vec<String> = self
            .arguments
            .split(|byte| *byte == 0)
            .filter(|one| !one.is_empty())
            .map(|one| literal(&String::from_utf8_lossy(one)))
            .collect();
        format!(
            "create or replace trigger {} after insert or update or delete on {}\n        for each row execute function {}.{}({});",
            quote(&self.name),
            table.quoted(),
            quote(storage.as_str()),
            quote(&self.function),
            arguments.join(", ")
        )
    }
}
