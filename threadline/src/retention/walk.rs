//! In which order rows are visited. Each walk follows an index from a place on, so that no batch visits again what an earlier one has kept
//! or deleted.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{policy::Policy, record::Counts, windows::Windows};
use crate::{
    StorageSchema,
    capture::HostTable,
    continuity::{CAPTURE_DISABLED, recorded_tables},
    query::Statement,
};

/// Rows of one kind, up to a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) of: Of,
    /// What is not older is not visited.
    before: OffsetDateTime,
}

/// What is visited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Of {
    /// Changes of all tables.
    Changes,
    /// Changes of the tables of this name, in whatever schema.
    ChangesNamed(String),
    /// Captured transactions, of which those without changes go.
    Transactions,
    /// Actions, of which those go that no captured transaction is linked to.
    Actions,
}

/// A place in the order of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As PostgreSQL prints it.
    at: String,
    id: Uuid,
}

/// What a part of a walk has visited and deleted.
#[derive(Debug, Default)]
pub(super) struct Visited {
    pub(super) rows: u64,
    /// Where the next part begins.
    pub(super) last: Option<Place>,
    pub(super) deleted: Counts,
    /// Changes, by their tables.
    pub(super) tables: BTreeMap<HostTable, u64>,
    /// Captured transactions that changes were deleted of.
    pub(super) touched: Vec<Uuid>,
}

/// The walks of a run, in their order.
///
/// Where all tables are kept as long as others or shorter, everything behind the default cutoff goes: changes are visited in the order of
/// their times, which is mostly that of their places on disk. Where one is kept longer, what is kept of it would be visited in every run:
/// each table is visited by itself then.
pub(super) async fn walks(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    policy: &Policy,
    windows: &Windows,
) -> Result<Vec<Walk>, sqlx::Error> {
    let tables = recorded_tables(connection, storage).await?;
    Ok(planned(&tables, policy.deletes_empty_transactions, windows))
}

fn planned(tables: &[HostTable], deletes_empty: bool, windows: &Windows) -> Vec<Walk> {
    let keeps_longer = tables.iter().any(|table| windows.of(table).is_none_or(|own| own < windows.default));
    let mut names: BTreeMap<&str, OffsetDateTime> = BTreeMap::new();
    for table in tables {
        if let Some(own) = windows.of(table) {
            let before = names.entry(&table.name).or_insert(own);
            *before = own.max(*before);
        }
    }
    let mut walks = Vec::new();
    if !keeps_longer {
        walks.push(Walk { of: Of::Changes, before: windows.default });
        // What is left of these is younger.
        names.retain(|_, before| *before > windows.default);
    }
    walks.extend(
        names.into_iter().map(|(name, before)| Walk { of: Of::ChangesNamed(name.to_owned()), before }),
    );
    if deletes_empty {
        walks.push(Walk { of: Of::Transactions, before: windows.default });
    }
    walks.extend(windows.actions.map(|before| Walk { of: Of::Actions, before }));
    walks
}

