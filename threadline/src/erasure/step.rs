//! What is visited, in which order, and what is erased of it.

use uuid::Uuid;

use super::{
    named::{Named, push_holds},
    scrub::{Part, Visited, What},
};
use crate::{
    ActorRef,
    export::EXPORTED,
    query::{Reader, RowChanges, Statement, TableChanges, push_where_actor, row::push_not_since},
};

/// Keys whose changes one step visits.
pub(super) const KEYS: usize = 50;

/// A part of a pass: rows that are visited in the order of their times and ids.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) of: Of,
    pub(super) what: What,
}

/// Which rows.
#[derive(Debug, Clone)]
pub(super) enum Of {
    /// The changes of a row. Where its key goes, all but those by which it was changed: these lead to the others, and go last.
    Row { changes: RowChanges, keeps_links: bool },
    /// Those by which the key was changed: all at once, whatever a batch has.
    Links(Vec<Uuid>),
    /// Changes of these keys of a table, one of which names a person: what others have made of the row later may hold the same values.
    Keys { changes: TableChanges, keys: Vec<String> },
    /// Changes without a key that name a person.
    Keyless { changes: TableChanges, subject: Subject },
    /// Captured transactions.
    Transactions(ActorRef),
    /// Actions, events that were projected too.
    Actions(ActorRef),
    /// Actions of others that say in their comments which part of the timeline was exported.
    Exports(Named),
    /// A table that is about the audit itself.
    Side { side: &'static Side, named: Named },
}

/// How rows name a person.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) column: String,
    pub(super) value: String,
}

/// A table with an actor, and documents that may name one.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) table: &'static str,
    pub(super) documents: &'static [&'static str],
}

/// Those that there are.
pub(super) static SIDES: [Side; 5] = [
    Side { table: "threadline_evidence_records", documents: &["subject_ref", "detail"] },
    Side { table: "threadline_export_jobs", documents: &["query_params", "request"] },
    Side { table: "threadline_export_schedules", documents: &["query_params", "request"] },
    Side { table: "threadline_saved_views", documents: &["filters"] },
    Side { table: "threadline_erasures", documents: &[] },
];

/// A place in the order of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As PostgreSQL prints it.
    pub(super) at: String,
    pub(super) id: Uuid,
}

impl Step {
    /// The table that it writes to.
    pub(super) fn table(&self) -> &'static str {
        match &self.of {
            Of::Row { .. } | Of::Links(_) | Of::Keys { .. } | Of::Keyless { .. } => "audit_changes",
            Of::Transactions(_) => "audit_transactions",
            Of::Actions(_) | Of::Exports(_) => "audit_actions",
            Of::Side { side, .. } => side.table,
        }
    }

    /// Pushes which rows are visited behind a place, as `id` and `at`.
    pub(super) fn push_seen(
        &self,
        reader: &Reader,
        Part { after, begun, limit, .. }: Part<'_>,
        statement: &mut Statement,
    ) {
        let table = reader.schema().table(self.table());
        match &self.of {
            Of::Row { changes, .. } => {
                let after = after.map(|place| (place.at.as_str(), place.id));
                reader.push_changes_of_row(changes, after, Some(begun), limit, statement);
            }
            Of::Links(ids) => {
                statement
                    .push(&format!("select c.id, c.captured_at as at from {table} c where c.id = any ("));
                statement.bind(ids.clone()).push("::uuid[])");
            }
            Of::Keys { changes, keys, .. } => {
                statement.push("select c.id, c.at from ");
                changes.push_sources(statement);
                statement.push(" cross join unnest(").bind(keys.clone()).push(&format!(
                    "::text[]) k (key) cross join lateral (select c.id, c.captured_at as at from {table} c where true{}
                      and c.table_pk = k.key::jsonb",
                    changes.of_source()
                ));
                push_behind("captured_at", after, begun, statement);
                statement.push(" order by c.captured_at, c.id limit ").bind(limit).push(") c where true");
                push_ordered("at", limit, statement);
            }
            Of::Keyless { changes, .. } => {
                statement.push("select c.id, c.at from ");
                changes.push_sources(statement);
                statement.push(&format!(
                    " cross join lateral (select c.id, c.captured_at as at from {table} c where true{} and c.table_pk = '{{}}'::jsonb",
                    changes.of_source()
                ));
                push_behind("captured_at", after, begun, statement);
                statement.push(" order by c.captured_at, c.id limit ").bind(limit).push(") c where true");
                push_ordered("at", limit, statement);
            }
            Of::Transactions(actor) | Of::Actions(actor) => {
                let time = if self.table() == "audit_actions" { "inserted_at" } else { "occurred_at" };
                statement.push(&format!("select c.id, c.{time} as at from {table} c"));
                push_where_actor("c", actor, statement);
                push_behind(time, after, begun, statement);
                push_ordered(time, limit, statement);
            }
            Of::Exports(_) => {
                statement.push(&format!("select c.id, c.inserted_at as at from {table} c where c.name = "));
                statement.bind(EXPORTED);
                push_behind("inserted_at", after, begun, statement);
                push_ordered("inserted_at", limit, statement);
            }
            Of::Side { .. } => {
                statement
                    .push(&format!("select c.id, '-infinity'::timestamptz as at from {table} c where true"));
                if let Some(Place { id, .. }) = after {
                    statement.push(" and c.id > ").bind(*id);
                }
                statement.push(" order by c.id limit ").bind(limit);
            }
        }
    }

    /// Whether there is nothing behind what a part of so many rows at most has visited.
    pub(super) fn is_end(&self, visited: &Visited, limit: u32) -> bool {
        let is_whole = matches!(self.of, Of::Links(_));
        is_whole || visited.rows < u64::from(limit) || visited.last.is_none()
    }

    /// Pushes which of the rows `c` that were visited are due, beginning with `and`.
    pub(super) fn push_due(&self, statement: &mut Statement) {
        match &self.of {
            Of::Row { changes, keeps_links: true } => {
                statement.push(" and c.id <> all (").bind(changes.links.clone()).push("::uuid[])");
            }
            Of::Keyless { subject, .. } => {
                statement.push(" and ");
                subject.push_names("c", statement);
            }
            Of::Exports(named) => {
                statement.push(" and ");
                push_holds("c.comment", &named.in_compact(), statement);
            }
            _ => {}
        }
    }
}

fn push_behind(time: &str, after: Option<&Place>, begun: &str, statement: &mut Statement) {
    push_not_since(time, begun, statement);
    if let Some(Place { at, id }) = after {
        statement.push(&format!(" and (c.{time}, c.id) > (")).bind(at).push("::timestamptz, ");
        statement.bind(*id).push(")");
    }
}

fn push_ordered(time: &str, limit: i64, statement: &mut Statement) {
    statement.push(&format!(" order by c.{time}, c.id limit ")).bind(limit);
}

impl Subject {
    /// Pushes that a change names the person.
    pub(super) fn push_names(&self, alias: &str, statement: &mut Statement) {
        statement.push("coalesce(");
        let columns = ["data_after", "data_before", "changed_from", "table_pk", "key_before"];
        for (number, column) in columns.iter().enumerate() {
            statement.push(if number == 0 { "" } else { " or " });
            // Null is neither here: one that is not there says nothing about the others.
            statement.push(&format!("coalesce({alias}.{column} ->> ")).bind(&self.column).push(", '') = ");
            statement.bind(&self.value);
        }
        statement.push(", false)");
    }
}
