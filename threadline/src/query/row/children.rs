//! What belonged to a row at a time, through foreign keys.

use std::{collections::HashSet, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use serde::Serialize;
use sqlx::Row as _;

use super::super::statement::Statement;
use super::{
    AsOf, At, HostTable, ReadError, Reader, Row, Table,
    image::{self, Fields, RowKey},
    reading::Reading,
    source::{Source, of_source, push_sources},
    table::row_key,
};

/// Rows of one table that are shown with a row, unless said otherwise.
pub const CHILDREN_MAX: usize = 100;

/// The time for it, unless said otherwise.
pub const CHILDREN_TIME: Duration = Duration::from_secs(5);

/// Foreign keys that are followed one after another at most.
pub const DEPTH_MAX: u8 = 3;

/// Keys that are read at once.
const AT_ONCE: i64 = 500;

/// How much of what belongs to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildrenRequest {
    /// Rows of each table, for each row that they belong to, 1 to 1,000.
    pub size: usize,
    /// 1 for what refers to the row itself, up to [`DEPTH_MAX`].
    pub depth: u8,
    /// Time for all of it.
    pub time: Duration,
}

impl Default for ChildrenRequest {
    fn default() -> Self {
        Self { size: CHILDREN_MAX, depth: 1, time: CHILDREN_TIME }
    }
}

/// A row at a time, and what belonged to it.
#[derive(Debug, Clone, Serialize)]
pub struct RowWithChildren {
    /// The row.
    pub row: Row,
    /// What it was.
    pub as_of: AsOf,
    /// What referred to it; nothing where it was not there.
    pub children: Vec<Children>,
}

/// The rows of one table that referred to a row, through one foreign key.
#[derive(Debug, Clone, Serialize)]
pub struct Children {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The name of the foreign key.
    pub foreign_key: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Child>,
    /// Whether there were more.
    pub is_truncated: bool,
    /// Whether they cannot be found, since the referenced values are not captured.
    pub is_unknown: bool,
}

/// A row that referred to another one.
#[derive(Debug, Clone, Serialize)]
pub struct Child {
    /// The row.
    pub row: Row,
    /// What it was.
    pub as_of: AsOf,
    /// What referred to it. A row that stands elsewhere in the answer has its children there.
    pub children: Vec<Children>,
}

struct ForeignKey {
    name: String,
    table: HostTable,
    columns: Vec<String>,
    referenced: Vec<String>,
}

impl Reader {
    /// What a row was at a time, and the rows that referred to it then, through the foreign keys of today. Tables without a change are
    /// left out.
    ///
    /// # Errors
    /// `children_request`, `took_too_long`, and what the database says.
    pub async fn as_of_with_children(
        &self,
        row: &Row,
        at: &At,
        request: &ChildrenRequest,
    ) -> Result<RowWithChildren, ReadError> {
        if !(1..=1_000).contains(&request.size) || !(1..=DEPTH_MAX).contains(&request.depth) {
            let reason = format!("children are 1 to 1000 rows of a table, to a depth of 1 to {DEPTH_MAX}");
            return Err(ReadError::unusable("children_request", reason));
        }
        let mut reading = Reading::begin(self, Some(request.time)).await?;
        let as_of = reading.as_of(row, at).await?;
        let mut family =
            Family { at, size: request.size, seen: HashSet::from([(row.table(), row.key.clone())]) };
        let children = match as_of.image() {
            Some(image) => {
                family.children(&mut reading, &row.table(), &image::fields(image), request.depth).await?
            }
            None => Vec::new(),
        };
        Ok(RowWithChildren { row: row.clone(), as_of, children })
    }
}

/// What has been found of a row's.
struct Family<'a> {
    at: &'a At,
    size: usize,
    /// Rows that refer to one another in a circle are each there once.
    seen: HashSet<(HostTable, RowKey)>,
}

