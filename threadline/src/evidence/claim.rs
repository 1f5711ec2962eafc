//! How much a record is worth, and how much several of them are together.

use serde::Serialize;

use super::{EvidenceRecord, Subject};
use crate::query::canonical::members;

/// What a claim is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimStatus {
    /// It was seen, or done.
    Proven,
    /// It was so when it was recorded, and says how things are meant to be.
    InferredPosture,
    /// Nothing supports it.
    Unsupported,
}

/// What a claim is worth, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is worth.
    pub status: ClaimStatus,
    /// Why, where somebody or something says so.
    pub reason: Option<String>,
}

impl ClaimStatus {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::InferredPosture => "inferred_posture",
            Self::Unsupported => "unsupported",
        }
    }

    /// Which kind of claim it makes.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Proven => "direct_fact",
            Self::InferredPosture => "posture_snapshot",
            Self::Unsupported => "unsupported_claim",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Proven, Self::InferredPosture, Self::Unsupported].into_iter().find(|one| one.as_str() == text)
    }
}

impl Claim {
    fn because(status: ClaimStatus, reason: &str) -> Self {
        Self { status, reason: Some(reason.to_owned()) }
    }

    /// Of one record: what its detail says; without that, what its subject lets expect. `strict` takes what a host claims without saying
    /// how much it is worth for what is meant to be so.
    #[must_use]
    pub fn of(record: &EvidenceRecord, strict: bool) -> Self {
        if let Some(explicit) = explicit(record) {
            return explicit;
        }
        let status = match record.subject.parse() {
            Ok(Subject::RedactionPolicy | Subject::RetentionPolicy | Subject::SupportScopePosture) => {
                ClaimStatus::InferredPosture
            }
            Ok(_) if strict && !record.is_machine_made => ClaimStatus::InferredPosture,
            Ok(_) => ClaimStatus::Proven,
            Err(_) => return Self::because(ClaimStatus::Unsupported, "unknown_subject"),
        };
        Self { status, reason: None }
    }

    /// Of several: the first one that is unsupported, else the first that is inferred, else the first.
    #[must_use]
    pub fn of_all(records: &[EvidenceRecord], strict: bool) -> Self {
        let claims: Vec<Self> = records.iter().map(|record| Self::of(record, strict)).collect();
        let with = |status: ClaimStatus| claims.iter().find(|claim| claim.status == status);
        with(ClaimStatus::Unsupported)
            .or_else(|| with(ClaimStatus::InferredPosture))
            .or(claims.first())
            .cloned()
            .unwrap_or_else(|| Self::because(ClaimStatus::Unsupported, "no_records"))
    }
}

/// What the detail says, where that can be read.
fn explicit(record: &EvidenceRecord) -> Option<Claim> {
    let detail = members(&record.detail);
    let assessment = members(detail.get("claim_assessment")?);
    let text = |key: &str| -> Option<String> { serde_json::from_str(assessment.get(key)?.get()).ok() };
    Some(Claim { status: ClaimStatus::read(&text("status")?)?, reason: text("reason") })
}
