//! The findings: each family in a file, each kind a function.

mod keys;
mod partitions;
mod recorded;
mod shape;
mod triggers;

pub(super) use recorded::probe;

use super::{
    drift,
    finding::Finding,
    observation::{Observation, Subject},
};
use crate::capture::{HostTable, names::quote};

/// All that the catalog and the stored policies say.
pub(super) fn all(observation: &Observation) -> Vec<Finding> {
    let mut findings: Vec<Finding> = observation.subjects().flat_map(|subject| of(&subject)).collect();
    findings.extend(triggers::shared(observation));
    findings.extend(drift::findings(observation));
    findings
}

fn of(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(triggers::disabled(subject));
    findings.extend(triggers::duplicate(subject));
    findings.extend(triggers::missing(subject));
    findings.extend(partitions::without_capture(subject));
    findings.extend(partitions::without_truncate(subject));
    findings.extend(partitions::detached(subject));
    findings.extend(keys::drift(subject));
    findings.extend(shape::level_blind(subject));
    findings.extend(shape::not_replicated(subject));
    findings.extend(shape::unlogged(subject));
    findings.extend(shape::virtual_columns(subject));
    findings
}

/// Whether it cannot be said which of its triggers counts.
pub(super) fn is_ambiguous(subject: &Subject<'_>) -> bool {
    triggers::duplicate(subject).is_some()
}

/// Whether a trigger of those that were generated is gone.
pub(super) fn lacks_triggers(subject: &Subject<'_>) -> bool {
    triggers::missing(subject).is_some()
}

fn drop_trigger(trigger: &str, table: &HostTable) -> String {
    format!("drop trigger if exists {} on {}", quote(trigger), table.quoted())
}
