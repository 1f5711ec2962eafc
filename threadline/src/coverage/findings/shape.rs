//! Properties of a table that its triggers do not cope with.

use serde_json::json;

use super::super::{
    finding::{Finding, FindingCode},
    observation::Subject,
    observed::Relation,
};
use crate::capture::{
    Level,
    names::{TriggerPrefix, quote},
    trigger::{CaptureTrigger, Firing},
};

/// Triggers of statement level on a table where these miss changes.
pub(super) fn level_blind(subject: &Subject<'_>) -> Option<Finding> {
    let why = subject.shape?.blind_spot()?;
    if subject.table.root().captures().all(CaptureTrigger::is_for_rows) {
        return None;
    }
    Some(
        Finding::error(
            FindingCode::LevelBlind,
            &subject.table.name,
            format!("triggers of statement level miss changes: {why}"),
        )
        .remedy(subject.generate(Some(Level::Row)))
        .details(json!({ "level": "statement", "reason": why })),
    )
}

/// Of rows that logical replication writes, only triggers of row level that are always enabled know.
pub(super) fn not_replicated(subject: &Subject<'_>) -> Option<Finding> {
    let sees = |one: &CaptureTrigger| one.is_for_rows() && one.firing == Firing::Always;
    let blind: Vec<&Relation> = subject
        .table
        .relations
        .iter()
        .filter(|one| one.is_subscribed && one.captures().next().is_some() && !one.captures().any(sees))
        .collect();
    let first = blind.first()?;
    let message =
        format!("logical replication writes to {}, and its triggers do not fire for that", first.table());
    let is_row = blind.iter().all(|one| one.captures().all(CaptureTrigger::is_for_rows));
    let mut steps = if is_row { Vec::new() } else { subject.generate(Some(Level::Row)) };
    for relation in &blind {
        let trigger = match relation.captures().next().filter(|_| is_row) {
            Some(trigger) => trigger.name.clone(),
            None => subject.table.name.trigger(TriggerPrefix::Audit),
        };
        let table = relation.table().quoted();
        steps.push(format!("alter table only {table} enable always trigger {}", quote(&trigger)));
    }
    let tables: Vec<String> = blind.iter().map(|one| one.table().to_string()).collect();
    Some(
        Finding::error(FindingCode::LevelBlind, &subject.table.name, message)
            .remedy(steps)
            .details(json!({ "subscribed": tables })),
    )
}

/// A crash empties a table that is not logged, and fires no trigger.
pub(super) fn unlogged(subject: &Subject<'_>) -> Option<Finding> {
    let leaves = subject.table.leaves();
    let unlogged: Vec<&Relation> =
        leaves.into_iter().filter(|leaf| leaf.is_unlogged && leaf.captures().next().is_some()).collect();
    let first = unlogged.first()?;
    let message = format!("{} is unlogged: a crash empties it, which nothing records", first.table());
    Some(
        Finding::warning(FindingCode::UnloggedTable, &subject.table.name, message)
            .remedy(unlogged.iter().map(|leaf| format!("alter table {} set logged", leaf.table().quoted())))
            .details(
                json!({ "tables": unlogged.iter().map(|leaf| leaf.table().to_string()).collect::<Vec<_>>() }),
            ),
    )
}

/// A trigger does not see the value of a virtual column: the generator leaves those out that it knows.
pub(super) fn virtual_columns(subject: &Subject<'_>) -> Option<Finding> {
    let mut columns = subject.shape?.virtual_columns();
    if let Some(stored) = subject.policy {
        columns.retain(|column| !stored.shape.virtual_columns.contains(column));
    }
    if columns.is_empty() || !subject.table.has_capture() {
        return None;
    }
    let message =
        format!("virtual columns are recorded as null, whatever their value is: {}", columns.join(", "));
    Some(
        Finding::error(FindingCode::VirtualColumnAdded, &subject.table.name, message)
            .remedy(subject.generate(None))
            .details(json!({ "columns": columns })),
    )
}
