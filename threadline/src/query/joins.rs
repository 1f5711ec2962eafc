//! What stands beside a change or an action: its transaction, and the action that is linked to that, as far as the scope shows it.

use super::{Scope, statement::Statement};
use crate::StorageSchema;

/// Changes, transactions, actions.
pub(super) fn tables(schema: &StorageSchema) -> [String; 3] {
    ["audit_changes", "audit_transactions", "audit_actions"].map(|table| schema.table(table))
}

impl Scope {
    /// From changes `c` to their transactions `t`, and the actions `a` of these.
    pub(super) fn push_joins(&self, schema: &StorageSchema, statement: &mut Statement) {
        let [_, transactions, _] = tables(schema);
        statement.push(&format!(" left join {transactions} t on t.id = c.transaction_id"));
        self.push_action_of_transaction(schema, statement);
    }

    /// From transactions `t` to the actions `a` that they are linked to.
    pub(super) fn push_action_of_transaction(&self, schema: &StorageSchema, statement: &mut Statement) {
        let [_, _, actions] = tables(schema);
        statement.push(&format!(" left join {actions} a on a.id = t.action_id and "));
        self.push_actions(statement);
    }

    /// From actions `a` to the first transaction `t` that is linked to each.
    pub(super) fn push_transaction_of_action(&self, schema: &StorageSchema, statement: &mut Statement) {
        let [_, transactions, _] = tables(schema);
        statement.push(&format!(
            " left join lateral (select t.* from {transactions} t where t.action_id = a.id order by t.occurred_at, t.id limit 1) t on {}",
            self.links_actions()
        ));
    }
}
