//! What of a filter the leading index takes, and whether anything is left to be tested row by row.

use super::{
    Key,
    condition::{Conditions, Used},
    plan::Driver,
    statement::Statement,
    streams::Ask,
};

impl Ask<'_> {
    /// Whether the index alone leads to exactly the changes that are asked for.
    pub(super) fn is_exact_for_changes(&self) -> bool {
        let mut residual = Statement::default();
        let mut conditions = Conditions::new(&mut residual);
        if self.driver == Driver::Changes {
            conditions.of_change(self.filter, self.used());
        }
        conditions.of_transaction(self.filter, self.used());
        conditions.of_action(self.filter, self.used());
        let is_of_units = self.driver == Driver::Changes || !self.filter.is_of_changes();
        residual.text().is_empty() && is_of_units && self.scope.is_everything()
    }

    /// Whether the index alone leads to exactly the actions that are asked for.
    pub(super) fn is_exact_for_actions(&self) -> bool {
        let mut residual = Statement::default();
        Conditions::new(&mut residual).of_action_itself(self.filter, self.used_of_actions());
        residual.text().is_empty() && self.scope.is_everything()
    }

    /// Of a filter for changes.
    pub(super) fn used(&self) -> Used {
        let row = self.driver == Driver::Changes
            && self.filter.table.as_ref().is_some_and(|table| table.schema.is_some())
            && matches!(self.filter.key, Some(Key::Columns(_)));
        let by_transaction = self.driver == Driver::Transactions;
        Used {
            table: self.driver == Driver::Changes,
            key: row,
            correlation: by_transaction,
            actor: by_transaction && self.filter.correlation.is_none(),
            action: self.driver == Driver::Actions,
        }
    }

    /// Of a filter for actions.
    pub(super) fn used_of_actions(&self) -> Used {
        let correlation = self.filter.correlation.is_some();
        let actor = !correlation && self.filter.actor.is_some();
        Used { correlation, actor, action: !correlation && !actor, ..Used::default() }
    }
}