impl Family<'_> {
    /// What referred to a row of this table, with this image.
    fn children<'f>(
        &'f mut self,
        reading: &'f mut Reading<'_>,
        table: &'f HostTable,
        image: &'f Fields,
        depth: u8,
    ) -> BoxFuture<'f, Result<Vec<Children>, ReadError>> {
        async move {
            let mut all = Vec::new();
            for foreign_key in reading.foreign_keys(table).await? {
                let named = Table {
                    schema: Some(foreign_key.table.schema.clone()),
                    name: foreign_key.table.name.clone(),
                };
                let (_, sources) = reading.table(&named).await?;
                let is_captured = !reading.keys(&sources, None, 1).await?.is_empty();
                if !is_captured {
                    continue;
                }
                let mut children = self.referring(reading, foreign_key, sources, image).await?;
                for child in &mut children.rows {
                    let is_new = self.seen.insert((child.row.table(), child.row.key.clone()));
                    if depth > 1
                        && is_new
                        && let Some(image) = child.as_of.image()
                    {
                        let (table, image) = (child.row.table(), image::fields(image));
                        child.children = self.children(reading, &table, &image, depth - 1).await?;
                    }
                }
                all.push(children);
            }
            Ok(all)
        }
        .boxed()
    }

    /// The rows that had the values of a foreign key: all that ever had them are found, and those that had them then are kept.
    async fn referring(
        &self,
        reading: &mut Reading<'_>,
        foreign_key: ForeignKey,
        sources: Vec<Source>,
        image: &Fields,
    ) -> Result<Children, ReadError> {
        let ForeignKey { name, table, columns, referenced } = foreign_key;
        let values: Option<Fields> = columns
            .iter()
            .zip(&referenced)
            .map(|(column, referenced)| Some((column.clone(), image.get(referenced)?.clone())))
            .collect();
        let any =
            Row { schema: table.schema.clone(), table: table.name.clone(), key: RowKey::new(), sources };
        let mut children = Children {
            schema: table.schema,
            table: table.name,
            foreign_key: name,
            columns,
            rows: Vec::new(),
            is_truncated: false,
            is_unknown: values.is_none(),
        };
        let Some(values) = values.filter(|values| values.values().all(|value| value.get() != "null")) else {
            return Ok(children);
        };
        let truncates = reading.truncates(&any.sources, None, self.at).await?;
        let mut after = "{}".to_owned();
        loop {
            let keys = reading.candidates(&any.sources, &values, &after, self.at).await?;
            let is_last = i64::try_from(keys.len()).is_ok_and(|read| read < AT_ONCE);
            after = keys.last().cloned().unwrap_or(after);
            let heads = reading.heads(&any.sources, keys.clone(), self.at).await?;
            for (key, head) in keys.iter().zip(heads) {
                let Some(key) = row_key(key) else { continue };
                let row = any.with_key(key);
                let as_of = reading.as_of_head(&row, head, &truncates, self.at).await?;
                if !as_of.image().is_some_and(|image| has(&image::fields(image), &values)) {
                    continue;
                }
                if children.rows.len() == self.size {
                    children.is_truncated = true;
                    return Ok(children);
                }
                children.rows.push(Child { row, as_of, children: Vec::new() });
            }
            if is_last {
                return Ok(children);
            }
        }
    }
}

fn has(image: &Fields, values: &Fields) -> bool {
    values.iter().all(|(column, value)| image.get(column).is_some_and(|is| image::is_same(is, value)))
}

impl Reading<'_> {
    /// The foreign keys that refer to a table. Those of partitions are their table's.
    async fn foreign_keys(&mut self, table: &HostTable) -> Result<Vec<ForeignKey>, ReadError> {
        let mut statement = Statement::new(
            "select f.conname::text, n.nspname::text, c.relname::text,
                    array(select a.attname::text from unnest(f.conkey) with ordinality k (number, n)
                          join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number order by k.n),
                    array(select a.attname::text from unnest(f.confkey) with ordinality k (number, n)
                          join pg_catalog.pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.number order by k.n)
             from pg_catalog.pg_class r join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
             join pg_catalog.pg_constraint f on f.contype = 'f' and f.conparentid = 0
                  and f.confrelid in (r.oid, case when r.relispartition then pg_catalog.pg_partition_root(r.oid) end)
             join pg_catalog.pg_class c on c.oid = f.conrelid
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where rn.nspname = ",
        );
        statement
            .bind(&table.schema)
            .push(" and r.relname = ")
            .bind(&table.name)
            .push(" order by n.nspname, c.relname, f.conname");
        let rows = self.fetch_all(&statement).await?;
        let foreign_key = |row: &sqlx::postgres::PgRow| {
            Ok(ForeignKey {
                name: row.try_get(0)?,
                table: HostTable { schema: row.try_get(1)?, name: row.try_get(2)? },
                columns: row.try_get(3)?,
                referenced: row.try_get(4)?,
            })
        };
        Ok(rows.iter().map(foreign_key).collect::<Result<_, sqlx::Error>>()?)
    }

    /// Keys of rows that had these values at some time up to the one that is asked for. No index leads to them.
    async fn candidates(
        &mut self,
        sources: &[Source],
        values: &Fields,
        after: &str,
        at: &At,
    ) -> Result<Vec<String>, ReadError> {
        let columns: Vec<String> = values
            .iter()
            .map(|(column, value)| format!("{}:{}", serde_json::Value::from(column.as_str()), value.get()))
            .collect();
        let mut statement = Statement::new("select distinct c.table_pk, c.table_pk::text from ");
        push_sources(sources, &mut statement);
        statement.push(" cross join lateral (select distinct c.table_pk");
        self.reader.push_visible(&mut statement);
        statement
            .push(of_source(sources))
            .push(" and c.captured_at <= ")
            .bind(at.as_str())
            .push("::timestamptz and c.table_pk > ")
            .bind(after)
            .push("::jsonb and c.data_after @> ")
            .bind(format!("{{{}}}", columns.join(",")))
            .push("::jsonb order by c.table_pk limit ")
            .bind(AT_ONCE)
            .push(") c order by c.table_pk limit ")
            .bind(AT_ONCE);
        let rows = self.fetch_all(&statement).await?;
        Ok(rows.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?)
    }
}
