//! What the catalog says of the host's tables and of the triggers on them: one statement for all tables, one for all triggers.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection};

use crate::{StorageSchema, capture::HostTable, install::owned_tables, schema::JOURNAL_TRIGGER};

/// Bits of `pg_trigger.tgtype`.
pub(super) const INSERT: i16 = 1 << 2;
pub(super) const DELETE: i16 = 1 << 3;
pub(super) const UPDATE: i16 = 1 << 4;
pub(super) const TRUNCATE: i16 = 1 << 5;
const EACH_ROW: i16 = 1;

/// An ordinary or partitioned table of the host's; partitions belong to their table.
#[derive(Debug)]
pub(super) struct ObservedTable {
    pub(super) name: HostTable,
    pub(super) is_partitioned: bool,
    /// An extension has made it.
    pub(super) is_of_extension: bool,
    /// The table itself, then its partitions by name.
    pub(super) relations: Vec<Relation>,
}

/// A table or a partition.
#[derive(Debug, FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "answers of one statement")]
pub(super) struct Relation {
    pub(super) oid: i64,
    root: i64,
    schema: String,
    name: String,
    pub(super) is_partitioned: bool,
    pub(super) is_unlogged: bool,
    /// Logical replication writes to it.
    pub(super) is_subscribed: bool,
    is_of_extension: bool,
    #[sqlx(skip)]
    pub(super) triggers: Vec<Trigger>,
}

/// A trigger that calls one of Threadline's functions, ours or the Elixir library's.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Trigger {
    relation: i64,
    pub(super) name: String,
    /// As `pg_trigger.tgenabled`.
    pub(super) state: String,
    /// It comes from the partitioned table, and cannot be dropped by itself.
    pub(super) is_clone: bool,
    kind: i16,
    /// It has a condition, or fires for some columns only.
    is_conditional: bool,
    pub(super) function_schema: String,
    pub(super) function: String,
    pub(super) arguments: Vec<String>,
}