impl Walk {
    /// The table that it deletes from.
    pub(super) fn table(&self) -> &'static str {
        match self.of {
            Of::Changes | Of::ChangesNamed(_) => "audit_changes",
            Of::Transactions => "audit_transactions",
            Of::Actions => "audit_actions",
        }
    }

    /// The statement that visits the next rows behind a place, `limit` at most, and deletes those that are to go. What somebody else has
    /// locked is left for a further run.
    pub(super) fn statement(
        &self,
        storage: &StorageSchema,
        windows: &Windows,
        after: Option<&Place>,
        limit: u32,
    ) -> Statement {
        let mut statement = Statement::new("with seen as materialized (select ");
        self.push_seen(storage, after, limit, &mut statement);
        statement.push("), due as materialized (");
        match self.of {
            Of::Changes | Of::ChangesNamed(_) => push_due_changes(storage, windows, &mut statement),
            Of::Transactions => {
                push_empty(storage, &mut statement, |statement| {
                    statement.push("array(select s.id from seen s)");
                });
            }
            Of::Actions => push_due_actions(storage, &mut statement),
        }
        let (table, returned) = match self.of {
            Of::Changes | Of::ChangesNamed(_) => {
                ("audit_changes", "r.transaction_id, r.table_schema, r.table_name")
            }
            Of::Transactions => ("audit_transactions", "r.id"),
            Of::Actions => ("audit_actions", "r.id"),
        };
        statement.push(&format!(
            "), deleted as (delete from {} r using due d where r.id = d.id returning {returned})
             select (select count(*) from seen), l.at, l.id, (select count(*) from deleted)",
            storage.table(table)
        ));
        if table == "audit_changes" {
            statement.push(
                ", array(select distinct d.transaction_id from deleted d), t.schemas, t.names, t.counts
                 from (select) one cross join lateral (
                     select coalesce(array_agg(g.schema), '{}') as schemas, coalesce(array_agg(g.name), '{}') as names,
                            coalesce(array_agg(g.count), '{}') as counts
                     from (select d.table_schema as schema, d.table_name as name, count(*) as count from deleted d group by 1, 2) g) t",
            );
        } else {
            statement.push(" from (select) one");
        }
        statement.push(
            " left join lateral (select s.at::text as at, s.id from seen s order by s.at desc, s.id desc limit 1) l on true",
        );
        statement
    }

    /// Pushes which rows are visited. Where a name leads, it is part of the comparison, and not a condition of its own: the server might
    /// otherwise follow the index of times, past everything of other tables.
    fn push_seen(
        &self,
        storage: &StorageSchema,
        after: Option<&Place>,
        limit: u32,
        statement: &mut Statement,
    ) {
        let (table, time) = match self.of {
            Of::Changes | Of::ChangesNamed(_) => ("audit_changes", "captured_at"),
            Of::Transactions => ("audit_transactions", "occurred_at"),
            Of::Actions => ("audit_actions", "inserted_at"),
        };
        let names = if table == "audit_changes" { ", r.table_schema, r.table_name" } else { "" };
        statement.push(&format!("r.id, r.{time} as at{names} from {} r where ", storage.table(table)));
        let comparison = if after.is_some() { ">" } else { ">=" };
        let first = Place { at: "-infinity".to_owned(), id: Uuid::nil() };
        let Place { at, id } = after.unwrap_or(&first);
        let name = if let Of::ChangesNamed(name) = &self.of { Some(name) } else { None };
        let column = name.map(|_| "r.table_name, ").unwrap_or_default();
        statement.push(&format!("({column}r.{time}, r.id) {comparison} ("));
        push_name(name, statement);
        statement.bind(at).push("::timestamptz, ").bind(*id).push(&format!(") and ({column}r.{time}) < ("));
        push_name(name, statement);
        statement
            .bind(self.before)
            .push(&format!(") order by {column}r.{time}, r.id limit "))
            .bind(i64::from(limit));
    }

    /// Of a row of [`Self::statement`].
    pub(super) fn visited(&self, row: &PgRow) -> Result<Visited, sqlx::Error> {
        let count = |index: usize| -> Result<u64, sqlx::Error> {
            Ok(row.try_get::<i64, _>(index)?.try_into().unwrap_or_default())
        };
        let (at, id): (Option<String>, Option<Uuid>) = (row.try_get(1)?, row.try_get(2)?);
        let mut visited = Visited {
            rows: count(0)?,
            last: at.zip(id).map(|(at, id)| Place { at, id }),
            ..Visited::default()
        };
        match self.of {
            Of::Transactions => visited.deleted.transactions = count(3)?,
            Of::Actions => visited.deleted.actions = count(3)?,
            Of::Changes | Of::ChangesNamed(_) => {
                visited.deleted.changes = count(3)?;
                visited.touched = row.try_get(4)?;
                let (schemas, names): (Vec<String>, Vec<String>) = (row.try_get(5)?, row.try_get(6)?);
                let counts: Vec<i64> = row.try_get(7)?;
                let tables = schemas.into_iter().zip(names).map(|(schema, name)| HostTable { schema, name });
                visited.tables = tables
                    .zip(counts.into_iter().map(|count| count.try_into().unwrap_or_default()))
                    .collect();
            }
        }
        Ok(visited)
    }
}

fn push_name(name: Option<&String>, statement: &mut Statement) {
    if let Some(name) = name {
        statement.bind(name).push(", ");
    }
}

