//! Rows that nothing else of the timeline holds: captured transactions without changes, and actions that no captured transaction is linked
//! to. An archive takes them by themselves, since a purge deletes them by themselves.

use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    condition::{Conditions, IS_EVENT},
    entry::{self, ACTION, TRANSACTION},
    joins::tables,
    statement::Statement,
    whole::Stretch,
};
use crate::StorageSchema;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alone {
    /// Captured transactions without changes.
    Transactions,
    /// Actions without a captured transaction.
    Actions {
        /// But for those of this name.
        except: &'static str,
    },
}

impl Alone {
    /// The next of them behind a time, as PostgreSQL prints it, and an id: the newest first.
    pub(super) fn statement(
        self,
        schema: &StorageSchema,
        ends: (Option<OffsetDateTime>, Option<OffsetDateTime>),
        after: Option<&(String, Uuid)>,
        limit: i64,
    ) -> Statement {
        let [changes, transactions, actions] = tables(schema);
        let (time, id) = match self {
            Self::Transactions => ("t.occurred_at", "t.id"),
            Self::Actions { .. } => ("a.inserted_at", "a.id"),
        };
        let mut statement = match self {
            Self::Transactions => Statement::new(format!("select {TRANSACTION} from {transactions} t")),
            // Nothing is linked to them: what a reader expects of a transaction is null.
            Self::Actions { .. } => Statement::new(format!(
                "select {ACTION}, {IS_EVENT}, {TRANSACTION} from {actions} a left join {transactions} t on false"
            )),
        };
        let mut conditions = Conditions::new(&mut statement);
        conditions.within(time, ends);
        if let Some((at, last)) = after {
            conditions
                .and()
                .push(&format!("({time}, {id}) < ("))
                .bind(at)
                .push("::timestamptz, ")
                .bind(*last)
                .push(")");
        }
        match self {
            Self::Transactions => {
                let none = format!("not exists (select from {changes} c where c.transaction_id = t.id)");
                conditions.and().push(&none);
            }
            Self::Actions { except } => {
                let none = format!("not exists (select from {transactions} l where l.action_id = a.id)");
                conditions.and().push(&none).push(" and a.name <> ").bind(except);
            }
        }
        statement.push(&format!(" order by {time} desc, {id} desc limit ")).bind(limit);
        statement
    }
}

/// A stretch of what stands alone.
pub(super) struct Lone(pub(super) Stretch);

impl Lone {
    pub(super) fn of(alone: Alone) -> Self {
        Self(match alone {
            Alone::Transactions => Stretch::Transactions(Vec::new()),
            Alone::Actions { .. } => Stretch::Entries(Vec::new()),
        })
    }

    /// Adds a row; returns its time, as PostgreSQL prints it, and its id.
    pub(super) fn push(&mut self, row: &PgRow) -> Result<(String, Uuid), sqlx::Error> {
        match &mut self.0 {
            Stretch::Transactions(transactions) => {
                let transaction = entry::known(entry::transaction(row, 0)?, "the transaction")?;
                let place = (transaction.occurred_text.clone(), transaction.id);
                transactions.push(transaction);
                Ok(place)
            }
            Stretch::Entries(entries) => {
                let action = entry::entry_of_action(row)?;
                let place = (action.at_text().to_owned(), action.id());
                entries.push(action);
                Ok(place)
            }
            Stretch::Library(_) => Err(sqlx::Error::Decode("no stretch of what stands alone".into())),
        }
    }
}