impl Trigger {
    /// Whether its function records changes of rows.
    pub(super) fn is_capture(&self) -> bool {
        ["changes", "updates", "deletes"].iter().any(|kind| {
            self.function
                .strip_prefix("threadline_capture_")
                .and_then(|rest| rest.strip_prefix(kind))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
    }

    /// Whether its function belongs to one table, as opposed to the Elixir library's function for all tables.
    pub(super) fn has_own_function(&self) -> bool {
        self.is_capture() && self.function != "threadline_capture_changes"
    }

    /// Whether its function records that a table is emptied.
    pub(super) fn is_truncate(&self) -> bool {
        self.function == "threadline_capture_truncate"
    }

    pub(super) fn is_row(&self) -> bool {
        self.kind & EACH_ROW != 0
    }

    pub(super) fn is_for(&self, event: i16) -> bool {
        self.kind & event != 0
    }

    /// Whether it is for these events and no others, whatever the row.
    pub(super) fn is_exactly_for(&self, events: i16) -> bool {
        self.kind & (INSERT | UPDATE | DELETE | TRUNCATE) == events && !self.is_conditional
    }

    /// Whether it fires in an ordinary session, whatever the row.
    pub(super) fn fires(&self) -> bool {
        matches!(self.state.as_str(), "O" | "A") && !self.is_conditional
    }
}

impl Relation {
    pub(super) fn table(&self) -> HostTable {
        HostTable { schema: self.schema.clone(), name: self.name.clone() }
    }

    fn is_partition(&self) -> bool {
        self.root != self.oid
    }

    /// Whether each insert, update and delete is captured. Of what comes through the partitioned table, triggers of statement level on
    /// a partition see nothing.
    pub(super) fn is_captured(&self) -> bool {
        [INSERT, UPDATE, DELETE].iter().all(|event| {
            self.captures()
                .any(|one| one.fires() && one.is_for(*event) && (one.is_row() || !self.is_partition()))
        })
    }

    /// Triggers that record changes of rows.
    pub(super) fn captures(&self) -> impl Iterator<Item = &Trigger> {
        self.triggers.iter().filter(|trigger| trigger.is_capture())
    }
}

impl ObservedTable {
    /// The table itself.
    pub(super) fn root(&self) -> &Relation {
        &self.relations[0]
    }

    /// Where its rows are: the table itself, or its partitions. Of a partitioned table without partitions, the table itself.
    pub(super) fn leaves(&self) -> Vec<&Relation> {
        let leaves: Vec<&Relation> = self.relations.iter().filter(|one| !one.is_partitioned).collect();
        if leaves.is_empty() { vec![self.root()] } else { leaves }
    }

    /// Whether every change of its rows is captured.
    pub(super) fn is_covered(&self) -> bool {
        self.leaves().iter().all(|leaf| leaf.is_captured())
    }

    /// Whether there is a trigger that records changes of its rows, whatever its state.
    pub(super) fn has_capture(&self) -> bool {
        self.relations.iter().any(|one| one.captures().next().is_some())
    }
}

/// All tables, by name; not those of the timeline and of the pipeline.
pub(super) async fn tables(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<ObservedTable>, sqlx::Error> {
    let mut triggers: HashMap<i64, Vec<Trigger>> = HashMap::new();
    for trigger in self::triggers(connection).await? {
        triggers.entry(trigger.relation).or_default().push(trigger);
    }
    let mut tables: Vec<ObservedTable> = Vec::new();
    for mut relation in relations(connection, storage).await? {
        relation.triggers = triggers.remove(&relation.oid).unwrap_or_default();
        match tables.last_mut() {
            Some(table) if table.root().oid == relation.root => table.relations.push(relation),
            _ => tables.push(ObservedTable {
                name: relation.table(),
                is_partitioned: relation.is_partitioned,
                is_of_extension: relation.is_of_extension,
                relations: vec![relation],
            }),
        }
    }
    Ok(tables)
}

/// In the order of the tables, each followed by its partitions.
async fn relations(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<Relation>, sqlx::Error> {
    sqlx::query_as(
        "with pipeline as (
             select n.oid from pg_namespace n
             where n.nspname = 'outbox'
               and 2 = (select count(*) from pg_class c where c.relnamespace = n.oid and c.relname in ('entries', 'rounds'))),
         relations as (
             select c.*, coalesce(pg_partition_root(c.oid)::oid, c.oid) as root
             from pg_class c
             where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't'
               and c.relnamespace not in (select oid from pipeline))
         select c.oid::int8 as oid, c.root::int8 as root, n.nspname::text as schema, c.relname::text as name,
                c.relkind = 'p' as is_partitioned, c.relpersistence = 'u' as is_unlogged,
                exists (select from pg_subscription_rel s where s.srrelid = c.oid) as is_subscribed,
                exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
                    as is_of_extension
         from relations c
         join pg_namespace n on n.oid = c.relnamespace
         join pg_class r on r.oid = c.root and r.relkind in ('r', 'p')
         join pg_namespace rn on rn.oid = r.relnamespace
         where rn.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
           and not (rn.nspname = $1
                    and (r.relname = any ($2) or coalesce(obj_description(r.oid, 'pg_class'), '') like 'threadline: %'))
         order by rn.nspname collate \"C\", r.relname collate \"C\", c.oid <> c.root, n.nspname collate \"C\", c.relname collate \"C\"",
    )
    .bind(storage.as_str())
    .bind([&owned_tables()[..], &[JOURNAL_TRIGGER]].concat())
    .fetch_all(connection)
    .await
}

/// All of the database, those that partitions have from their table included. Arguments are stored as bytes in the encoding of the
/// database, each with a zero behind it.
async fn triggers(connection: &mut PgConnection) -> Result<Vec<Trigger>, sqlx::Error> {
    sqlx::query_as(
        "select t.tgrelid::int8 as relation, t.tgname::text as name, t.tgenabled::text as state, t.tgparentid <> 0 as is_clone,
                t.tgtype as kind, t.tgqual is not null or t.tgattr::text <> '' as is_conditional,
                n.nspname::text as function_schema, p.proname::text as function,
                array(select convert_from(decode(a.hex[1], 'hex'), getdatabaseencoding())
                      from regexp_matches(encode(t.tgargs, 'hex'), '((?:(?!00)..)*)00', 'g') a (hex)) as arguments
         from pg_proc p
         join pg_namespace n on n.oid = p.pronamespace
         join pg_trigger t on t.tgfoid = p.oid
         where p.proname like 'threadline\\_capture\\_%'
         order by t.tgname collate \"C\"",
    )
    .fetch_all(connection)
    .await
}
