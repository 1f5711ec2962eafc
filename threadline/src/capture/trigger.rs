//! The triggers that call one of Threadline's functions, ours and the Elixir library's, as the catalog has them.

use std::{fmt, ops::BitOr};

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgRow};

use super::HostTable;
use crate::StorageSchema;

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

/// What a trigger may fire after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Insert,
    Delete,
    Update,
    Truncate,
}

impl Event {
    /// Those that change rows.
    pub(crate) const OF_ROWS: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    /// Its bit in `pg_trigger.tgtype`.
    fn bit(self) -> i16 {
        match self {
            Self::Insert => 1 << 2,
            Self::Delete => 1 << 3,
            Self::Update => 1 << 4,
            Self::Truncate => 1 << 5,
        }
    }
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

/// Bits of `pg_trigger.tgtype`: before, and instead of.
const NOT_AFTER: i16 = 1 << 1 | 1 << 6;

/// A trigger.
#[derive(Debug, Clone)]
pub(crate) struct CaptureTrigger {
    /// The oid of its table.
    pub(crate) relation: i64,
    /// Which table it is on: the captured one, or a partition.
    pub(crate) table: HostTable,
    pub(crate) name: String,
    pub(crate) firing: Firing,
    /// Whether it comes from the partitioned table, and cannot be dropped by itself.
    pub(crate) is_clone: bool,
    /// Whether it has a condition, or fires for some columns alone.
    pub(crate) is_partial: bool,
    pub(crate) function: String,
    /// Names of key columns, where it has them.
    pub(crate) arguments: Vec<String>,
    /// As `pg_trigger.tgtype`.
    kind: i16,
}

impl CaptureTrigger {
    /// Whether its function records changes of rows.
    pub(crate) fn is_capture(&self) -> bool {
        ["changes", "updates", "deletes"].iter().any(|kind| {
            self.function
                .strip_prefix("threadline_capture_")
                .and_then(|rest| rest.strip_prefix(kind))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
    }

    /// Whether its function belongs to one table, as opposed to the Elixir library's function for all tables.
    pub(crate) fn has_own_function(&self) -> bool {
        self.is_capture() && self.function != "threadline_capture_changes"
    }

    /// Whether its function records that a table is emptied.
    pub(crate) fn is_truncate(&self) -> bool {
        self.function == "threadline_capture_truncate"
    }

    /// Whether it is called once for each row, and not once for each statement.
    pub(crate) fn is_for_rows(&self) -> bool {
        self.kind & 1 != 0
    }

    /// A trigger that fires before, or instead, records nothing that can be relied on: the row may come otherwise, or not at all.
    pub(crate) fn fires_after(&self, event: Event) -> bool {
        self.kind & event.bit() != 0 && self.kind & NOT_AFTER == 0
    }

    /// Whether it is for these events and no others, whatever the row.
    pub(crate) fn is_exactly_for(&self, events: &[Event]) -> bool {
        let bits = |events: &[Event]| events.iter().map(|event| event.bit()).fold(0, i16::bitor);
        let all = [Event::Insert, Event::Delete, Event::Update, Event::Truncate];
        self.kind & (bits(&all) | NOT_AFTER) == bits(events) && !self.is_partial
    }

    /// Whether it fires in an ordinary session, whatever the row.
    pub(crate) fn sees_all_writers(&self) -> bool {
        self.firing.sees_writers() && !self.is_partial
    }
}

impl sqlx::FromRow<'_, PgRow> for CaptureTrigger {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let firing = match row.try_get("enabled")? {
            "A" => Firing::Always,
            "R" => Firing::Replica,
            "D" => Firing::Disabled,
            _ => Firing::Ordinary,
        };
        Ok(Self {
            relation: row.try_get("relation")?,
            table: HostTable { schema: row.try_get("schema")?, name: row.try_get("table_name")? },
            name: row.try_get("name")?,
            firing,
            is_clone: row.try_get("is_clone")?,
            is_partial: row.try_get("is_partial")?,
            function: row.try_get("function")?,
            arguments: row.try_get("arguments")?,
            kind: row.try_get("kind")?,
        })
    }
}

/// Arguments are stored as bytes in the encoding of the database, each with a zero behind it.
const TRIGGERS: &str = "select t.tgrelid::int8 as relation, r.nspname::text as schema, c.relname::text as table_name, t.tgname::text as name,
        t.tgenabled::text as enabled, t.tgparentid <> 0 as is_clone, t.tgtype as kind,
        t.tgqual is not null or t.tgattr::text <> '' as is_partial, p.proname::text as function,
        array(select convert_from(decode(a.hex[1], 'hex'), getdatabaseencoding())
              from regexp_matches(encode(t.tgargs, 'hex'), '((?:(?!00)..)*)00', 'g') a (hex)) as arguments
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    join pg_trigger t on t.tgfoid = p.oid
    join pg_class c on c.oid = t.tgrelid
    join pg_namespace r on r.oid = c.relnamespace";

/// All of this timeline, those that partitions have from their table included, by name.
pub(crate) async fn all(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<CaptureTrigger>, sqlx::Error> {
    let statement = format!(
        "{TRIGGERS} where p.proname like 'threadline\\_capture\\_%' and n.nspname = $1 order by t.tgname collate \"C\""
    );
    sqlx::query_as(AssertSqlSafe(statement)).bind(storage.as_str()).fetch_all(connection).await
}

/// All that file changes of the table and of its partitions in this timeline, by table and name; none for a table that is not there.
pub(crate) async fn of_table(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Vec<CaptureTrigger>, sqlx::Error> {
    let statement = format!(
        "with captured as (
             select o.oid from pg_class o join pg_namespace s on s.oid = o.relnamespace where s.nspname = $1 and o.relname = $2)
         {TRIGGERS}
         where p.proname like 'threadline\\_capture\\_%' and n.nspname = $3
           and (c.oid in (select oid from captured)
                or c.oid in (select t.relid from captured, pg_partition_tree(captured.oid) t))
         order by r.nspname, c.relname, t.tgname"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement));
    query.bind(&table.schema).bind(&table.name).bind(storage.as_str()).fetch_all(connection).await
}
