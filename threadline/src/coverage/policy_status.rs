//! What settings say of each captured table, and what is deployed.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::{
    Drift, Expectations, Severity, drift,
    findings::{is_ambiguous, lacks_triggers},
    observation::{Observation, Subject},
    observed::Relation,
    policy_diff,
};
use crate::{
    StorageSchema,
    capture::{HostTable, Level, Policy, trigger::CaptureTrigger},
};

/// How settings and what is deployed compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// They differ.
    DriftDetected,
    /// What is deployed cannot be told.
    CouldNotIntrospect,
    /// What is deployed is what the settings say or, where these say nothing at all, what the stored policy says.
    ConfigMatchesDeployed,
}

impl Status {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DriftDetected => "drift_detected",
            Self::CouldNotIntrospect => "could_not_introspect",
            Self::ConfigMatchesDeployed => "config_matches_deployed",
        }
    }
}

/// The policy of one table. Never holds a value of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyStatus {
    /// As `schema.table`.
    #[serde(serialize_with = "as_text")]
    pub table: HostTable,
    /// How both compare.
    pub status: Status,
    /// What the settings say; `None` when they say nothing of any table.
    pub configured: Option<Policy>,
    /// What is deployed; `None` when nothing is, or when it cannot be told.
    pub deployed: Option<Policy>,
    /// For each option what only one of them has, or both values; empty when one of them is not there.
    pub diff: Map<String, Value>,
    /// In which ways they differ.
    pub drift: Vec<Drift>,
    /// What is wrong, for people.
    pub warning: Option<String>,
    /// What to do: a command line, or an SQL statement.
    pub hint: Option<String>,
}

fn as_text<S: Serializer>(table: &HostTable, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(table)
}

/// Policies of all tables that are captured, or that the settings name, by name.
///
/// # Errors
/// When the server is away, or the role may not read the stored policies.
pub async fn policies(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    expectations: &Expectations,
) -> Result<Vec<PolicyStatus>, sqlx::Error> {
    let observation = Observation::read(connection, storage, expectations).await?;
    let mut statuses: BTreeMap<&HostTable, PolicyStatus> = BTreeMap::new();
    for subject in observation.subjects() {
        if subject.table.has_capture() || subject.policy.is_some() || subject.settings.is_some() {
            statuses.insert(&subject.table.name, status(&observation, &subject));
        }
    }
    for (name, policy) in observation.missing_tables() {
        let warning = "the settings name a table that is not there";
        let status = PolicyStatus { configured: Some(policy.clone()), ..drifted(name, warning) };
        statuses.insert(name, status);
    }
    Ok(statuses.into_values().collect())
}

fn drifted(name: &HostTable, warning: &str) -> PolicyStatus {
    PolicyStatus {
        table: name.clone(),
        status: Status::DriftDetected,
        configured: None,
        deployed: None,
        diff: Map::new(),
        drift: Vec::new(),
        warning: Some(warning.to_owned()),
        hint: None,
    }
}

fn status(observation: &Observation, subject: &Subject<'_>) -> PolicyStatus {
    let configured = subject.configured(observation);
    let none = PolicyStatus {
        configured: configured.clone(),
        hint: subject.generate(None).pop(),
        ..drifted(&subject.table.name, "")
    };
    let because = |warning: &str| PolicyStatus { warning: Some(warning.to_owned()), ..none.clone() };
    let unknown = |warning: &str| PolicyStatus { status: Status::CouldNotIntrospect, ..because(warning) };
    if !subject.table.has_capture() {
        return because("it is not captured");
    }
    if is_ambiguous(subject) {
        return unknown("more than one trigger records the same changes");
    }
    let deployed = match deployed(subject) {
        Ok(deployed) => deployed,
        Err(why) => return unknown(why),
    };
    let mut drift = subject.drifts(observation);
    let diff =
        configured.as_ref().map(|configured| policy_diff::of(configured, &deployed)).unwrap_or_default();
    if !policy_diff::is_empty(&diff) && !drift.contains(&Drift::SettingsDiffer) {
        drift.insert(0, Drift::SettingsDiffer);
    }
    let lacks = lacks_triggers(subject);
    let is_wrong = lacks || drift.iter().any(|one| one.severity() == Severity::Error);
    let mut warnings: Vec<&str> = drift.iter().map(|one| one.message()).collect();
    if lacks {
        warnings.push("a trigger of those that were generated is not there");
    }
    let hint = if warnings.is_empty() { None } else { subject.repair(&drift).pop() };
    PolicyStatus {
        status: if is_wrong { Status::DriftDetected } else { Status::ConfigMatchesDeployed },
        deployed: Some(deployed),
        diff,
        drift,
        hint,
        warning: (!warnings.is_empty()).then(|| warnings.join("; ")),
        ..none
    }
}

/// Of the stored policy; of the Elixir library's function for all tables, which hides nothing and keeps no values before an update.
fn deployed(subject: &Subject<'_>) -> Result<Policy, &'static str> {
    if let Some(stored) = subject.policy {
        let policy = stored.policy.as_ref().ok_or("the stored policy cannot be read")?;
        return Ok(drift::deployed(policy, stored));
    }
    let has_own_function =
        subject.table.relations.iter().flat_map(Relation::captures).any(CaptureTrigger::has_own_function);
    if has_own_function {
        return Err("its function was generated elsewhere, and no policy is stored of it");
    }
    let primary_key = subject.settings.map(|policy| policy.primary_key.clone()).unwrap_or_default();
    Ok(Policy { level: Some(Level::Row), store_changed_from: false, primary_key, ..Policy::default() })
}
