//! The rows of a person in a table: a walk over the table's changes that only reads.

use std::{collections::BTreeSet, time::Duration};

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    error::ErasureError,
    step::{Place, Subject},
};
use crate::{
    Timeline,
    batches::settle,
    capture::{HostTable, Refusal},
    query::{
        Reader, Statement, TableChanges, limit_time,
        row::{KEY_BEFORE, Row},
    },
};

/// Keys of rows of a person in one table.
const KEYS_MAX: usize = 100_000;

/// Changes that one statement visits.
const VISITED: i64 = 2_000;

/// A search for the rows of a person.
pub(super) struct Search<'s> {
    pub(super) timeline: &'s Timeline,
    pub(super) table: &'s HostTable,
    pub(super) subject: &'s Subject,
    /// Those that are erased.
    pub(super) columns: &'s [String],
    pub(super) run: Uuid,
    /// Of a statement.
    pub(super) time: Duration,
}

/// What a search has found.
#[derive(Default)]
struct Found {
    keys: BTreeSet<String>,
    /// Columns that no change has held yet.
    unseen: BTreeSet<String>,
    /// Whether a change holds a row.
    has_image: bool,
    /// Whether a key was changed.
    has_key_changes: bool,
}

impl Search<'_> {
    /// The keys of rows that name the person, or did so until this run erased that, and those that such a row got later.
    pub(super) async fn keys(&self, changes: &TableChanges) -> Result<BTreeSet<String>, ErasureError> {
        let columns = self.columns.iter().chain([&self.subject.column]);
        let mut found = Found { unseen: columns.cloned().collect(), ..Found::default() };
        loop {
            let known = found.keys.len();
            for changes in changes.each() {
                self.walk(&changes, &mut found).await?;
            }
            // A key may have been changed at a time before the one at which its row is known to be the person's.
            if !found.has_key_changes || found.keys.len() == known {
                break;
            }
        }
        self.check(&found).await?;
        Ok(found.keys)
    }

    async fn walk(&self, changes: &TableChanges, found: &mut Found) -> Result<(), ErasureError> {
        let mut after: Option<Place> = None;
        loop {
            let statement = self.visit(changes, &found.unseen, after.as_ref());
            let begin = "begin transaction isolation level repeatable read, read only";
            let mut transaction = self.timeline.pool().begin_with(begin).await?;
            settle(&mut transaction, self.time).await?;
            limit_time(&mut transaction, self.time).await?;
            let row = statement.query().fetch_one(&mut *transaction).await?;
            transaction.rollback().await?;
            found.keys.extend(row.try_get::<Vec<String>, _>(3)?);
            let (befores, keys): (Vec<String>, Vec<String>) = (row.try_get(4)?, row.try_get(5)?);
            for (before, key) in befores.into_iter().zip(keys) {
                found.has_key_changes = true;
                if found.keys.contains(&before) {
                    found.keys.insert(key);
                }
            }
            for seen in row.try_get::<Vec<String>, _>(6)? {
                found.unseen.remove(&seen);
            }
            found.has_image |= row.try_get::<bool, _>(7)?;
            if found.keys.len() > KEYS_MAX {
                let reason = format!("more than {KEYS_MAX} rows of {} name that person", self.table);
                let hint = "name a subject column that fewer rows hold";
                return Err(Refusal::new("too_many_rows", reason).hint(hint).into());
            }
            let (at, id): (Option<String>, Option<Uuid>) = (row.try_get(1)?, row.try_get(2)?);
            after = at.zip(id).map(|(at, id)| Place { at, id }).or(after);
            if row.try_get::<i64, _>(0)? < VISITED {
                return Ok(());
            }
        }
    }

    /// The next changes of a table in the order of their times: keys of those that name the person, keys that were changed, and columns.
    fn visit(&self, changes: &TableChanges, unseen: &BTreeSet<String>, after: Option<&Place>) -> Statement {
        let comparison = if after.is_some() { ">" } else { ">=" };
        let first = Place { at: "-infinity".to_owned(), id: Uuid::nil() };
        let Place { at, id } = after.unwrap_or(&first);
        let mut statement = Statement::new(
            "with seen as materialized (select c.id, c.captured_at as at, ours.*, case when ours.is_ours then ",
        );
        statement.push("array(select u.name from unnest(").bind(unseen.iter().cloned().collect::<Vec<_>>());
        statement.push(
            "::text[]) u (name) where c.data_after ? u.name or c.data_before ? u.name or c.changed_from ? u.name or c.table_pk ? u.name)
             end as names, ours.is_ours and coalesce(c.data_after, c.data_before) is not null as has_image,
             case when ours.is_ours and c.table_pk <> '{}' then c.table_pk::text end as key,
             case when ours.is_ours and c.table_pk <> '{}' then ",
        );
        statement.push(KEY_BEFORE).push(" end as before, coalesce(");
        self.subject.push_names("c", &mut statement);
        statement.push(" or c.erased ->> 'run' = ").bind(self.run.to_string());
        statement.push(&format!(
            ", false) as is_named from {} c cross join lateral (select exists (select from ",
            self.timeline.schema().table("audit_changes")
        ));
        changes.push_sources(&mut statement);
        statement.push(&format!(
            " where true{}) as is_ours) ours where (c.table_name, c.captured_at, c.id) {comparison} (",
            changes.of_source()
        ));
        statement.bind(changes.name()).push(", ").bind(at).push("::timestamptz, ").bind(*id);
        statement.push(") and (c.table_name) <= (").bind(changes.name());
        statement.push(") order by c.table_name, c.captured_at, c.id limit ").bind(VISITED).push(
            ") select (select count(*) from seen), l.at, l.id,
                      array(select distinct s.key from seen s where s.key is not null and s.is_named),
                      array(select s.before from seen s where s.before <> s.key order by s.at, s.id),
                      array(select s.key from seen s where s.before <> s.key order by s.at, s.id),
                      array(select distinct n.name from seen s cross join lateral unnest(s.names) n (name)),
                      (select coalesce(bool_or(s.has_image), false) from seen s)
              from (select) one
              left join lateral (select s.at::text as at, s.id from seen s order by s.at desc, s.id desc limit 1) l on true",
        );
        statement
    }

    /// Refuses columns that there are not: values would stay where they are, and nobody would hear of it.
    async fn check(&self, found: &Found) -> Result<(), ErasureError> {
        let Self { table, subject: Subject { column, .. }, .. } = self;
        if found.has_image && found.unseen.contains(column) {
            let reason =
                format!("no change of {table} holds the column {column}, which is to say whose row it is");
            let hint = "name a subject column that is captured, and not excluded";
            return Err(Refusal::new("column_unknown", reason).hint(hint).into());
        }
        let unseen: Vec<&String> = found.unseen.iter().filter(|name| *name != column).collect();
        let mut transaction = self.timeline.pool().begin().await?;
        for name in unseen {
            let statement = is_there(table, name);
            if !statement.query().fetch_one(&mut *transaction).await?.try_get::<bool, _>(0)? {
                return Err(unknown(table, name).into());
            }
        }
        transaction.rollback().await?;
        Ok(())
    }
}

/// Refuses columns that neither the table nor a change of the row has.
pub(super) async fn check_columns(
    reader: &Reader,
    row: &Row,
    columns: &[String],
) -> Result<(), ErasureError> {
    for name in columns {
        if !reader.has_column(row, name, is_there(&row.table(), name)).await? {
            return Err(unknown(&row.table(), name).into());
        }
    }
    Ok(())
}

fn unknown(table: &HostTable, name: &str) -> Refusal {
    Refusal::new("column_unknown", format!("{table} has no column {name}, and no change says one"))
        .hint("say its name as the table has it, in upper and lower case")
}

/// Whether a table of the database has a column.
fn is_there(table: &HostTable, name: &str) -> Statement {
    let mut statement = Statement::new(
        "select exists (select from pg_catalog.pg_attribute a
                        join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                        where a.attnum > 0 and not a.attisdropped and n.nspname = ",
    );
    statement.bind(&table.schema).push(" and c.relname = ").bind(&table.name);
    statement.push(" and a.attname = ").bind(name).push(")");
    statement
}
