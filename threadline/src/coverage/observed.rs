//! What the catalog says of the host's tables: one statement for all tables, one for all triggers.

use std::collections::HashMap;

use sqlx::{FromRow, PgConnection};

use crate::{
    StorageSchema,
    capture::{
        HostTable,
        trigger::{self, CaptureTrigger, Event},
    },
    install::owned_tables,
    schema::JOURNAL_TRIGGER,
};

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
    pub(super) triggers: Vec<CaptureTrigger>,
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
        Event::OF_ROWS.iter().all(|event| {
            self.captures().any(|one| {
                one.sees_all_writers()
                    && one.fires_after(*event)
                    && (one.is_for_rows() || !self.is_partition())
            })
        })
    }

    /// Triggers that record changes of rows.
    pub(super) fn captures(&self) -> impl Iterator<Item = &CaptureTrigger> {
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
    let mut triggers: HashMap<i64, Vec<CaptureTrigger>> = HashMap::new();
    for trigger in trigger::all(connection, storage).await? {
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

/// Names of all tables and partitions, a partition with its table; not those of the timeline and of the pipeline.
pub(crate) async fn host_tables(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Vec<(HostTable, Option<HostTable>)>, sqlx::Error> {
    let mut root = None;
    let relations = relations(connection, storage).await?.into_iter();
    let named = relations.map(|relation| {
        if relation.is_partition() {
            return (relation.table(), root.clone());
        }
        root = Some(relation.table());
        (relation.table(), None)
    });
    Ok(named.collect())
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
    .persistent(false)
    .bind(storage.as_str())
    .bind([&owned_tables()[..], &[JOURNAL_TRIGGER]].concat())
    .fetch_all(connection)
    .await
}
