//! The command that makes the triggers of a table as they should be.

use super::observation::Subject;
use crate::capture::{HostTable, Level, deployed};

/// The command that has a table captured; none where no command line can name it.
#[must_use]
pub fn capture_command(table: &HostTable) -> Option<String> {
    deployed::command(table, "", None).map(|command| format!("{command} --apply"))
}

impl Subject<'_> {
    /// `threadline gen-triggers` under the policy of the settings or, where these have none for the table, the stored one. Nothing where
    /// no command line can say that policy or name the table: settings have to say it first.
    pub(super) fn generate(&self, level: Option<Level>) -> Vec<String> {
        let command = if self.settings.is_some() || self.policy.is_none() {
            deployed::command(&self.table.name, "", level)
        } else {
            self.deployed().and_then(|deployed| deployed.command(level))
        };
        command.map(|command| format!("{command} --apply")).into_iter().collect()
    }
}
