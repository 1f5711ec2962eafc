//! When tables and partitions were emptied.

use super::super::statement::Statement;
use super::{
    At, ReadError, Reader, Row,
    entry::{self, ACTION, CHANGE, Change, TRANSACTION},
    heads::place,
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// Truncates that are listed.
pub const TRUNCATES_MAX: i64 = 20;

/// The newest truncates of a table, one for each of its partitions and one for all of it.
#[derive(Debug)]
pub(super) struct Truncates {
    changes: Vec<Change>,
    /// The table, where it has partitions that changes are filed under, too.
    partitioned: Option<Source>,
}

impl Reading<'_> {
    /// Those up to a time, and from that of a change on where one is said.
    pub(super) async fn truncates(
        &mut self,
        sources: &[Source],
        from: Option<&Change>,
        at: &At,
    ) -> Result<Truncates, ReadError> {
        let statement = self.reader.truncates_statement(sources, from, at);
        let rows = self.fetch_all(&statement).await?;
        let changes = rows.iter().map(entry::change).collect::<Result<_, _>>()?;
        let of_partition = sources.iter().find(|source| !source.partition.is_empty());
        let partitioned = of_partition.or(sources.first().filter(|_| sources.len() > 1)).cloned();
        Ok(Truncates { changes, partitioned })
    }
}

impl Reader {
    /// When the table of a row was emptied, and who did it: the newest truncates, [`TRUNCATES_MAX`] at most, the newest of them first.
    ///
    /// # Errors
    /// What the database says.
    pub async fn truncates(&self, row: &Row) -> Result<Vec<Change>, ReadError> {
        let mut statement = Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION} from "));
        push_sources(&row.sources, &mut statement);
        statement.push(" cross join lateral (select c.*");
        self.push_visible(&mut statement);
        statement
            .push(of_source(&row.sources))
            .push(" and c.table_pk = '{}'::jsonb and c.op = 'truncate' order by c.captured_at desc, c.id desc limit ")
            .bind(TRUNCATES_MAX)
            .push(") c");
        self.scope.push_joins(&self.schema, &mut statement);
        statement.push(" order by c.captured_at desc, c.id desc limit ").bind(TRUNCATES_MAX);
        let rows = Reading::begin(self, None).await?.fetch_all(&statement).await?;
        Ok(rows.iter().map(entry::change).collect::<Result<_, _>>()?)
    }

    pub(super) fn truncates_statement(
        &self,
        sources: &[Source],
        from: Option<&Change>,
        at: &At,
    ) -> Statement {
        // What was recorded of a partition itself, may be emptied with its table.
        let tables: Vec<Source> =
            sources.iter().map(|source| Source::new(&source.schema, &source.name)).collect();
        let mut statement = Statement::new(format!(
            "select distinct on (c.table_schema, c.table_name, c.partition) {CHANGE}, {TRANSACTION}, {ACTION} from "
        ));
        push_sources(&tables, &mut statement);
        statement.push(" cross join lateral (select c.*");
        self.push_visible(&mut statement);
        statement
            .push(of_source(&tables))
            .push(" and c.table_pk = '{}'::jsonb and c.op = 'truncate' and c.captured_at <= ")
            .bind(at.as_str())
            .push("::timestamptz");
        if let Some(from) = from {
            statement.push(" and c.captured_at >= ").bind(&from.captured_text).push("::timestamptz");
        }
        statement.push(" offset 0) c");
        self.scope.push_joins(&self.schema, &mut statement);
        statement.push(
            " order by c.table_schema, c.table_name, c.partition, c.captured_at desc, c.position desc, c.id desc",
        );
        statement
    }
}

impl Truncates {
    /// The newest one that emptied what this change is of, whether before or after it.
    pub(super) fn of(&self, change: &Change) -> Option<&Change> {
        self.changes
            .iter()
            .filter(|truncate| self.empties(truncate, change))
            .max_by_key(|truncate| place(truncate))
    }

    fn empties(&self, truncate: &Change, change: &Change) -> bool {
        let is_of_table =
            truncate.table_schema == change.table_schema && truncate.table_name == change.table_name;
        let is_of_partitioned = self
            .partitioned
            .as_ref()
            .is_some_and(|table| truncate.table_schema == table.schema && truncate.table_name == table.name);
        match &truncate.partition {
            None if is_of_table => true,
            // Changes of a partition, under its own name: whatever empties its table empties it.
            None => is_of_partitioned,
            Some(partition) if is_of_table => change.partition.as_ref() == Some(partition),
            Some(partition) => *partition == format!("{}.{}", change.table_schema, change.table_name),
        }
    }
}
