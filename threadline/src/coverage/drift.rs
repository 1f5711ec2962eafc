//! Whether what is deployed is what the settings say and what the generator has made: settings, stored policies, functions and columns
//! are compared, and no text of a function is taken apart.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::json;

use super::{
    finding::{Finding, FindingCode, Severity},
    observation::{Observation, Subject},
    policy_diff,
};
use crate::capture::{
    Capture, HostTable, Policy, Table,
    deployed::{ColumnDrift, Deployed},
    names::{FunctionPrefix, literal, quote},
    render::GENERATOR,
    stored::StoredPolicy,
};

/// One way in which they do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The settings say something else.
    SettingsDiffer,
    /// A column of the policy or of the key is gone.
    ColumnMissing,
    /// A column of the policy or of the key has another name.
    ColumnRenamed,
    /// A function is not what the generator has made.
    FunctionChanged,
    /// The table has other columns than those that the functions were made for. They cope with that.
    ColumnsChanged,
    /// The functions are of an older version of the generator.
    GeneratorOlder,
    /// The table has another name than when its triggers were made.
    TableRenamed,
    /// The table was created again, or restored from a dump, since its triggers were made.
    TableReplaced,
}

impl Drift {
    pub(super) fn severity(self) -> Severity {
        match self {
            Self::SettingsDiffer | Self::ColumnMissing | Self::ColumnRenamed | Self::FunctionChanged => {
                Severity::Error
            }
            Self::ColumnsChanged | Self::GeneratorOlder | Self::TableRenamed | Self::TableReplaced => {
                Severity::Warning
            }
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::SettingsDiffer => {
                "what is deployed is not what the settings say, or they do not name the table"
            }
            Self::ColumnMissing => "a column that the policy or the key names is gone",
            Self::ColumnRenamed => {
                "a column that the policy or the key names has been renamed; change its name in the settings too"
            }
            Self::FunctionChanged => "a trigger function is not what was generated",
            Self::ColumnsChanged => "the table has other columns than those that the functions were made for",
            Self::GeneratorOlder => "the functions are of an older generator",
            Self::TableRenamed => "the table has been renamed",
            Self::TableReplaced => "the table was created again or restored since its triggers were made",
        }
    }
}

impl Subject<'_> {
    /// The stored policy, and the table as it is.
    pub(super) fn deployed(&self) -> Option<Deployed<'_>> {
        self.policy.zip(self.shape).map(|(stored, shape)| Deployed { stored, shape })
    }

    fn column_drift(&self) -> ColumnDrift {
        self.deployed().map(|deployed| deployed.column_drift()).unwrap_or_default()
    }

    /// In which ways settings, stored policy, functions and columns differ; nothing for triggers that no policy is stored of.
    pub(super) fn drifts(&self, observation: &Observation) -> Vec<Drift> {
        let (Some(stored), Some(shape)) = (self.policy, self.shape) else { return Vec::new() };
        let Some(policy) = &stored.policy else { return Vec::new() };
        let mut drifts = BTreeSet::new();
        if let Some(configured) = self.configured(observation)
            && !policy_diff::is_empty(&policy_diff::of(&configured, &deployed(policy, stored)))
        {
            drifts.insert(Drift::SettingsDiffer);
        }
        let columns = self.column_drift();
        let named = [policy.redacted(), policy.except.clone(), stored.shape.key.clone()].concat();
        if columns.missing.iter().any(|column| named.contains(column)) {
            drifts.insert(Drift::ColumnMissing);
        }
        if columns.renamed.iter().any(|(from, _)| named.contains(from)) {
            drifts.insert(Drift::ColumnRenamed);
        }
        if stored.table != self.table.name {
            drifts.insert(Drift::TableRenamed);
        } else if stored.oid != self.table.root().oid {
            drifts.insert(Drift::TableReplaced);
        }
        drifts.extend(function_drifts(observation, stored, shape, policy));
        drifts.into_iter().collect()
    }

    /// The command that ends the drift. Nothing where the settings do not name the table, and only people know which of both is right.
    pub(super) fn repair(&self, drifts: &[Drift]) -> Vec<String> {
        if drifts.contains(&Drift::SettingsDiffer) && self.settings.is_none() {
            return Vec::new();
        }
        self.generate(None)
    }

    /// What the settings say of the table: what is not there is not redacted. `None` when there are no settings.
    pub(super) fn configured(&self, observation: &Observation) -> Option<Policy> {
        observation.has_settings().then(|| self.settings.cloned().unwrap_or_default())
    }
}

