//! The triggers that capture a table: ours and the Elixir library's, on the table and on its partitions.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection};

use crate::{StorageSchema, capture::HostTable};

/// When a trigger fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Firing {
    /// For ordinary sessions.
    Ordinary,
    /// For ordinary sessions, and for those that apply what was replicated.
    Always,
    /// For those that apply alone.
    Replica,
    /// Never.
    Disabled,
}

impl Firing {
    /// As in `alter table`.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Ordinary => "enable",
            Self::Always => "enable always",
            Self::Replica => "enable replica",
            Self::Disabled => "disable",
        }
    }

    /// Whether it fires for what an application writes.
    pub(crate) fn sees_writers(self) -> bool {
        matches!(self, Self::Ordinary | Self::Always)
    }
}

/// What a trigger may fire after; the number is its bit in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Insert = 4,
    Delete = 8,
    Update = 16,
    Truncate = 32,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insert => "insert",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::Truncate => "truncate",
        })
    }
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct CaptureTrigger {
    /// Which table it is on: the captured one, or a partition.
    pub(crate) table: HostTable,
    pub(crate) name: String,
    pub(crate) firing: Firing,
    /// Whether it has a condition, or fires for some columns alone.
    pub(crate) is_partial: bool,
    /// Names of key columns, where it has them.
    pub(crate) arguments: Vec<String>,
    events: i16,
}

#[derive(FromRow)]
struct Found {
    schema: String,
    relation: String,
    name: String,
    enabled: String,
    kind: i16,
    is_partial: bool,
    arguments: Vec<u8>,
}

impl CaptureTrigger {
    pub(crate) fn fires_after(&self, event: Event) -> bool {
        self.events & event as i16 != 0
    }

    /// Whether it is called once for each row, and not once for each statement.
    pub(crate) fn is_for_rows(&self) -> bool {
        self.events & 1 != 0
    }
}

/// All that file changes of the table in this timeline, in order; none for a table that is not there.
pub(crate) async fn capture_triggers(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Vec<CaptureTrigger>, sqlx::Error> {
    let found: Vec<Found> = sqlx::query_as(
        "with of_table as (
             select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = $2)
         select n.nspname::text as schema, c.relname::text as relation, t.tgname::text as name, t.tgenabled::text as enabled,
                t.tgtype as kind, t.tgqual is not null or pg_catalog.array_length(t.tgattr::int2[], 1) > 0 as is_partial,
                t.tgargs as arguments
         from of_table o
         join pg_catalog.pg_trigger t on t.tgrelid = o.oid
             or t.tgrelid in (select p.relid from pg_catalog.pg_partition_tree(o.oid) p)
         join pg_catalog.pg_class c on c.oid = t.tgrelid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         join pg_catalog.pg_proc f on f.oid = t.tgfoid
         join pg_catalog.pg_namespace s on s.oid = f.pronamespace
         where s.nspname = $3 and f.proname like 'threadline\\_capture\\_%'
         order by 1, 2, 3",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .bind(storage.as_str())
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(CaptureTrigger::from).collect())
}

impl From<Found> for CaptureTrigger {
    fn from(found: Found) -> Self {
        let Found { schema, relation, name, enabled, kind, is_partial, arguments } = found;
        let firing = match enabled.as_str() {
            "A" => Firing::Always,
            "R" => Firing::Replica,
            "D" => Firing::Disabled,
            _ => Firing::Ordinary,
        };
        // Each ends with a zero byte.
        let arguments =
            arguments.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned());
        let mut arguments: Vec<String> = arguments.collect();
        arguments.pop();
        Self {
            table: HostTable { schema, name: relation },
            name,
            firing,
            is_partial,
            arguments,
            events: kind,
        }
    }
}
