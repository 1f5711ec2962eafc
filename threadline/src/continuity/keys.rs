//! Keys of changes that triggers of before version 0.11 of the Elixir library have recorded without one: they knew only columns
//! called `id`. What can be had from the image of the row is put in its place.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::{
    StorageSchema,
    capture::{
        HostTable, Refusal, Table,
        trigger::{self, Event},
    },
    query::recorded_tables,
};

/// What stands where a key is missing.
const MISSING_KEYS: [&str; 2] = [r#"{"id": null}"#, "{}"];

/// Gives changes their keys. Repeating it is harmless: a change that has a key is never touched, and what a run that was interrupted
/// has done stays done.
#[derive(Debug, Clone, Copy)]
#[must_use = "nothing happens until it is run"]
pub struct KeyBackfill {
    batch_size: u32,
    is_dry: bool,
}

impl Default for KeyBackfill {
    /// A thousand changes in a transaction.
    fn default() -> Self {
        Self { batch_size: 1000, is_dry: false }
    }
}

/// Why keys were not recovered, or not all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyBackfillError {
    /// `table_missing`: nothing was done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the database says, or that it says nothing.
    #[error("{}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// What has become of the changes of one table that had no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecoveredKeys {
    /// As changes name it, `schema.table`.
    pub table: String,
    /// The columns of the key; none where it has none.
    pub key: Vec<String>,
    /// How many changes have one now, or would have one after a run that is not dry.
    pub recovered: u64,
    /// How many have none, by the reason: `no_image` (a delete of the library's), `key_not_in_image`, `key_redacted`, `table_missing`, or the
    /// term of why the table has no key.
    pub left: BTreeMap<String, u64>,
}

/// One batch.
#[derive(FromRow)]
struct Batch {
    seen: i64,
    recovered: i64,
    left: Value,
    last_time: Option<String>,
    last_id: Option<Uuid>,
}

impl KeyBackfill {
    /// How many changes are looked at in one transaction, at least one: so many rows are locked, for the time of one statement.
    pub fn batch_size(self, rows: u32) -> Self {
        Self { batch_size: rows.max(1), ..self }
    }

