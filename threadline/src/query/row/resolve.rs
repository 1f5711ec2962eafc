//! Which row is meant: by the changes that there are, and by the catalog where these do not say it.

use std::collections::BTreeSet;

use sqlx::Row as _;

use super::super::{Filter, statement::Statement};
use super::{
    HostTable, Key, ReadError, Reader, Row, Table,
    image::RowKey,
    reading::Reading,
    source::{Source, of_source, push_sources},
};
use crate::nearest::nearest;

/// Changes that are visited for the columns of a key.
const VISITED: i64 = 1_000;

/// Names of columns that an error says at most.
const NAMED_MAX: usize = 32;

impl Reader {
    /// The row that a table and a key mean.
    ///
    /// A table without a schema is the one of that name that has changes, or else the one that is there. A key that is a value alone is
    /// of the column that the newest changes have as their key, or else of the primary key. Of a partitioned table, changes that the
    /// Elixir library has filed under the names of partitions belong to it, as far as these still are its partitions; of a partition,
    /// those that went through it.
    ///
    /// # Errors
    /// `table_unknown`, `table_ambiguous`, `key_mismatch`, and what the database says.
    pub async fn row(&self, table: &Table, key: &Key) -> Result<Row, ReadError> {
        let mut reading = Reading::begin(self, None).await?;
        let (name, sources) = reading.table(table).await?;
        let columns = reading.key_columns(&name, &sources).await?;
        let key = match key {
            Key::Value(value) => match columns.as_deref() {
                Some([column]) => RowKey::from([(column.clone(), value.clone())]),
                Some(columns) => return Err(key_mismatch(&name, columns)),
                None => return Err(key_unknown(&name)),
            },
            Key::Columns(given) => {
                let is_expected = columns.as_ref().is_none_or(|columns| {
                    columns.len() == given.len() && columns.iter().all(|column| given.contains_key(column))
                });
                // The columns of a key change in time.
                if !is_expected && !reading.has_key(&sources, &key.to_json()).await? {
                    return Err(key_mismatch(&name, columns.as_deref().unwrap_or_default()));
                }
                given.clone()
            }
        };
        Ok(Row { schema: name.schema, table: name.name, key, sources })
    }

    /// The table that is meant, and under which names its changes are filed.
    ///
    /// # Errors
    /// As [`Self::row`].
    pub async fn host_table(&self, table: &Table) -> Result<HostTable, ReadError> {
        Ok(Reading::begin(self, None).await?.table(table).await?.0)
    }

    /// Refuses a filter of a table that is not there and that no change is of: what it finds is nothing, which would look like an answer.
    ///
    /// # Errors
    /// `table_unknown`, and what the database says.
    pub async fn require_table(&self, filter: &Filter) -> Result<(), ReadError> {
        let Some(table) = &filter.table else { return Ok(()) };
        let mut reading = Reading::begin(self, None).await?;
        // Whether there are changes that a scope shows may take long to say, so it is asked last.
        let schemas = reading.schemas_of_catalog(&table.name).await?;
        if table.schema.as_ref().map_or(!schemas.is_empty(), |schema| schemas.contains(schema)) {
            return Ok(());
        }
        match reading.table(table).await {
            // A filter means all tables of the name; what cannot be found out in time is not refused.
            Err(error) if matches!(error.term(), Some("table_ambiguous" | "took_too_long")) => Ok(()),
            found => found.map(drop),
        }
    }
}

