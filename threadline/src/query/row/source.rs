//! Under which names the changes of a table are filed, and the statements that read them.

use super::super::{Reader, statement::Statement};

/// A table's name in changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) schema: String,
    pub(super) name: String,
    /// Only what went through this partition, `schema.name`; all where it is empty.
    pub(super) partition: String,
}

impl Source {
    pub(super) fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned(), partition: String::new() }
    }
}

/// Pushes the sources as rows `s`.
pub(super) fn push_sources(sources: &[Source], statement: &mut Statement) {
    let column =
        |of: fn(&Source) -> &String| sources.iter().map(|source| of(source).clone()).collect::<Vec<_>>();
    statement
        .push("unnest(")
        .bind(column(|source| &source.schema))
        .push("::text[], ")
        .bind(column(|source| &source.name))
        .push("::text[], ")
        .bind(column(|source| &source.partition))
        .push("::text[]) s (schema, name, partition)");
}

/// That a change is of the source `s`. A condition that is not needed would have the server expect few rows.
pub(super) fn of_source(sources: &[Source]) -> &'static str {
    if sources.iter().all(|source| source.partition.is_empty()) {
        " and c.table_schema = s.schema and c.table_name = s.name"
    } else {
        " and c.table_schema = s.schema and c.table_name = s.name and (s.partition = '' or c.partition = s.partition)"
    }
}

impl Reader {
    /// Pushes `from … where …` of the changes `c` that can be seen; conditions go on with `and`.
    pub(super) fn push_visible(&self, statement: &mut Statement) {
        statement.push(&format!(" from {} c", self.schema.table("audit_changes")));
        if !self.scope.is_everything() {
            self.scope.push_joins(&self.schema, statement);
        }
        statement.push(" where ");
        self.scope.push_changes(statement);
    }
}
