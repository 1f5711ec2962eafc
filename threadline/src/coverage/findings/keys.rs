//! Whether changes name their rows by the key of the table.

use serde_json::json;

use super::super::{
    finding::{Finding, FindingCode},
    observation::Subject,
};
use crate::capture::{HostTable, Table, names::quote, trigger::CaptureTrigger};

/// What is wrong with the columns that a trigger names rows by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    KeyMismatch,
    LegacyTriggerOnNonIdKey,
    NoPrimaryKey,
    OverrideWithoutQualifyingIndex,
    OverrideOnTableWithPrimaryKey,
    RecordedColumnMissing,
}

impl Reason {
    fn term(self) -> &'static str {
        match self {
            Self::KeyMismatch => "key_mismatch",
            Self::LegacyTriggerOnNonIdKey => "legacy_trigger_on_non_id_key",
            Self::NoPrimaryKey => "no_primary_key",
            Self::OverrideWithoutQualifyingIndex => "override_without_qualifying_index",
            Self::OverrideOnTableWithPrimaryKey => "override_on_table_with_primary_key",
            Self::RecordedColumnMissing => "recorded_column_missing",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::KeyMismatch => "its changes name rows by other columns than its key has",
            Self::LegacyTriggerOnNonIdKey => "its trigger names rows by the column id, which is not its key",
            Self::NoPrimaryKey => {
                "it has no primary key, and no unique index over the columns that its changes name rows by"
            }
            Self::OverrideWithoutQualifyingIndex => {
                "no unique index says that the declared primary_key names one row"
            }
            Self::OverrideOnTableWithPrimaryKey => {
                "it has a primary key now, and primary_key is for tables without one: remove it from the settings"
            }
            Self::RecordedColumnMissing => {
                "its changes name rows by a column that is gone or has another name, and so by nothing"
            }
        }
    }
}

/// A key that is not recorded, or not as it is.
pub(super) fn drift(subject: &Subject<'_>) -> Option<Finding> {
    let shape = subject.shape?;
    let recorded = &recording_trigger(subject)?.arguments;
    let declared = subject.declared_key();
    let name = &subject.table.name;
    if recorded.is_empty() && shape.primary_key() == ["id"] {
        let message = "its trigger is of a library before 0.11: it names rows by the column id, which happens to be the key";
        return Some(
            Finding::warning(FindingCode::LegacyTriggerNoPkArgs, name, message)
                .remedy(subject.generate(None)),
        );
    }
    let reason = reason(shape, recorded, declared)?;
    let mut message = reason.message().to_owned();
    let steps = remedy(subject, reason, recorded, declared);
    if steps.is_empty() {
        message.push_str("; name its key and its policy in the settings, and generate its triggers");
    }
    let expected = if shape.primary_key().is_empty() { declared } else { shape.primary_key() };
    Some(
        Finding::error(FindingCode::PkDrift, name, message)
            .remedy(steps)
            .details(json!({ "reason": reason.term(), "recorded": recorded, "expected": expected })),
    )
}

/// The trigger whose arguments are the names of the key columns: on the table or, where partitions are captured by themselves, on one.
fn recording_trigger<'a>(subject: &Subject<'a>) -> Option<&'a CaptureTrigger> {
    let records =
        |one: &&CaptureTrigger| !one.is_clone && one.function.starts_with("threadline_capture_changes");
    subject.table.relations.iter().find_map(|relation| relation.captures().find(records))
}

fn reason(shape: &Table, recorded: &[String], declared: &[String]) -> Option<Reason> {
    let primary_key = shape.primary_key();
    let same =
        |key: &[String]| key.len() == recorded.len() && key.iter().all(|column| recorded.contains(column));
    if recorded.is_empty() {
        let has_key = !primary_key.is_empty() || (!declared.is_empty() && shape.is_identified_by(declared));
        return Some(if has_key { Reason::LegacyTriggerOnNonIdKey } else { Reason::NoPrimaryKey });
    }
    let numbers = shape.numbers();
    if recorded.iter().any(|column| !numbers.contains_key(column)) {
        return Some(Reason::RecordedColumnMissing);
    }
    match (primary_key.is_empty(), declared.is_empty()) {
        (false, false) => Some(Reason::OverrideOnTableWithPrimaryKey),
        (false, true) => (!same(primary_key)).then_some(Reason::KeyMismatch),
        (true, true) => (!shape.is_identified_by(recorded)).then_some(Reason::NoPrimaryKey),
        (true, false) if !shape.is_identified_by(declared) => Some(Reason::OverrideWithoutQualifyingIndex),
        (true, false) => (!same(declared)).then_some(Reason::KeyMismatch),
    }
}

fn remedy(subject: &Subject<'_>, reason: Reason, recorded: &[String], declared: &[String]) -> Vec<String> {
    let table = &subject.table.name;
    match reason {
        Reason::NoPrimaryKey if recorded.is_empty() => Vec::new(),
        Reason::NoPrimaryKey => {
            let key = format!("alter table {} add primary key ({})", table.quoted(), list(recorded));
            [vec![key], subject.generate(None)].concat()
        }
        Reason::OverrideWithoutQualifyingIndex => index(table, declared),
        _ => subject.generate(None),
    }
}

fn index(table: &HostTable, key: &[String]) -> Vec<String> {
    let not_null = |column: &String| {
        format!("alter table {} alter column {} set not null", table.quoted(), quote(column))
    };
    let mut steps: Vec<String> = key.iter().map(not_null).collect();
    steps.push(format!("create unique index on {} ({})", table.quoted(), list(key)));
    steps
}

fn list(columns: &[String]) -> String {
    columns.iter().map(|column| quote(column)).collect::<Vec<_>>().join(", ")
}

impl<'a> Subject<'a> {
    /// The key of a table without a primary key, by the settings or else by the stored policy.
    fn declared_key(&self) -> &'a [String] {
        let stored = self.policy.and_then(|stored| stored.policy.as_ref());
        self.settings.or(stored).map(|policy| &policy.primary_key[..]).unwrap_or_default()
    }

    /// By which columns its changes are to name rows.
    pub(super) fn key(&self) -> Vec<String> {
        match self.shape {
            Some(shape) if !shape.primary_key().is_empty() => shape.primary_key().to_vec(),
            _ => self.declared_key().to_vec(),
        }
    }
}
