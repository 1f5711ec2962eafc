//! Triggers that do not fire, that fire twice, that serve other tables, or that are gone.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        finding::{Finding, FindingCode},
        observation::{Observation, Subject},
        observed::{ObservedTable, Relation},
    },
    drop_trigger,
};
use crate::capture::{
    HostTable, Level,
    names::{FunctionPrefix, TriggerPrefix, quote},
    trigger::{CaptureTrigger, Event, Firing},
};

/// Triggers that fire never, or for a replica only; those that were switched off by name of who did it.
pub(super) fn disabled(subject: &Subject<'_>) -> Option<Finding> {
    let mut triggers = Vec::new();
    let mut steps = Vec::new();
    for relation in &subject.table.relations {
        for trigger in relation.triggers.iter().filter(|one| !one.firing.sees_writers()) {
            let table = relation.table();
            let state = if trigger.firing == Firing::Disabled { "disabled" } else { "replica" };
            triggers.push(json!({"table": table.to_string(), "trigger": trigger.name, "state": state}));
            steps.push(format!(
                "alter table only {} enable trigger {}",
                table.quoted(),
                quote(&trigger.name)
            ));
        }
    }
    let first = triggers.first()?;
    if let Some(off) = subject.policy.and_then(|stored| stored.off.as_ref()) {
        return Some(switched_off(&subject.table.name, off));
    }
    let message = format!(
        "{} of its triggers {} not fire in ordinary sessions: {} on {}{}",
        triggers.len(),
        if triggers.len() == 1 { "does" } else { "do" },
        first["trigger"].as_str().unwrap_or_default(),
        first["table"].as_str().unwrap_or_default(),
        if triggers.len() == 1 { "" } else { " and others" }
    );
    Some(
        Finding::error(FindingCode::CaptureTriggerDisabled, &subject.table.name, message)
            .remedy(steps)
            .details(json!({ "triggers": triggers })),
    )
}

/// They were disabled on purpose, and by whom is stored.
fn switched_off(table: &HostTable, off: &Value) -> Finding {
    let said = |key: &str| off[key].as_str().unwrap_or("unknown").to_owned();
    let message = format!("capture was switched off at {}: {}", said("at"), said("reason"));
    Finding::error(FindingCode::CaptureOff, table, message)
        .remedy([format!("threadline capture on --tables {table} --actor TYPE:ID --reason TEXT")])
        .details(json!({ "at": off["at"], "actor": off["actor"], "reason": off["reason"] }))
}

/// Two triggers for the same change of one relation.
pub(super) fn duplicate(subject: &Subject<'_>) -> Option<Finding> {
    let name = &subject.table.name;
    let root = surplus(name, subject.table.root());
    let of_relations: Vec<(HostTable, Vec<&CaptureTrigger>)> = if root.is_empty() {
        subject.table.relations.iter().map(|one| (one.table(), surplus(name, one))).collect()
    } else {
        vec![(name.clone(), root)]
    };
    let mut triggers = Vec::new();
    let mut steps = Vec::new();
    for (table, surplus) in &of_relations {
        for trigger in surplus {
            triggers.push(json!({"table": table.to_string(), "trigger": trigger.name}));
            steps.push(drop_trigger(&trigger.name, table));
        }
    }
    if triggers.is_empty() {
        return None;
    }
    let message = "the same changes are recorded by more than one trigger";
    Some(
        Finding::error(FindingCode::DuplicateCaptureTrigger, name, message)
            .remedy(steps)
            .details(json!({ "surplus": triggers })),
    )
}

/// Triggers of a relation without which each change is recorded once. Of several for one event, what comes from the partitioned table
/// stays; then what the generator would make; then what inserts are recorded by.
pub(in crate::coverage) fn surplus<'a>(name: &HostTable, relation: &'a Relation) -> Vec<&'a CaptureTrigger> {
    let expected: Vec<String> = TriggerPrefix::ALL.iter().map(|prefix| name.trigger(*prefix)).collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut several: Vec<&CaptureTrigger> = Vec::new();
    for event in [Event::Insert, Event::Update, Event::Delete, Event::Truncate] {
        let mut triggers: Vec<&CaptureTrigger> =
            relation.triggers.iter().filter(|one| one.fires_after(event)).collect();
        triggers.sort_by_key(|one| {
            (!one.is_clone, !expected.contains(&one.name), !one.fires_after(Event::Insert))
        });
        kept.extend(triggers.first().map(|one| one.name.as_str()));
        several.extend(triggers.into_iter().skip(1));
    }
    several.retain(|one| !kept.contains(&one.name.as_str()));
    several.sort_by(|one, other| one.name.cmp(&other.name));
    several.dedup_by(|one, other| one.name == other.name);
    several
}

