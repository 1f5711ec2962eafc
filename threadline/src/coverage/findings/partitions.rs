//! Partitions that are not captured as their table is, and tables that were partitions.

use serde_json::json;

use super::{
    super::{
        finding::{Finding, FindingCode},
        observation::Subject,
        observed::Relation,
    },
    drop_trigger,
};
use crate::capture::trigger::{CaptureTrigger, Event};

/// Some partitions are captured by triggers of their own, and others are not.
pub(super) fn without_capture(subject: &Subject<'_>) -> Option<Finding> {
    let table = subject.table;
    if !table.is_partitioned || !table.has_capture() || table.root().captures().next().is_some() {
        return None;
    }
    let lacks = |leaf: &&Relation| {
        Event::OF_ROWS
            .iter()
            .any(|event| !leaf.captures().any(|one| one.fires_after(*event) && one.is_for_rows()))
    };
    let partitions: Vec<String> =
        table.leaves().into_iter().filter(lacks).map(|leaf| leaf.table().to_string()).collect();
    let first = partitions.first()?;
    let message = format!("{} of its partitions not captured: {first} at first", partitions.len());
    let mut steps = subject.generate(None);
    for relation in &table.relations {
        steps.extend(relation.captures().map(|trigger| drop_trigger(&trigger.name, &relation.table())));
    }
    Some(
        Finding::error(FindingCode::PartitionWithoutCapture, &table.name, message)
            .remedy(steps)
            .details(json!({ "partitions": partitions })),
    )
}

/// Partitions that came after the triggers: their rows are captured, and that they are emptied is not.
pub(super) fn without_truncate(subject: &Subject<'_>) -> Option<Finding> {
    let table = subject.table;
    if !table.is_partitioned || subject.policy.is_none() {
        return None;
    }
    let lacks = |leaf: &&Relation| !leaf.triggers.iter().any(CaptureTrigger::is_truncate);
    let partitions: Vec<String> =
        table.leaves().into_iter().filter(lacks).map(|leaf| leaf.table().to_string()).collect();
    let first = partitions.first()?;
    let message = format!(
        "truncate of {} of its partitions is not recorded, they came after the triggers: {first} at first",
        partitions.len()
    );
    Some(
        Finding::warning(FindingCode::PartitionWithoutCapture, &table.name, message)
            .remedy(subject.generate(None))
            .details(json!({ "partitions": partitions, "truncate_only": true })),
    )
}

/// A table that was detached from a captured one: its triggers for rows went, the one for `truncate` has stayed.
pub(super) fn detached(subject: &Subject<'_>) -> Option<Finding> {
    let table = subject.table;
    if table.has_capture() {
        return None;
    }
    let left = table.root().triggers.iter().find(|one| one.is_truncate() && one.arguments.len() >= 2)?;
    // Of a strict table there is a third one.
    let parent = left.arguments[..2].join(".");
    if parent == table.name.to_string() {
        return None;
    }
    let message = format!("it was a partition of {parent}, and is not captured since it was detached");
    Some(
        Finding::error(FindingCode::PartitionWithoutCapture, &table.name, message)
            .remedy(subject.generate(None))
            .details(json!({ "detached_from": parent })),
    )
}
