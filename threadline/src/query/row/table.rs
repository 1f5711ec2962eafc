//! A whole table as it was at a time.

use std::time::Duration;

use serde::Serialize;
use sqlx::Row as _;

use super::super::{PAGE_SIZE_MAX, page::check_size, statement::Statement};
use super::{
    AsOf, At, ReadError, Reader, Row, Table,
    entry::{Change, Json},
    image::{self, RowKey},
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// Keys that are visited for a page at most: rows of a table that were deleted are keys too.
pub const TABLE_VISITED_MAX: usize = 20_000;

/// Keys that are read at once.
const AT_ONCE: usize = 500;

/// Which rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePage {
    /// Rows at most, 1 to [`PAGE_SIZE_MAX`].
    pub size: u16,
    /// The key that the page begins behind: [`TableAsOf::next`] of the page before.
    pub after: Option<RowKey>,
    /// Time for it.
    pub time: Duration,
}

impl Default for TablePage {
    fn default() -> Self {
        Self { size: PAGE_SIZE_MAX, after: None, time: Duration::from_secs(5) }
    }
}

/// Rows of a table as they were, in the order of their keys as PostgreSQL orders documents.
#[derive(Debug, Clone, Serialize)]
pub struct TableAsOf {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The rows that were there.
    pub rows: Vec<RowAsOf>,
    /// For the next page; `None` on the last one. It is there without a full page where very many rows had been deleted.
    pub next: Option<RowKey>,
}

/// A row that was there.
#[derive(Debug, Clone, Serialize)]
pub struct RowAsOf {
    /// Its key.
    pub key: RowKey,
    /// All of it, as PostgreSQL prints it.
    pub image: Json,
    /// Columns of type `json` or `jsonb` that were null in SQL.
    pub sql_nulls: Vec<String>,
    /// What made it so.
    pub change: Box<Change>,
}

impl Reader {
    /// The rows of a table at a time, as far as their changes are known and can be seen. What was deleted by then, emptied with its
    /// table, or had another key, is not among them.
    ///
    /// # Errors
    /// `table_unknown`, `table_ambiguous`, `page_size`, `took_too_long`, and what the database says.
    pub async fn table_as_of(
        &self,
        table: &Table,
        at: &At,
        page: &TablePage,
    ) -> Result<TableAsOf, ReadError> {
        check_size(page.size, "rows")?;
        let mut reading = Reading::begin(self, Some(page.time)).await?;
        let (name, sources) = reading.table(table).await?;
        let truncates = reading.truncates(&sources, None, at).await?;
        let any = Row { schema: name.schema.clone(), table: name.name.clone(), key: RowKey::new(), sources };
        let size = usize::from(page.size);
        let mut answer = TableAsOf { schema: name.schema, table: name.name, rows: Vec::new(), next: None };
        let mut after = page.after.as_ref().map(image::key_json);
        let mut visited = 0;
        loop {
            let keys = reading.keys(&any.sources, after.as_deref(), AT_ONCE.min(size + 1)).await?;
            let is_last = keys.len() < AT_ONCE.min(size + 1);
            visited += keys.len();
            after = keys.last().cloned().or(after);
            let heads = reading.heads(&any.sources, &keys, at).await?;
            for (key, head) in keys.iter().zip(heads) {
                let Some(key) = row_key(key) else { continue };
                let row = any.with_key(key);
                let as_of = reading.as_of_head(&row, head, &truncates, at).await?;
                let AsOf::Present { image, sql_nulls, change } = as_of else { continue };
                if answer.rows.len() == size {
                    answer.next = answer.rows.last().map(|last| last.key.clone());
                    return Ok(answer);
                }
                answer.rows.push(RowAsOf { key: row.key, image, sql_nulls, change });
            }
            if is_last {
                return Ok(answer);
            }
            if visited >= TABLE_VISITED_MAX {
                answer.next = after.as_deref().and_then(row_key);
                return Ok(answer);
            }
        }
    }

    /// The statement that [`Self::table_as_of`] finds keys with.
    pub(super) fn keys_statement(&self, sources: &[Source], after: Option<&str>, limit: usize) -> Statement {
        // From each key to the next one, in the index of rows: changes between them are not visited.
        let next = |statement: &mut Statement, after: &dyn Fn(&mut Statement)| {
            statement.push("select x.table_pk from ");
            push_sources(sources, statement);
            statement.push(" cross join lateral (select c.table_pk");
            self.push_visible(statement);
            statement.push(of_source(sources)).push(" and c.table_pk > ");
            after(statement);
            statement.push(" order by c.table_pk limit 1) x order by x.table_pk limit 1");
        };
        let mut statement = Statement::new("with recursive keys (key) as ((");
        // Keys that capture could not tell come first.
        next(&mut statement, &|statement| {
            statement.bind(after.unwrap_or("{}")).push("::jsonb");
        });
        statement.push(") union all select (");
        next(&mut statement, &|statement| {
            statement.push("k.key");
        });
        statement.push(
            ") from keys k where k.key is not null) select key::text from keys where key is not null limit ",
        );
        statement.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        statement
    }
}

impl Reading<'_> {
    /// The next keys of changes, as they are stored, in their order.
    pub(super) async fn keys(
        &mut self,
        sources: &[Source],
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let statement = self.reader.keys_statement(sources, after, limit);
        let rows = self.fetch_all(&statement).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }
}

pub(super) fn row_key(json: &str) -> Option<RowKey> {
    serde_json::from_str(json).ok().filter(|key: &RowKey| !key.is_empty())
}