    /// Counts, and changes nothing.
    pub fn dry_run(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    /// Runs it for these tables, or without any for all that have changes without a key. `progress` is told after each batch.
    ///
    /// # Errors
    /// When there is neither one of the tables nor any change of it: nothing is done then. What the database says, or that it says
    /// nothing: what was done before stays.
    pub async fn run(
        self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        tables: &[HostTable],
        mut progress: impl FnMut(&RecoveredKeys),
    ) -> Result<Vec<RecoveredKeys>, KeyBackfillError> {
        for table in tables {
            known(connection, storage, table).await?;
        }
        let all = tables.is_empty();
        let tables = if all { recorded_tables(connection, storage).await? } else { tables.to_vec() };
        let mut done = Vec::new();
        for table in &tables {
            let one = self.run_table(connection, storage, table, &mut progress).await?;
            if !all || one.recovered > 0 || !one.left.is_empty() {
                done.push(one);
            }
        }
        Ok(done)
    }

    async fn run_table(
        self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        table: &HostTable,
        progress: &mut impl FnMut(&RecoveredKeys),
    ) -> Result<RecoveredKeys, sqlx::Error> {
        let (key, why_none) = match key_of(connection, storage, table).await? {
            Ok(key) => (key, None),
            Err(term) => (Vec::new(), Some(term)),
        };
        let mut done = RecoveredKeys { table: table.to_string(), key, recovered: 0, left: BTreeMap::new() };
        let statement = self.statement(storage);
        for missing in MISSING_KEYS {
            let mut last = ("infinity".to_owned(), Uuid::max());
            loop {
                let mut transaction = connection.begin().await?;
                transaction.execute("set local lock_timeout = '5s'").await?;
                let batch: Batch = sqlx::query_as(AssertSqlSafe(statement.clone()))
                    .bind(&table.schema)
                    .bind(&table.name)
                    .bind(missing)
                    .bind(&last.0)
                    .bind(last.1)
                    .bind(i64::from(self.batch_size))
                    .bind(&done.key)
                    .bind(why_none)
                    .fetch_one(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                done.recovered += u64::try_from(batch.recovered).unwrap_or_default();
                for (why, count) in batch.left.as_object().into_iter().flatten() {
                    *done.left.entry(why.clone()).or_default() += count.as_u64().unwrap_or_default();
                }
                let (Some(time), Some(id)) = (batch.last_time, batch.last_id) else { break };
                progress(&done);
                if batch.seen < i64::from(self.batch_size) {
                    break;
                }
                last = (time, id);
            }
        }
        Ok(done)
    }

    /// The index of a row's history leads to the changes without a key, newest first, and on from where the last batch ended.
    fn statement(self, storage: &StorageSchema) -> String {
        let changes = storage.table("audit_changes");
        // Somebody else may have given a change its key since it was looked at.
        let updated = if self.is_dry {
            "select id from judged where why is null".to_owned()
        } else {
            format!(
                "update {changes} c set table_pk = j.key from judged j
                 where c.id = j.id and j.why is null and c.table_pk = $3::jsonb returning c.id"
            )
        };
        format!(
            "with seen as (
                 select c.id, c.captured_at, coalesce(c.data_after, c.data_before) as image
                 from {changes} c
                 where c.table_schema = $1 and c.table_name = $2 and c.table_pk = $3::jsonb and c.op <> 'truncate'
                   and (c.captured_at, c.id) < ($4::timestamptz, $5)
                 order by c.captured_at desc, c.id desc limit $6),
             judged as (
                 select s.id, s.captured_at, k.key,
                        case when $8::text is not null then $8
                             when s.image is null then 'no_image'
                             when not k.is_whole then 'key_not_in_image'
                             when k.is_redacted then 'key_redacted' end as why
                 from seen s
                 cross join lateral (
                     select pg_catalog.jsonb_object_agg(k.name, s.image ->> k.name) as key,
                            pg_catalog.bool_and(s.image ->> k.name is not null) as is_whole,
                            pg_catalog.bool_or(s.image ->> k.name = '[REDACTED]') as is_redacted
                     from pg_catalog.unnest($7::text[]) k (name)) k),
             updated as ({updated})
             select (select count(*) from judged) as seen, (select count(*) from updated) as recovered,
                    (select coalesce(pg_catalog.jsonb_object_agg(why, n), '{{}}') from
                        (select why, count(*) as n from judged where why is not null group by why) w) as left,
                    l.captured_at::text as last_time, l.id as last_id
             from (select) one left join lateral (select captured_at, id from judged order by captured_at, id limit 1) l on true"
        )
    }
}

/// Refuses a name that is neither a table's nor in any change: it is misspelt, or lacks its schema.
async fn known(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<(), KeyBackfillError> {
    let statement = format!(
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p'))
             or exists (select from {} where table_schema = $1 and table_name = $2)",
        storage.table("audit_changes")
    );
    let query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(&table.schema).bind(&table.name);
    if query.fetch_one(connection).await? {
        return Ok(());
    }
    let refusal = Refusal::new("table_missing", format!("there is no table {table}, and no change of one"));
    Err(refusal.hint("name its schema: SCHEMA.NAME").into())
}

/// The table's key, or of a table without a primary key the one that its trigger records; otherwise the term of why there is none.
async fn key_of(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Result<Vec<String>, &'static str>, sqlx::Error> {
    let Some(shape) = Table::read(connection, table).await? else { return Ok(Err("table_missing")) };
    let declared = if shape.has_primary_key() {
        Vec::new()
    } else {
        let triggers = trigger::of_table(connection, storage, table).await?;
        triggers
            .into_iter()
            .find(|one| one.fires_after(Event::Insert))
            .map(|one| one.arguments)
            .unwrap_or_default()
    };
    Ok(shape.key(&declared).map_err(|refusal| refusal.term))
}
