//! What is wrong with the capture of a table.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use crate::capture::HostTable;

/// Which kind of finding; names stay the same between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// Capture was switched off.
    CaptureOff,
    /// A trigger does not fire in ordinary sessions.
    CaptureTriggerDisabled,
    /// Several triggers record the same changes.
    DuplicateCaptureTrigger,
    /// A trigger of an Elixir library before 0.11, which names a row by its column `id`.
    LegacyTriggerNoPkArgs,
    /// Triggers miss changes because of where they fire.
    LevelBlind,
    /// Transactions whose actor or context could not be read.
    MalformedContextSeen,
    /// A trigger of the generated ones is not there, or is not what was generated.
    MissingTrigger,
    /// A partition that is not captured as its table is, or a table that was one.
    PartitionWithoutCapture,
    /// Changes do not name their rows by the key of the table.
    PkDrift,
    /// The settings, the stored policy, the functions and the columns do not agree.
    PolicyDrift,
    /// A table's own function serves other tables.
    SharedCaptureFunction,
    /// A crash empties the table, which nothing records.
    UnloggedTable,
    /// Recorded changes that do not name their rows, although they could.
    UnresolvedLegacyKeys,
    /// A virtual column, which is recorded as null whatever its value is.
    VirtualColumnAdded,
}

impl FindingCode {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::CaptureOff,
        Self::CaptureTriggerDisabled,
        Self::DuplicateCaptureTrigger,
        Self::LegacyTriggerNoPkArgs,
        Self::LevelBlind,
        Self::MalformedContextSeen,
        Self::MissingTrigger,
        Self::PartitionWithoutCapture,
        Self::PkDrift,
        Self::PolicyDrift,
        Self::SharedCaptureFunction,
        Self::UnloggedTable,
        Self::UnresolvedLegacyKeys,
        Self::VirtualColumnAdded,
    ];

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CaptureOff => "capture_off",
            Self::CaptureTriggerDisabled => "capture_trigger_disabled",
            Self::DuplicateCaptureTrigger => "duplicate_capture_trigger",
            Self::LegacyTriggerNoPkArgs => "legacy_trigger_no_pk_args",
            Self::LevelBlind => "level_blind",
            Self::MalformedContextSeen => "malformed_context_seen",
            Self::MissingTrigger => "missing_trigger",
            Self::PartitionWithoutCapture => "partition_without_capture",
            Self::PkDrift => "pk_drift",
            Self::PolicyDrift => "policy_drift",
            Self::SharedCaptureFunction => "shared_capture_function",
            Self::UnloggedTable => "unlogged_table",
            Self::UnresolvedLegacyKeys => "unresolved_legacy_keys",
            Self::VirtualColumnAdded => "virtual_column_added",
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a finding is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// What is recorded is right and complete, and something is to be done.
    Warning,
    /// Something is not recorded, is recorded wrongly, or may be recorded although it is to be hidden.
    Error,
}

impl Severity {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What was found about one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub code: FindingCode,
    /// What it is worth.
    pub severity: Severity,
    /// The table's schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do, in this order: each a command line that begins with `threadline`, or an SQL statement.
    pub remedy: Vec<String>,
    /// The same for programs; what it holds depends on the code.
    pub details: Value,
}

impl Finding {
    pub(super) fn error(code: FindingCode, table: &HostTable, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            schema: table.schema.clone(),
            table: table.name.clone(),
            message: message.into(),
            remedy: Vec::new(),
            details: json!({}),
        }
    }

    pub(super) fn warning(code: FindingCode, table: &HostTable, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, table, message) }
    }

    pub(super) fn remedy(self, steps: impl IntoIterator<Item = String>) -> Self {
        Self { remedy: steps.into_iter().collect(), ..self }
    }

    pub(super) fn details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// By table, then by kind.
    pub(super) fn order(&self) -> (&str, &str, &'static str, &str) {
        (&self.schema, &self.table, self.code.as_str(), &self.message)
    }
}
