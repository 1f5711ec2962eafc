//! In which order rows are visited. Each walk follows an index from a place on, so that no batch visits again what an earlier one has kept
//! or deleted.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{partitions::Month, policy::Policy, record::Counts, windows::Windows};
use crate::{
    StorageSchema,
    capture::HostTable,
    continuity::CAPTURE_DISABLED,
    query::{Statement, recorded_tables, time_text},
};

/// Rows of one kind, between two times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) of: Of,
    /// What is older is not visited.
    pub(super) from: Option<OffsetDateTime>,
    /// What is not older is not visited.
    pub(super) before: OffsetDateTime,
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

/// Which rows of a walk a statement visits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seen<'a> {
    /// The next ones behind a place.
    Behind(Option<&'a Place>),
    /// These, of an archive.
    These(&'a [Uuid]),
}

/// What a part of a walk has visited and deleted.
#[derive(Debug, Default)]
pub(super) struct Visited {
    pub(super) rows: u64,
    /// Where the next part begins.
    pub(super) last: Option<Place>,
    pub(super) deleted: Counts,
    /// Rows that stay because they are no longer what their archive says.
    pub(super) changed: u64,
    /// Captured transactions that changes were deleted of.
    pub(super) touched: Vec<Uuid>,
}

/// The walks of a run, in their order, and the tables that there are changes of.
///
/// Where all tables are kept as long as others or shorter, everything behind the default cutoff goes: changes are visited in the order of
/// their times, which is mostly that of their places on disk. Where one is kept longer, what is kept of it would be visited in every run:
/// each table is visited by itself then.
pub(super) async fn walks(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    policy: &Policy,
    windows: &Windows,
) -> Result<(Vec<Walk>, Vec<HostTable>), sqlx::Error> {
    let tables = recorded_tables(connection, storage).await?;
    Ok((planned(&tables, policy.deletes_empty_transactions, windows), tables))
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
        walks.push(Walk::up_to(windows.default, Of::Changes));
        // What is left of these is younger.
        names.retain(|_, before| *before > windows.default);
    }
    walks.extend(
        names.into_iter().map(|(name, before)| Walk::up_to(before, Of::ChangesNamed(name.to_owned()))),
    );
    if deletes_empty {
        walks.push(Walk::up_to(windows.default, Of::Transactions));
    }
    walks.extend(windows.actions.map(|before| Walk::up_to(before, Of::Actions)));
    walks
}

impl Walk {
    fn up_to(before: OffsetDateTime, of: Of) -> Self {
        Self { of, from: None, before }
    }

    /// Its parts outside of these months, the oldest of which is the first. Captured transactions and actions are stored in no month.
    pub(super) fn beside(&self, months: &[Month]) -> Vec<Self> {
        if matches!(self.of, Of::Transactions | Of::Actions) {
            return vec![self.clone()];
        }
        let mut parts = Vec::new();
        let mut from = self.from;
        for month in months {
            parts.push(Self { from, before: month.from.min(self.before), ..self.clone() });
            from = Some(month.until);
        }
        parts.push(Self { from, ..self.clone() });
        parts.retain(|part| part.from.is_none_or(|from| from < part.before));
        parts
    }

    /// The table that it deletes from.
    pub(super) fn table(&self) -> &'static str {
        match self.of {
            Of::Changes | Of::ChangesNamed(_) => "audit_changes",
            Of::Transactions => "audit_transactions",
            Of::Actions => "audit_actions",
        }
    }

    /// The column that says when.
    pub(super) fn time(&self) -> &'static str {
        match self.of {
            Of::Changes | Of::ChangesNamed(_) => "captured_at",
            Of::Transactions => "occurred_at",
            Of::Actions => "inserted_at",
        }
    }

    /// The statement that visits rows, of those behind a place `limit` at most, and deletes those that are to go. What somebody else has locked
    /// is left for a further run.
    pub(super) fn statement(
        &self,
        storage: &StorageSchema,
        windows: &Windows,
        seen: Seen<'_>,
        limit: u32,
    ) -> Statement {
        let mut statement = Statement::new("with seen as materialized (select ");
        self.push_seen(storage, seen, limit, &mut statement);
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
    fn push_seen(&self, storage: &StorageSchema, seen: Seen<'_>, limit: u32, statement: &mut Statement) {
        let (table, time) = (self.table(), self.time());
        let names = if table == "audit_changes" { ", r.table_schema, r.table_name" } else { "" };
        statement.push(&format!("r.id, r.{time} as at{names} from {} r where ", storage.table(table)));
        let after = match seen {
            Seen::These(ids) => {
                statement.push("r.id = any (").bind(ids.to_vec());
                statement.push(&format!(") and r.{time} < ")).bind(self.before);
                return;
            }
            Seen::Behind(after) => after,
        };
        let comparison = if after.is_some() { ">" } else { ">=" };
        let first =
            Place { at: self.from.map_or_else(|| "-infinity".to_owned(), time_text), id: Uuid::nil() };
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
                let tables = schemas.into_iter().zip(names);
                let tables = tables.map(|(schema, name)| HostTable { schema, name }.to_string());
                visited.deleted.tables = tables
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

    #[test]
    fn the_parts_beside_months_are_everything_before_between_and_behind_them() {
        let month = |from, until| Month { name: String::new(), from, until };
        let march = month(datetime!(2026-03-01 00:00 UTC), datetime!(2026-04-01 00:00 UTC));
        let april = month(datetime!(2026-04-01 00:00 UTC), datetime!(2026-05-01 00:00 UTC));
        let july = month(datetime!(2026-07-01 00:00 UTC), datetime!(2026-08-01 00:00 UTC));
        let months = [march, april, july];
        let parts = |before, of| {
            let parts = Walk::up_to(before, of).beside(&months).into_iter();
            parts
                .map(|part| (part.from.map(|from| from.month() as u8), part.before.month() as u8))
                .collect::<Vec<_>>()
        };
        let named = || Of::ChangesNamed("posts".to_owned());
        assert_eq!(
            parts(datetime!(2026-09-15 00:00 UTC), Of::Changes),
            [(None, 3), (Some(5), 7), (Some(8), 9)]
        );
        assert_eq!(parts(datetime!(2026-06-15 00:00 UTC), named()), [(None, 3), (Some(5), 6)]);
        assert_eq!(parts(datetime!(2026-02-15 00:00 UTC), named()), [(None, 2)]);
        assert_eq!(parts(datetime!(2026-09-15 00:00 UTC), Of::Transactions), [(None, 9)]);
        assert_eq!(Walk::up_to(datetime!(2026-09-15 00:00 UTC), Of::Changes).beside(&[]).len(), 1);
    }
}
