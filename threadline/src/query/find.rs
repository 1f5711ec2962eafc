//! What has an id: people have one from a log, a message or another page, and do not know of what it is.

use uuid::Uuid;

use super::{
    Change, Entry, LinkedAction, ReadError, Reader, TransactionContext,
    condition::IS_EVENT,
    entry::{self, ACTION, CHANGE, TRANSACTION},
    joins::tables,
    row::Reading,
    statement::Statement,
};

/// What an id is of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Found {
    /// A captured transaction.
    Transaction(Box<TransactionContext>),
    /// A change.
    Change(Box<Change>),
    /// An action, or an event, which has the id of its row in the source.
    Recorded(Entry),
}

impl Reader {
    /// What has this id, as far as the scope shows it; `None` where nothing has.
    ///
    /// # Errors
    /// What the database says.
    pub async fn find(&self, id: Uuid) -> Result<Option<Found>, ReadError> {
        if let Some(found) = self.transaction(id, 1, None).await? {
            return Ok(Some(Found::Transaction(Box::new(found))));
        }
        if let Some(found) = self.recorded(id).await? {
            return Ok(Some(Found::Recorded(found)));
        }
        Ok(self.change(id).await?.map(|change| Found::Change(Box::new(change))))
    }

    /// An action or an event, and the transaction that it is linked to; `None` where there is none, or the scope does not show it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn recorded(&self, id: Uuid) -> Result<Option<Entry>, ReadError> {
        let [_, _, actions] = tables(&self.schema);
        let mut statement =
            Statement::new(format!("select {ACTION}, {IS_EVENT}, {TRANSACTION} from {actions} a"));
        self.scope.push_transaction_of_action(&self.schema, &mut statement);
        statement.push(" where a.id = ").bind(id).push(" and ");
        self.scope.push_actions(&mut statement);
        let rows = Reading::begin(self, None).await?.fetch_all(&statement).await?;
        Ok(rows.first().map(entry::entry_of_action).transpose()?)
    }

    /// A change; `None` where there is none, or the scope does not show it.
    ///
    /// # Errors
    /// What the database says.
    pub async fn change(&self, id: Uuid) -> Result<Option<Change>, ReadError> {
        let [changes, _, _] = tables(&self.schema);
        let mut statement =
            Statement::new(format!("select {CHANGE}, {TRANSACTION}, {ACTION} from {changes} c"));
        self.scope.push_joins(&self.schema, &mut statement);
        statement.push(" where c.id = ").bind(id).push(" and ");
        self.scope.push_changes(&mut statement);
        let rows = Reading::begin(self, None).await?.fetch_all(&statement).await?;
        Ok(rows.first().map(entry::change).transpose()?)
    }
}

impl Found {
    /// The action of [`Self::Recorded`].
    #[must_use]
    pub fn action(&self) -> Option<&LinkedAction> {
        match self {
            Self::Recorded(Entry::Action(linked) | Entry::Event(linked)) => Some(linked),
            _ => None,
        }
    }
}
