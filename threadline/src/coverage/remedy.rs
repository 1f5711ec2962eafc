//! The command that makes the triggers of a table as they should be.

use std::fmt::Write as _;

use super::observation::Subject;
use crate::capture::{HostTable, Level, Policy};

/// Whether command lines can name the table.
pub(super) fn is_plain(table: &HostTable) -> bool {
    table.to_string().parse().as_ref() == Ok(table)
}

impl Subject<'_> {
    /// `threadline gen-triggers` under the policy of the settings or, where these have none for the table, the stored one. Nothing where
    /// no command line can say that policy or name the table: settings have to say it first.
    pub(super) fn generate(&self, level: Option<Level>) -> Vec<String> {
        let name = &self.table.name;
        if !is_plain(name) {
            return Vec::new();
        }
        let stored = self.policy.filter(|_| self.settings.is_none());
        let options = match stored {
            None => String::new(),
            Some(stored) => match stored.policy.as_ref().and_then(|policy| self.options(policy)) {
                Some(options) => options,
                None => return Vec::new(),
            },
        };
        // What was made row by row although it need not be stays so.
        let chosen = stored.map(|stored| stored.level).filter(|level| {
            *level == Level::Row && self.shape.is_some_and(|shape| shape.blind_spot().is_none())
        });
        let level = level.or(chosen).map(|level| format!(" --level {}", level.as_str())).unwrap_or_default();
        vec![format!("threadline gen-triggers --tables {name}{options}{level} --apply")]
    }

    fn has_primary_key(&self) -> bool {
        self.shape.is_some_and(|shape| !shape.primary_key().is_empty())
    }

    /// The options of a policy, with the names that columns have now.
    fn options(&self, policy: &Policy) -> Option<String> {
        let by_options = Policy {
            level: policy.level,
            exclude: policy.exclude.clone(),
            mask: policy.mask.clone(),
            except: policy.except.clone(),
            // A key that the table has by now needs no override.
            primary_key: if self.has_primary_key() { policy.primary_key.clone() } else { Vec::new() },
            ..Policy::default()
        };
        if *policy != by_options {
            return None;
        }
        let groups =
            [("exclude", &policy.exclude), ("mask", &policy.mask), ("except-columns", &policy.except)];
        let drift = self.column_drift();
        let mut options = String::new();
        for (option, columns) in groups {
            let columns: Vec<&String> = columns
                .iter()
                .filter(|column| !drift.missing.contains(column))
                .map(|column| {
                    drift.renamed.iter().find(|(from, _)| from == column).map_or(column, |(_, to)| to)
                })
                .collect();
            let is_word = |name: &&String| name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !columns.iter().all(is_word) {
                return None;
            }
            if !columns.is_empty() {
                let columns: Vec<&str> = columns.into_iter().map(String::as_str).collect();
                let _ = write!(options, " --{option} {}", columns.join(","));
            }
        }
        Some(options)
    }
}