impl Reading<'_> {
    /// The table that is meant, and under which names its changes are filed.
    pub(super) async fn table(&mut self, table: &Table) -> Result<(HostTable, Vec<Source>), ReadError> {
        let schema = match &table.schema {
            Some(schema) => schema.clone(),
            None => self.schema_of(table).await?,
        };
        let name = HostTable { schema, name: table.name.clone() };
        let (is_there, sources) = self.sources(&name).await?;
        if !is_there && self.with_changes(&sources).await?.is_empty() {
            return Err(self.table_unknown(table).await?);
        }
        Ok((name, sources))
    }

    async fn schema_of(&mut self, table: &Table) -> Result<String, ReadError> {
        let name = table.name.as_str();
        let schemas = self.schemas_of_changes().await?;
        let sources: Vec<Source> = schemas.iter().map(|schema| Source::new(schema, name)).collect();
        let mut found: Vec<String> =
            self.with_changes(&sources).await?.into_iter().map(|source| source.schema).collect();
        if found.is_empty() {
            found = self.schemas_of_catalog(name).await?;
        }
        match <[String; 1]>::try_from(found) {
            Ok([schema]) => Ok(schema),
            Err(none) if none.is_empty() => Err(self.table_unknown(table).await?),
            Err(mut several) => {
                several.sort();
                let tables: Vec<String> = several.iter().map(|schema| format!("{schema}.{name}")).collect();
                let reason = format!("the table {name} is in several schemas: say {}", tables.join(" or "));
                Err(ReadError::unusable("table_ambiguous", reason))
            }
        }
    }

    /// Every schema with changes, from one to the next in an index.
    async fn schemas_of_changes(&mut self) -> Result<Vec<String>, ReadError> {
        let changes = self.reader.schema.table("audit_changes");
        let statement = Statement::new(format!(
            "with recursive schemas (name) as (
                 (select c.table_schema from {changes} c order by c.table_schema limit 1)
                 union all
                 select (select c.table_schema from {changes} c where c.table_schema > s.name order by c.table_schema limit 1)
                 from schemas s where s.name is not null)
             select name from schemas where name is not null"
        ));
        let rows = self.fetch_all(&statement).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn schemas_of_catalog(&mut self, name: &str) -> Result<Vec<String>, ReadError> {
        let mut statement = Statement::new(
            "select n.nspname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and c.relname = ",
        );
        statement.bind(name);
        let rows = self.fetch_all(&statement).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Those of the sources that have changes that can be seen.
    async fn with_changes(&mut self, sources: &[Source]) -> Result<Vec<Source>, ReadError> {
        let mut statement = Statement::new("select s.schema, s.name, s.partition from ");
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (select c.id");
        self.reader.push_visible(&mut statement);
        // In the order of the index of rows, so that it is taken: what is sought may stand anywhere.
        statement.push(of_source(sources)).push(" order by c.table_pk limit 1) c");
        let rows = self.fetch_all(&statement).await?;
        let source = |row: &sqlx::postgres::PgRow| {
            Ok(Source { schema: row.try_get(0)?, name: row.try_get(1)?, partition: row.try_get(2)? })
        };
        Ok(rows.iter().map(source).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Whether the table is in the catalog, and under which names its changes are filed: its own first.
    async fn sources(&mut self, name: &HostTable) -> Result<(bool, Vec<Source>), ReadError> {
        let mut statement = Statement::new(
            "select c.relispartition, rn.nspname::text, r.relname::text,
                    array(select ln.nspname::text from pg_catalog.pg_partition_tree(c.oid) p
                          join pg_catalog.pg_class l on l.oid = p.relid join pg_catalog.pg_namespace ln on ln.oid = l.relnamespace
                          where c.relkind = 'p' and p.isleaf order by p.relid),
                    array(select l.relname::text from pg_catalog.pg_partition_tree(c.oid) p
                          join pg_catalog.pg_class l on l.oid = p.relid where c.relkind = 'p' and p.isleaf order by p.relid)
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             left join pg_catalog.pg_class r on c.relispartition and r.oid = pg_catalog.pg_partition_root(c.oid)
             left join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
             where c.relkind in ('r', 'p') and n.nspname = ",
        );
        statement.bind(&name.schema).push(" and c.relname = ").bind(&name.name);
        let mut sources = vec![Source::new(&name.schema, &name.name)];
        let rows = self.fetch_all(&statement).await?;
        let Some(row) = rows.first() else { return Ok((false, sources)) };
        let is_partition: bool = row.try_get(0)?;
        let (schemas, names): (Vec<String>, Vec<String>) = (row.try_get(3)?, row.try_get(4)?);
        if is_partition
            && let (Some(schema), Some(root)) = (row.try_get::<Option<String>, _>(1)?, row.try_get(2)?)
        {
            let partition = format!("{}.{}", name.schema, name.name);
            sources.push(Source { schema, name: root, partition });
        }
        let leaves: Vec<Source> =
            schemas.iter().zip(&names).map(|(schema, name)| Source::new(schema, name)).collect();
        if !leaves.is_empty() {
            sources.extend(self.with_changes(&leaves).await?);
        }
        Ok((true, sources))
    }

    /// The columns of the key of a table; `None` where nothing says them.
    async fn key_columns(
        &mut self,
        name: &HostTable,
        sources: &[Source],
    ) -> Result<Option<Vec<String>>, ReadError> {
        let mut statement = Statement::new(
            "select array(select k.name from jsonb_object_keys(c.table_pk) k (name) order by k.name) from ",
        );
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (select c.* from (select c.*");
        self.reader.push_visible(&mut statement);
        statement
            // Otherwise the index of all changes is in order too, and may be taken.
            .push(" and c.table_name >= s.name and c.table_name <= s.name order by c.table_name desc, c.captured_at desc, c.id desc limit ")
            .bind(VISITED)
            .push(") c where jsonb_typeof(c.table_pk) = 'object' and c.table_pk <> '{}'::jsonb")
            .push(of_source(sources))
            .push(" order by c.table_name desc, c.captured_at desc, c.id desc limit 1) c order by c.captured_at desc limit 1");
        let rows = self.fetch_all(&statement).await?;
        if let Some(row) = rows.first() {
            return Ok(Some(row.try_get(0)?));
        }
        let mut statement = Statement::new(
            "select array_agg(a.attname::text order by a.attname) from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
             cross join unnest(i.indkey::int2[]) with ordinality k (number, n)
             join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
             where k.n <= i.indnkeyatts and n.nspname = ",
        );
        statement.bind(&name.schema).push(" and c.relname = ").bind(&name.name);
        let rows = self.fetch_all(&statement).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?.flatten())
    }

    /// That there is no such table, with the one that is probably meant: for whoever sees everything, since a name is something too.
    async fn table_unknown(&mut self, table: &Table) -> Result<ReadError, ReadError> {
        let known = if self.reader.scope().is_everything() { self.tables().await? } else { BTreeSet::new() };
        let remedy = match nearest(table.schema.as_deref(), &table.name, &known) {
            Some(near) => format!("is {near} meant?"),
            None => "say it as capture names it, SCHEMA.TABLE, in upper and lower case".to_owned(),
        };
        let reason = format!("there is no table {table}, and no change of one: {remedy}");
        Ok(ReadError::unusable("table_unknown", reason))
    }

    /// Whether a change under exactly this key can be seen.
    async fn has_key(&mut self, sources: &[Source], key: &str) -> Result<bool, ReadError> {
        let mut statement = Statement::new("select c.id from ");
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (select c.id");
        self.reader.push_visible(&mut statement);
        statement
            .push(of_source(sources))
            .push(" and c.table_pk = ")
            .bind(key)
            .push("::jsonb order by c.captured_at, c.id limit 1) c");
        Ok(!self.fetch_all(&statement).await?.is_empty())
    }
}

fn key_mismatch(table: &HostTable, columns: &[String]) -> ReadError {
    let names: Vec<&str> = columns.iter().take(NAMED_MAX).map(String::as_str).collect();
    let example: Vec<String> = names.iter().map(|name| format!("\"{name}\": \"…\"")).collect();
    let reason = format!(
        "a row of {table} has the key {}: say a text for each of these columns and for no other, {{{}}}",
        names.join(", "),
        example.join(", ")
    );
    ReadError::unusable("key_mismatch", reason)
}

fn key_unknown(table: &HostTable) -> ReadError {
    let reason = format!(
        "{table} has no primary key and no change that names a key: say the columns too, {{\"column\": \"…\"}}"
    );
    ReadError::unusable("key_mismatch", reason)
}
