//! Rows that were read before, read once more by their ids: whether they are what they were.

use futures::{StreamExt as _, stream::BoxStream};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{
    alone::Alone,
    condition::IS_EVENT,
    entry::{self, ACTION, CHANGE, Entry, TRANSACTION, Transaction},
    joins::tables,
    scope::Scope,
    statement::Statement,
    whole::Shape,
};
use crate::StorageSchema;

/// A row as a reading of a shape has it.
#[derive(Debug)]
pub(crate) enum Again {
    Entry(Entry),
    Transaction(Box<Transaction>),
}

impl Again {
    /// Its primary key.
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Self::Entry(entry) => entry.id(),
            Self::Transaction(transaction) => transaction.id,
        }
    }
}

/// The statement for these rows of a shape, in no order: whatever the shape would leave out now is there too.
pub(crate) fn again(schema: &StorageSchema, shape: Shape, ids: Vec<Uuid>) -> Statement {
    let [changes, transactions, actions] = tables(schema);
    let (mut statement, id) = match shape {
        Shape::Alone(Alone::Transactions) => {
            (Statement::new(format!("select {TRANSACTION} from {transactions} t")), "t.id")
        }
        Shape::Alone(Alone::Actions { .. }) => {
            let none = format!("left join {transactions} t on false");
            let columns = format!("{ACTION}, {IS_EVENT}, {TRANSACTION}");
            (Statement::new(format!("select {columns} from {actions} a {none}")), "a.id")
        }
        Shape::Entries | Shape::Library { .. } => {
            let columns = format!("{CHANGE}, {TRANSACTION}, {ACTION}");
            let mut statement = Statement::new(format!("select {columns} from {changes} c"));
            Scope::everything().push_joins(schema, &mut statement);
            (statement, "c.id")
        }
    };
    statement.push(&format!(" where {id} = any (")).bind(ids).push(")");
    statement
}

/// Its rows, one at a time.
pub(crate) fn each<'s>(
    statement: &'s Statement,
    shape: Shape,
    connection: &'s mut PgConnection,
) -> BoxStream<'s, Result<Again, sqlx::Error>> {
    statement.query().fetch(connection).map(move |row| decoded(&row?, shape)).boxed()
}

fn decoded(row: &PgRow, shape: Shape) -> Result<Again, sqlx::Error> {
    Ok(match shape {
        Shape::Alone(Alone::Transactions) => {
            Again::Transaction(Box::new(entry::known(entry::transaction(row, 0)?, "the transaction")?))
        }
        Shape::Alone(Alone::Actions { .. }) => Again::Entry(entry::entry_of_action(row)?),
        Shape::Entries | Shape::Library { .. } => Again::Entry(Entry::Change(Box::new(entry::change(row)?))),
    })
}
