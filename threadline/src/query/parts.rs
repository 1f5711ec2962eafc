//! The changes of a transaction, table by table.

use serde::Serialize;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    Change, Cursor, Op, ReadError, Reader, Table,
    condition::Conditions,
    cursor::Point,
    entry::{self, ACTION, CHANGE, TRANSACTION},
    joins::tables,
    page,
    row::Reading,
    serialize,
    statement::Statement,
};

/// Tables of a transaction that are told apart.
pub const TABLES_MAX: usize = 50;

/// Which changes of a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsRequest {
    /// Of this table alone.
    pub table: Option<Table>,
    /// What was done alone.
    pub op: Option<Op>,
    /// Changes of each table at most, 1 to [`PAGE_SIZE_MAX`](super::PAGE_SIZE_MAX).
    pub size: u16,
    /// Changes older than this; of one table.
    pub older_than: Option<Cursor>,
}

/// The changes of one table in a transaction, the newest first.
#[derive(Debug, Clone, Serialize)]
pub struct TablePart {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub table: String,
    /// How many there are, on all pages.
    pub count: i64,
    /// The changes.
    pub changes: Vec<Change>,
    /// For the older ones; none where there are none.
    #[serde(serialize_with = "serialize::text")]
    pub older: Option<Cursor>,
}

/// The changes of a transaction by their tables.
#[derive(Debug, Clone, Serialize)]
pub struct TransactionParts {
    /// The tables, by name.
    pub tables: Vec<TablePart>,
    /// How many tables were changed; those beyond [`TABLES_MAX`] are not among them.
    pub table_count: i64,
}

impl Reader {
    /// The changes of a transaction that can be seen, a page of each table.
    ///
    /// # Errors
    /// When the size cannot be used, and what the database says.
    pub async fn transaction_parts(
        &self,
        id: Uuid,
        request: &PartsRequest,
    ) -> Result<TransactionParts, ReadError> {
        page::check_size(request.size, "changes")?;
        let statement = self.parts_statement(id, request);
        let rows = Reading::begin(self, None).await?.fetch_all(&statement).await?;
        let mut parts = TransactionParts { tables: Vec::new(), table_count: 0 };
        for row in &rows {
            parts.add(row)?;
        }
        for part in &mut parts.tables {
            let has_more = part.changes.len() > usize::from(request.size);
            part.changes.truncate(request.size.into());
            part.older = part.changes.last().filter(|_| has_more).map(|change| Cursor {
                unit: None,
                entry: Point::new(change.captured_at, &change.captured_text, change.id),
            });
        }
        Ok(parts)
    }

    fn parts_statement(&self, id: Uuid, request: &PartsRequest) -> Statement {
        let [changes, transactions, _] = tables(&self.schema);
        // What is sorted is narrow; whole changes are fetched of those that are shown.
        let mut statement = Statement::new(format!(
            "select {CHANGE}, {TRANSACTION}, {ACTION}, s.count, s.tables from (
                 select m.*, row_number() over (partition by m.table_schema, m.table_name order by m.captured_at desc, m.id desc) as place
                 from (select n.*, max(n.number) over () as tables from (
                     select c.id, c.captured_at, c.table_schema, c.table_name,
                            count(*) over (partition by c.table_schema, c.table_name) as count,
                            dense_rank() over (order by c.table_schema, c.table_name) as number
                     from (select c.* from {changes} c where c.transaction_id = "
        ));
        statement.bind(id).push(&format!(" offset 0) c join {transactions} t on t.id = c.transaction_id"));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        let mut conditions = Conditions::new(&mut statement);
        if let Some(table) = &request.table {
            conditions.and().push("c.table_name = ").bind(&table.name);
            if let Some(schema) = &table.schema {
                conditions.and().push("c.table_schema = ").bind(schema);
            }
        }
        if let Some(op) = request.op {
            conditions.and().push("c.op = ").bind(op.as_str());
        }
        self.scope.push_changes(conditions.and());
        statement.push(") n) m where m.number <= ").bind(i64::try_from(TABLES_MAX).unwrap_or(i64::MAX));
        if let Some(cursor) = &request.older_than {
            cursor.entry.push(statement.push(" and (m.captured_at, m.id) < "));
        }
        statement.push(&format!(
            ") s join {changes} c on c.id = s.id and c.captured_at = s.captured_at join {transactions} t on t.id = c.transaction_id"
        ));
        self.scope.push_action_of_transaction(&self.schema, &mut statement);
        statement.push(" where s.place <= ").bind(i64::from(request.size) + 1);
        statement.push(" order by c.table_schema, c.table_name, c.captured_at desc, c.id desc");
        statement
    }
}

impl TransactionParts {
    /// The next row of the statement.
    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let change = entry::change(row)?;
        let width = entry::WIDTH;
        self.table_count = row.try_get(width + 1)?;
        let is_same =
            |part: &TablePart| part.schema == change.table_schema && part.table == change.table_name;
        match self.tables.last_mut().filter(|part| is_same(part)) {
            Some(part) => part.changes.push(change),
            None => self.tables.push(TablePart {
                schema: change.table_schema.clone(),
                table: change.table_name.clone(),
                count: row.try_get(width)?,
                changes: vec![change],
                older: None,
            }),
        }
        Ok(())
    }
}
