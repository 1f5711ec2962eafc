//! The steps from a table that nobody captures, and that has rows, to one whose changes are all recorded.

use serde::Serialize;

use crate::capture::HostTable;

/// One step, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// A name that stays the same between versions.
    pub name: &'static str,
    /// What it is for, in a sentence or two.
    pub what: String,
    /// What is run, where something is run.
    pub command: Option<String>,
    /// Whether it may be left out.
    pub is_optional: bool,
}

/// The steps for a table, or for any table. Nothing before the triggers is known: there the table's audit horizon is.
#[must_use]
pub fn cutover_steps(table: Option<&HostTable>) -> Vec<Step> {
    let name = table.map_or_else(|| "SCHEMA.TABLE".to_owned(), HostTable::to_string);
    let step = |name, what: &str, command: Option<String>| Step {
        name,
        what: what.to_owned(),
        command,
        is_optional: false,
    };
    let optional = |one: Step| Step { is_optional: true, ..one };
    let quoted = table.map_or_else(|| name.clone(), HostTable::quoted);
    vec![
        step(
            "install",
            "The timeline's tables and functions are there and complete.",
            Some("threadline install".to_owned()),
        ),
        step(
            "decide",
            "What is stored of the table: the section [capture] of audit.toml. What is redacted later stays in older changes.",
            Some(format!("threadline gen-triggers --tables {name} --dry-run")),
        ),
        step(
            "capture",
            "One transaction makes the triggers. It waits until open transactions that have written to the table have ended, and new \
             writers wait for it: run it with a lock_timeout, and repeat it. Its commit is the table's audit horizon: later changes \
             are recorded, and of earlier ones nothing is known. as_of answers before_audit_horizon for a row that has not changed since.",
            Some(format!("threadline gen-triggers --tables {name} --out migrations")),
        ),
        optional(step(
            "baseline",
            "A copy of the rows at the horizon, where their state before the first change matters: in the transaction of the triggers and \
             behind them, when nobody else can write. It holds secrets that the policy hides: grant it accordingly.",
            Some(format!("create table threadline_baseline as table {quoted}")),
        )),
        step(
            "assert",
            "Every insert, update and delete is recorded once, with its key: exit status 1 otherwise.",
            Some(format!("threadline continuity --table {name}")),
        ),
        optional(step(
            "keys",
            "Changes that triggers of before version 0.11 of the Elixir library have recorded without a key are given theirs.",
            Some(format!("threadline backfill-keys --tables {name} --dry-run")),
        )),
    ]
}
