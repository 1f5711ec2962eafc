//! What evidence is about.

use std::{fmt, str::FromStr};

use crate::capture::Refusal;

/// What a record is about. The Elixir library has the same six, and no others can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// What of captured rows is hidden.
    RedactionPolicy,
    /// Which tables are captured.
    TriggerCoverage,
    /// A run that removed what was old enough.
    RetentionRun,
    /// How long rows are kept.
    RetentionPolicy,
    /// Something was handed over.
    ExportDelivery,
    /// Who may see what.
    SupportScopePosture,
}

impl Subject {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::RedactionPolicy,
        Self::TriggerCoverage,
        Self::RetentionRun,
        Self::RetentionPolicy,
        Self::ExportDelivery,
        Self::SupportScopePosture,
    ];

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RedactionPolicy => "redaction_policy",
            Self::TriggerCoverage => "trigger_coverage",
            Self::RetentionRun => "retention_run",
            Self::RetentionPolicy => "retention_policy",
            Self::ExportDelivery => "export_delivery",
            Self::SupportScopePosture => "support_scope_posture",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Subject {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|subject| subject.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Refusal::new("unsupported_subject", format!("there is no evidence of {text:?}"))
                .hint(format!("the subjects are {known}"))
        })
    }
}