/// A function that is one table's own, and that triggers of other tables call.
pub(super) fn shared(observation: &Observation) -> Vec<Finding> {
    let mut users: BTreeMap<&str, Vec<Subject<'_>>> = BTreeMap::new();
    for subject in observation.subjects() {
        let mut functions: Vec<&str> = own_triggers(subject.table)
            .filter(|(_, trigger)| trigger.has_own_function())
            .map(|(_, trigger)| trigger.function.as_str())
            .collect();
        functions.sort_unstable();
        functions.dedup();
        for function in functions {
            users.entry(function).or_default().push(subject);
        }
    }
    let mut findings = Vec::new();
    for (function, users) in users.iter().filter(|(_, users)| users.len() > 1) {
        let tables: Vec<String> = users.iter().map(|user| user.table.name.to_string()).collect();
        let owns =
            |name: &HostTable| FunctionPrefix::ALL.iter().any(|prefix| name.function(*prefix) == *function);
        for user in users.iter().filter(|user| !owns(&user.table.name)) {
            let message = format!("its triggers call {function}, which serves {}", tables.join(", "));
            findings.push(
                Finding::error(FindingCode::SharedCaptureFunction, &user.table.name, message)
                    .remedy(own_function(user, function))
                    .details(json!({ "function": function, "tables": tables })),
            );
        }
    }
    findings
}

/// Triggers that have the generator's names are made to call a function of their own; others go.
fn own_function(subject: &Subject<'_>, function: &str) -> Vec<String> {
    let name = &subject.table.name;
    let is_generated =
        |trigger: &CaptureTrigger| TriggerPrefix::ALL.iter().any(|one| name.trigger(*one) == trigger.name);
    let mut steps = subject.generate(None);
    steps.extend(
        own_triggers(subject.table)
            .filter(|(_, trigger)| trigger.function == function && !is_generated(trigger))
            .map(|(relation, trigger)| drop_trigger(&trigger.name, &relation.table())),
    );
    steps
}

fn own_triggers(table: &ObservedTable) -> impl Iterator<Item = (&Relation, &CaptureTrigger)> {
    table
        .relations
        .iter()
        .flat_map(|relation| relation.triggers.iter().map(move |trigger| (relation, trigger)))
        .filter(|(_, trigger)| !trigger.is_clone)
}

/// A trigger of those that the stored policy stands for is not there, or is another one.
pub(super) fn missing(subject: &Subject<'_>) -> Option<Finding> {
    let stored = subject.policy?;
    let name = &stored.table;
    let of_rows = match stored.level {
        Level::Row => vec![(TriggerPrefix::Audit, FunctionPrefix::Changes, &Event::OF_ROWS[..])],
        Level::Statement => vec![
            (TriggerPrefix::Audit, FunctionPrefix::Changes, &[Event::Insert][..]),
            (TriggerPrefix::Update, FunctionPrefix::Updates, &[Event::Update]),
            (TriggerPrefix::Delete, FunctionPrefix::Deletes, &[Event::Delete]),
        ],
    };
    let mut expected: Vec<(String, String, &[Event], bool)> = of_rows
        .into_iter()
        .map(|(trigger, function, events)| {
            (name.trigger(trigger), name.function(function), events, stored.level == Level::Row)
        })
        .collect();
    let truncate = "threadline_capture_truncate".to_owned();
    expected.push((name.trigger(TriggerPrefix::Truncate), truncate, &[Event::Truncate], false));
    let is_there = |(trigger, function, events, is_row): &(String, String, &[Event], bool)| {
        subject.table.root().triggers.iter().any(|one| {
            one.name == *trigger
                && one.function == *function
                && one.is_exactly_for(events)
                && one.is_for_rows() == *is_row
        })
    };
    let missing: Vec<String> =
        expected.into_iter().filter(|one| !is_there(one)).map(|(trigger, ..)| trigger).collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!("not there, or not as they were generated: {}", missing.join(", "));
    Some(
        Finding::error(FindingCode::MissingTrigger, &subject.table.name, message)
            .remedy(subject.generate(None))
            .details(json!({ "triggers": missing })),
    )
}
