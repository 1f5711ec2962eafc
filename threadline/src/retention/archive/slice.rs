//! What one archive holds: rows of one kind between two times, about as many as one file is to have. So a run that is killed has archived little
//! that it has not deleted, and one snapshot is never open for long.

use sqlx::{PgConnection, Row as _};
use time::{Duration, OffsetDateTime};

use crate::{
    StorageSchema,
    capture::HostTable,
    continuity::CAPTURE_DISABLED,
    export::{Format, Options, Profile},
    query::{Alone, Filter, Instant, Kind, Shape, Statement, Table, Window, clamped_time},
    retention::{
        walk::{Of, Walk},
        windows::Windows,
    },
};

/// What is archived and deleted in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) walk: Walk,
    /// Of a walk of changes: of which table alone.
    pub(super) table: Option<HostTable>,
}

/// Rows of a part; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) from: Option<OffsetDateTime>,
    pub(super) to: OffsetDateTime,
}

/// The smallest step of a time in the database.
const STEP: Duration = Duration::microseconds(1);

/// The parts of walks. A walk by a name is one for each table of that name, up to the table's own cutoff.
pub(super) fn parts(walks: &[Walk], tables: &[HostTable], windows: &Windows) -> Vec<Part> {
    let mut parts = Vec::new();
    for walk in walks {
        let Of::ChangesNamed(name) = &walk.of else {
            parts.push(Part { walk: walk.clone(), table: None });
            continue;
        };
        for table in tables.iter().filter(|table| table.name == *name) {
            if let Some(before) = windows.of(table) {
                let walk = Walk { before, ..walk.clone() };
                parts.push(Part { walk, table: Some(table.clone()) });
            }
        }
    }
    parts
}

impl Part {
    /// `changes`, `transactions` or `actions`.
    pub(super) fn what(&self) -> &'static str {
        match self.walk.of {
            Of::Changes | Of::ChangesNamed(_) => "changes",
            Of::Transactions => "transactions",
            Of::Actions => "actions",
        }
    }

    /// The name of a file, without what a file system may not like of a table's.
    pub(super) fn file_name(&self, n: u32) -> String {
        let what = self.what();
        match &self.table {
            None => format!("{n:04}-{what}.ndjson"),
            Some(table) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                let plain = |c: char| if is_plain(c) { c } else { '_' };
                let name: String = table.to_string().chars().map(plain).take(100).collect();
                format!("{n:04}-{what}-{name}.ndjson")
            }
        }
    }

    /// The next rows behind a slice, `rows` at most where their times differ; none where there are none.
    pub(super) async fn next(
        &self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
        behind: Option<Slice>,
        rows: u64,
    ) -> Result<Option<Slice>, sqlx::Error> {
        let last = self.walk.before - STEP;
        let from = match behind {
            None => None,
            Some(slice) if slice.to >= last => return Ok(None),
            Some(slice) => Some(slice.to + STEP),
        };
        let row = self.ends(storage, from, rows).query().fetch_one(connection).await?;
        let (first, beyond): (Option<OffsetDateTime>, Option<OffsetDateTime>) =
            (row.try_get(0)?, row.try_get(1)?);
        let Some(first) = first else { return Ok(None) };
        let to = match beyond {
            None => last,
            // More rows of one time than a file is to have stay together.
            Some(beyond) if beyond <= first => first,
            Some(beyond) => beyond - STEP,
        };
        Ok(Some(Slice { from, to }))
    }

    /// The statement for the time of the first row, and for that of the first one that is too much.
    fn ends(&self, storage: &StorageSchema, from: Option<OffsetDateTime>, rows: u64) -> Statement {
        let (table, time) = (self.walk.table(), self.walk.time());
        let mut statement = Statement::new("select ");
        for offset in [0, rows] {
            statement.push(if offset == 0 { "(" } else { ", (" });
            let at = clamped_time(&format!("r.{time}"));
            statement.push(&format!("select {at} from {} r where ", storage.table(table)));
            // Where a table leads, it is part of the comparison, as in a walk.
            let column = self.table.as_ref().map(|_| "r.table_name, ").unwrap_or_default();
            statement.push(&format!("({column}r.{time}) >= ("));
            self.push_name(&mut statement);
            match from {
                None => statement.push("'-infinity'::timestamptz"),
                Some(from) => statement.bind(from),
            };
            statement.push(&format!(") and ({column}r.{time}) < ("));
            self.push_name(&mut statement);
            statement.bind(self.walk.before).push(")");
            if let Some(table) = &self.table {
                statement.push(" and r.table_schema = ").bind(&table.schema);
            }
            statement.push(&format!(" order by {column}r.{time}, r.id offset "));
            statement.bind(i64::try_from(offset).unwrap_or(i64::MAX)).push(" limit 1)");
        }
        statement
    }

    fn push_name(&self, statement: &mut Statement) {
        if let Some(table) = &self.table {
            statement.bind(&table.name).push(", ");
        }
    }

    /// What of the timeline is exported: exactly what is deleted of this slice, as far as it is known yet.
    pub(super) fn filter(&self, Slice { from, to }: Slice) -> Filter {
        let (kind, table) = match self.walk.of {
            Of::Changes | Of::ChangesNamed(_) => (Some(Kind::Change), self.table.as_ref()),
            Of::Transactions => (None, None),
            Of::Actions => (Some(Kind::Recorded), None),
        };
        let table = table.map(|table| Table { schema: Some(table.schema.clone()), name: table.name.clone() });
        let window = Window::Between { from: from.map(Instant::new), to: Some(Instant::new(to)) };
        Filter { kind, table, window, ..Filter::default() }
    }

    pub(super) fn shape(&self) -> Shape {
        shape(&self.walk.of)
    }
}

/// How the rows of a walk are read.
pub(super) fn shape(of: &Of) -> Shape {
    match of {
        Of::Changes | Of::ChangesNamed(_) => Shape::Entries,
        Of::Transactions => Shape::Alone(Alone::Transactions),
        Of::Actions => Shape::Alone(Alone::Actions { except: CAPTURE_DISABLED }),
    }
}

/// How an archive looks: with everything that is known.
pub(super) fn options() -> Options {
    Options { profile: Profile::Full, format: Format::Ndjson, ..Options::default() }
}