/// What the generator makes of the stored policy today, against what is there. A function that is missing is another finding.
fn function_drifts(
    observation: &Observation,
    stored: &StoredPolicy,
    shape: &Table,
    policy: &Policy,
) -> Vec<Drift> {
    let mut table = shape.clone();
    table.name = stored.table.clone();
    let capture = Capture {
        storage: observation.storage.clone(),
        table,
        policy: policy.clone(),
        level: stored.level,
        key: stored.shape.key.clone(),
        library: Vec::new(),
    };
    let mut drifts = Vec::new();
    for function in capture.functions() {
        let Some(found) = observation.functions.get(&function.name) else { continue };
        let is_older = stored.generator != GENERATOR;
        // The first generation stored no digests: whether somebody has changed its functions cannot be known.
        let was_made = stored.shape.functions.get(&function.name);
        let is_as_it_was = was_made.map_or(is_older, |digest| *digest == found.digest);
        let is_up_to_date = found.digest == function.digest();
        if !found.is_definer || !(is_as_it_was || is_up_to_date) {
            drifts.push(Drift::FunctionChanged);
        } else if !is_up_to_date {
            drifts.push(if is_older { Drift::GeneratorOlder } else { Drift::ColumnsChanged });
        }
    }
    drifts
}

/// The stored policy, with the level that was chosen.
pub(super) fn deployed(policy: &Policy, stored: &StoredPolicy) -> Policy {
    Policy { level: Some(stored.level), ..policy.clone() }
}

/// A finding for each table whose policy has drifted, and for each stored policy without a table.
pub(super) fn findings(observation: &Observation) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        observation.subjects().filter_map(|subject| finding(observation, &subject)).collect();
    findings.extend(observation.orphans().map(|stored| orphan(observation, stored)));
    findings
}

fn finding(observation: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let stored = subject.policy?;
    let drifts = subject.drifts(observation);
    let severity = drifts.iter().map(|drift| drift.severity()).max()?;
    let reasons: Vec<&str> = drifts.iter().map(|drift| drift.message()).collect();
    let columns = subject.column_drift();
    let diff = subject
        .configured(observation)
        .zip(stored.policy.as_ref())
        .map(|(configured, policy)| policy_diff::of(&configured, &deployed(policy, stored)));
    let finding = Finding::error(FindingCode::PolicyDrift, &subject.table.name, reasons.join("; "))
        .remedy(subject.repair(&drifts))
        .details(
            json!({ "reasons": drifts, "columns": (!columns.is_empty()).then_some(columns), "diff": diff }),
        );
    Some(Finding { severity, ..finding })
}

fn steps_to_delete(observation: &Observation, table: &HostTable) -> Vec<String> {
    let mut steps = vec![format!(
        "delete from {} where table_schema = {} and table_name = {}",
        observation.storage.table("threadline_capture_policies"),
        literal(&table.schema),
        literal(&table.name)
    )];
    for prefix in FunctionPrefix::ALL {
        let function = table.function(prefix);
        if observation.functions.contains_key(&function) {
            let storage = quote(observation.storage.as_str());
            steps.push(format!("drop function if exists {storage}.{}()", quote(&function)));
        }
    }
    steps
}

fn orphan(observation: &Observation, stored: &StoredPolicy) -> Finding {
    let partition_of = observation
        .tables
        .iter()
        .find(|table| table.relations.iter().any(|one| one.table() == stored.table))
        .map(|table| &table.name);
    let message = match partition_of {
        Some(table) => {
            format!("a policy is stored of what is a partition of {table} now, and is captured with it")
        }
        None => "a policy is stored, and there is no such table".to_owned(),
    };
    Finding::warning(FindingCode::PolicyDrift, &stored.table, message)
        .remedy(match partition_of {
            Some(_) => steps_to_delete(observation, &stored.table).into_iter().take(1).collect(),
            None => steps_to_delete(observation, &stored.table),
        })
        .details(json!({ "reasons": [if partition_of.is_some() { "table_is_partition" } else { "table_missing" }] }))
}