/// Changes of `seen` that are older than their tables' windows.
fn push_due_changes(storage: &StorageSchema, windows: &Windows, statement: &mut Statement) {
    statement.push(&format!(
        "select c.id from {} c where c.id = any (array(
             select s.id from (select s.id, s.at as captured_at, s.table_schema, s.table_name from seen s) s",
        storage.table("audit_changes")
    ));
    windows.push_join("s", statement);
    statement.push(" where ");
    windows.push_due("s", statement);
    statement.push(")) for update of c skip locked");
}

/// Captured transactions among `ids` that have no change.
///
/// One whose number is that of a transaction that is running is left: in a database that was restored into another cluster, a trigger of
/// the Elixir library's files changes under whatever row has its number.
fn push_empty(storage: &StorageSchema, statement: &mut Statement, ids: impl FnOnce(&mut Statement)) {
    statement.push(&format!("select t.id from {} t where t.id = any (", storage.table("audit_transactions")));
    ids(statement);
    statement.push(&format!(
        ") and not exists (select from {} c where c.transaction_id = t.id) and {NOT_RUNNING} for update of t skip locked",
        storage.table("audit_changes")
    ));
}

/// That no running transaction has the number of the captured transaction `t`.
pub(super) const NOT_RUNNING: &str = "(t.txid & 281474976710655) <> all (array(
    select x.number::text::bigint & 281474976710655 from pg_snapshot_xip(pg_current_snapshot()) x (number)))";

/// Actions of `seen` that stand by themselves.
fn push_due_actions(storage: &StorageSchema, statement: &mut Statement) {
    statement.push(&format!(
        "select a.id from {} a where a.id = any (array(select s.id from seen s))
             and not exists (select from {} t where t.action_id = a.id) and a.name <> ",
        storage.actions(),
        storage.table("audit_transactions")
    ));
    // It says how triggers fired before: they are switched on again by it.
    statement.bind(CAPTURE_DISABLED).push(" for update of a skip locked");
}

/// The statement that deletes those of these captured transactions that have no change left.
pub(super) fn delete_empty(storage: &StorageSchema, touched: Vec<Uuid>) -> Statement {
    let mut statement = Statement::new("with due as materialized (");
    push_empty(storage, &mut statement, |statement| {
        statement.bind(touched);
    });
    statement.push(&format!(
        ") delete from {} r using due d where r.id = d.id",
        storage.table("audit_transactions")
    ));
    statement
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{capture::Refusal, retention::Keep};

    /// As names, `*` for all, with the day of the month before which they are visited.
    fn plan(policy: &Policy) -> Result<Vec<String>, Refusal> {
        let names = ["a.orders", "b.orders", "a.posts", "a.logs"];
        let tables = names.iter().map(|name| name.parse()).collect::<Result<Vec<HostTable>, _>>()?;
        let windows = Windows::new(policy, datetime!(2026-05-31 00:00 UTC), None)?;
        let walks = planned(&tables, policy.deletes_empty_transactions, &windows);
        let name = |of: &Of| match of {
            Of::Changes => "*".to_owned(),
            Of::ChangesNamed(name) => name.clone(),
            Of::Transactions => "transactions".to_owned(),
            Of::Actions => "actions".to_owned(),
        };
        Ok(walks.iter().map(|walk| format!("{} {}", name(&walk.of), walk.before.day())).collect())
    }

    #[test]
    fn tables_are_visited_one_by_one_where_one_is_kept_longer() -> Result<(), Refusal> {
        let policy = Policy::new(Keep::days(10)?)?;
        assert_eq!(plan(&policy)?, ["* 21", "transactions 21"]);
        let shorter = policy.clone().table("a.logs".parse()?, Keep::days(2)?).actions(Keep::days(5)?);
        assert_eq!(plan(&shorter)?, ["* 21", "logs 29", "transactions 21", "actions 26"]);
        let absent = policy.clone().table("a.nowhere".parse()?, Keep::Forever);
        assert_eq!(plan(&absent)?, ["* 21", "transactions 21"]);
        let longer =
            policy.clone().table("a.logs".parse()?, Keep::Forever).table("a.posts".parse()?, Keep::days(20)?);
        assert_eq!(plan(&longer)?, ["orders 21", "posts 11", "transactions 21"]);
        // Two tables of one name are one walk, as far as the younger of both windows.
        let namesakes = policy.delete_empty_transactions(false).table("b.orders".parse()?, Keep::Forever);
        assert_eq!(plan(&namesakes)?, ["logs 21", "orders 21", "posts 21"]);
        Ok(())
    }
}
