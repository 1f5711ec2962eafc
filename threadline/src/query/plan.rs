//! Which index leads to what is asked for, and in which order entries come.
//!
//! Entries are in the order of their times, `captured_at` of a change and `inserted_at` of an action, and of their ids where these are
//! equal. Where something is asked for that a transaction or an action has (an actor, a correlation id, a name), no index of changes
//! has that order. There entries come transaction by transaction, or action by action, which an index does have: the newest one first,
//! and what belongs to one stands together. A window then is one of transactions and actions.

use sqlx::{PgConnection, Row as _};

use super::{Cursor, Filter, Name, condition::Conditions, place::Unit, statement::Statement};
use crate::StorageSchema;

/// Which index leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// The times of changes: of a row, of a table, or of all.
    Changes,
    /// The times of transactions: of an actor, of a correlation id, or of all.
    Transactions,
    /// The times of actions: of a name, or of all.
    Actions,
}

impl Driver {
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Changes => Unit::None,
            Self::Transactions => Unit::Transaction,
            Self::Actions => Unit::Action,
        }
    }
}

/// An actor, an id or a name with more transactions or actions than this is frequent: where a table is asked for too, its changes lead.
const RARE: i64 = 1_000;

/// A cursor keeps the order in which it was made.
pub(super) async fn driver(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    filter: &Filter,
    by_transaction: bool,
    cursor: Option<&Cursor>,
) -> Result<Driver, sqlx::Error> {
    let by_unit = by_unit(filter);
    let Some(driver) = by_unit else {
        return Ok(if by_transaction { Driver::Transactions } else { Driver::Changes });
    };
    if by_transaction {
        return Ok(Driver::Transactions);
    }
    if let Some(cursor) = cursor {
        return Ok(if cursor.is_by_unit() { driver } else { Driver::Changes });
    }
    // A row has few changes, and so has whatever is rare.
    if filter.key.is_some() && filter.table.as_ref().is_some_and(|table| table.schema.is_some()) {
        return Ok(Driver::Changes);
    }
    if filter.table.is_some() && !is_rare(connection, schema, filter, driver).await? {
        return Ok(Driver::Changes);
    }
    Ok(driver)
}

fn by_unit(filter: &Filter) -> Option<Driver> {
    if filter.actor.is_some() || filter.correlation.is_some() {
        Some(Driver::Transactions)
    } else if filter.action.is_some() || filter.status.is_some() || filter.category.is_some() {
        Some(Driver::Actions)
    } else {
        None
    }
}

async fn is_rare(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    filter: &Filter,
    driver: Driver,
) -> Result<bool, sqlx::Error> {
    let mut count = Statement::new("select count(*) <= ");
    count.bind(RARE).push(" from (select from ");
    match (driver, &filter.action) {
        (Driver::Transactions, _) => {
            count.push(&schema.table("audit_transactions")).push(" t");
            let mut conditions = Conditions::new(&mut count);
            if let Some(correlation) = &filter.correlation {
                conditions.is_correlated(correlation);
            } else if let Some(actor) = &filter.actor {
                conditions.is_actor("t", actor);
            }
            // In the order of the index, which is read no further.
            count.push(" order by t.occurred_at, t.id");
        }
        (_, Some(Name::Exact(name))) => {
            count.push(&schema.table("audit_actions")).push(" a where a.name = ").bind(name);
            count.push(" order by a.inserted_at, a.id");
        }
        _ => return Ok(false),
    }
    count.push(" limit ").bind(RARE + 1).push(") found");
    count.query().fetch_one(connection).await?.try_get(0)
}
