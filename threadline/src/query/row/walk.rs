//! Changes of a row, or of a table, for whoever visits all of them in short transactions.

use std::time::Duration;

use uuid::Uuid;

use super::super::{Cursor, cursor::Point, statement::Statement};
use super::{
    HostTable, ReadError, Reader, Row, RowKey, Table,
    history::Part,
    lineage::Segment,
    reading::Reading,
    source::{Source, of_source, push_sources},
};

/// Which changes belong to a row, as its history has them.
#[derive(Debug, Clone)]
pub(crate) struct RowChanges {
    sources: Vec<Source>,
    segments: Vec<Segment>,
    /// The changes by which its key was changed.
    pub(crate) links: Vec<Uuid>,
    /// Whether its key was changed more often than was followed.
    pub(crate) has_more_keys: bool,
}

/// A table, and under which names its changes are filed.
#[derive(Debug, Clone)]
pub(crate) struct TableChanges {
    pub(crate) table: HostTable,
    sources: Vec<Source>,
}

impl Reader {
    /// The changes of every row that ever had this key, under each key that it had. A statement has this time.
    pub(crate) async fn changes_of_row(&self, row: &Row, time: Duration) -> Result<RowChanges, ReadError> {
        let lineage = self.lives(row, time).await?;
        let ends = |segment: &Segment| {
            [&segment.low, &segment.high].into_iter().flatten().map(|event| event.id).collect::<Vec<_>>()
        };
        let mut links: Vec<Uuid> = lineage.segments.iter().flat_map(ends).collect();
        links.sort_unstable();
        links.dedup();
        Ok(RowChanges {
            sources: row.sources.clone(),
            segments: lineage.segments,
            links,
            has_more_keys: lineage.has_more,
        })
    }

    /// The changes of a table.
    pub(crate) async fn changes_of_table(&self, table: &HostTable) -> Result<TableChanges, ReadError> {
        let named = Table { schema: Some(table.schema.clone()), name: table.name.clone() };
        let (table, sources) = Reading::begin(self, None).await?.table(&named).await?;
        Ok(TableChanges { table, sources })
    }

    /// Whether a statement says so, or a change of the row holds a column of this name.
    pub(crate) async fn has_column(
        &self,
        row: &Row,
        column: &str,
        is_there: Statement,
    ) -> Result<bool, ReadError> {
        use sqlx::Row as _;
        let mut reading = Reading::begin(self, None).await?;
        if let Some(row) = reading.fetch_all(&is_there).await?.first()
            && row.try_get(0)?
        {
            return Ok(true);
        }
        drop(reading);
        let of = self.changes_of_row(row, COLUMN_TIME).await?;
        for of in of.parts() {
            let mut held = Statement::new("select exists (select from (");
            self.push_changes_of_row(&of, None, None, i64::MAX, &mut held);
            held.push(&format!(") s join {} c on c.id = s.id where ", self.schema().table("audit_changes")));
            for (number, image) in
                ["data_after", "data_before", "changed_from", "table_pk"].iter().enumerate()
            {
                held.push(if number == 0 { "" } else { " or " }).push(&format!("c.{image} ? ")).bind(column);
            }
            held.push(")");
            let rows = Reading::begin(self, Some(COLUMN_TIME)).await?.fetch_all(&held).await?;
            if let Some(row) = rows.first()
                && row.try_get(0)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Pushes a query of the next changes of a row behind a place, as `id` and `at` in this order, but for those that have come since a time.
    pub(crate) fn push_changes_of_row(
        &self,
        of: &RowChanges,
        after: Option<(&str, Uuid)>,
        begun: Option<&str>,
        limit: i64,
        statement: &mut Statement,
    ) {
        let cursor = after.map(|(at, id)| Cursor { unit: None, entry: Point { at: at.to_owned(), id } });
        let part =
            Part { is_older: false, cursor: cursor.as_ref(), ends: (None, None), at: None, begun, limit };
        statement.push("select distinct on (c.captured_at, c.id) c.id, c.captured_at as at from ");
        push_sources(&of.sources, statement);
        statement.push(" cross join lateral (");
        for (number, segment) in of.segments.iter().enumerate() {
            statement.push(if number == 0 { "" } else { " union all " });
            self.push_segment(&of.sources, segment, "table_pk", &part, statement);
            if segment.has_departures {
                statement.push(" union all ");
                self.push_segment(&of.sources, segment, "key_before", &part, statement);
            }
        }
        statement.push(") c order by c.captured_at, c.id limit ").bind(limit);
    }
}

/// Keys of a part of the changes of a row: a statement that takes all of them together would be planned for long.
const PART: usize = 17;

/// How long a statement takes that looks for a column in changes of a row.
const COLUMN_TIME: Duration = Duration::from_secs(15);

impl RowChanges {
    /// The same in parts, a few keys each. Every one knows all links.
    pub(crate) fn parts(&self) -> Vec<Self> {
        let part = |segments: &[Segment]| Self { segments: segments.to_vec(), ..self.clone() };
        self.segments.chunks(PART).map(part).collect()
    }

    /// The keys that the row has had.
    pub(crate) fn keys(&self) -> Vec<RowKey> {
        self.segments.iter().map(|segment| segment.key.clone()).collect()
    }
}

impl TableChanges {
    /// Pushes its sources as rows `s` of schema, name and partition.
    pub(crate) fn push_sources(&self, statement: &mut Statement) {
        push_sources(&self.sources, statement);
    }

    /// That a change `c` is of the source `s`; begins with `and`.
    pub(crate) fn of_source(&self) -> &'static str {
        of_source(&self.sources)
    }

    /// Each name of it by itself.
    pub(crate) fn each(&self) -> impl Iterator<Item = Self> {
        let one = |source: &Source| Self { table: self.table.clone(), sources: vec![source.clone()] };
        self.sources.iter().map(one)
    }

    /// The name of the table in the changes of the first source.
    pub(crate) fn name(&self) -> &str {
        self.sources.first().map_or(&self.table.name, |source| &source.name)
    }
}
