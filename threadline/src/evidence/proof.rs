//! The document that sums up what was recorded.

use std::collections::BTreeSet;

use serde::Serialize;
use time::OffsetDateTime;

use super::{Claim, ClaimStatus, Document, Evidence, EvidenceRecord, HistoryFilter, Records, Subject};
use crate::query::{Instant, ReadError, serialize, time_text};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct ProofRequest {
    /// About what; without it, about everything.
    pub subject: Option<Subject>,
    /// About which one; needs a subject.
    pub subject_ref: Option<Document>,
    /// Which records.
    pub mode: Mode,
    /// The first `recorded_at`; of a history alone.
    pub from: Option<Instant>,
    /// The last one; of a history alone.
    pub to: Option<Instant>,
    /// Records at most.
    pub limit: Option<u32>,
    /// What a host claims without saying how much it is worth counts as inferred.
    pub strict: bool,
}

/// Which records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The newest about each.
    #[default]
    Latest,
    /// All.
    History,
}

/// The document. Its members are those of the Elixir library's, and `has_more`, `strict` and `machine_made` of each record.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// 1.
    pub format_version: u8,
    /// When, by the clock of whoever asked.
    #[serde(serialize_with = "serialize::time")]
    pub generated_at: OffsetDateTime,
    /// `threadline_evidence`.
    pub proof_type: &'static str,
    /// The subject, or `overview`.
    pub subject: &'static str,
    /// Which records.
    pub mode: Mode,
    /// What else was asked for.
    pub filters: Filters,
    /// How many there are.
    pub summary: Summary,
    /// What they are worth together.
    pub claim_assessment: Assessment,
    /// The records, the newest first.
    pub records: Vec<EvidenceRecord>,
    /// Whether there are more than were asked for.
    pub has_more: bool,
    /// Whether what hosts claim was taken for less.
    pub strict: bool,
}

/// What was asked for.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filters {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_ref: Option<Document>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Records.
    pub record_count: usize,
    /// Different subjects among them.
    pub subject_count: usize,
}

/// What records are worth together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Assessment {
    /// What they are worth.
    pub status: ClaimStatus,
    /// Which kind of claim that is.
    pub kind: &'static str,
    /// Why, where somebody or something says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the records say, each once, as they come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub record_statuses: Vec<String>,
    /// How asking may fail.
    pub error_statuses: [&'static str; 2],
}

impl Evidence {
    /// Everything that was recorded of what is asked for, and what it is worth.
    ///
    /// # Errors
    /// `subject_required`, `window_of_history`, and as [`Evidence::list_history`].
    pub async fn proof(&self, request: &ProofRequest) -> Result<Proof, ReadError> {
        let found = self.requested(request).await?;
        Ok(Proof::of(request, found, OffsetDateTime::now_utc()))
    }

    async fn requested(&self, request: &ProofRequest) -> Result<Records, ReadError> {
        let ProofRequest { subject, subject_ref, mode, from, to, limit, .. } = request.clone();
        if subject_ref.is_some() && subject.is_none() {
            let reason = "a reference is one to a subject: name the subject too";
            return Err(ReadError::unusable("subject_required", reason));
        }
        match (mode, subject, subject_ref) {
            (Mode::History, subject, subject_ref) => {
                self.list_history(&HistoryFilter { subject, subject_ref, from, to, limit }).await
            }
            (Mode::Latest, ..) if from.is_some() || to.is_some() => {
                let reason = "the newest records are those of now: ask for the history between two times";
                Err(ReadError::unusable("window_of_history", reason))
            }
            (Mode::Latest, Some(subject), Some(subject_ref)) => {
                let newest = self.get_latest_subject_ref(subject, subject_ref).await?;
                Ok(Records { records: newest.into_iter().collect(), has_more: false })
            }
            (Mode::Latest, Some(subject), None) => self.list_latest_subject_refs(subject, limit).await,
            (Mode::Latest, None, _) => self.list_overview(limit).await,
        }
    }
}

impl Proof {
    fn of(request: &ProofRequest, found: Records, generated_at: OffsetDateTime) -> Self {
        let Records { records, has_more } = found;
        let subjects: BTreeSet<&str> = records.iter().map(|record| record.subject.as_str()).collect();
        let Claim { status, reason } = Claim::of_all(&records, request.strict);
        let mut record_statuses: Vec<String> = Vec::new();
        for record in &records {
            if !record_statuses.contains(&record.summary_status) {
                record_statuses.push(record.summary_status.clone());
            }
        }
        Self {
            format_version: 1,
            generated_at,
            proof_type: "threadline_evidence",
            subject: request.subject.map_or("overview", Subject::as_str),
            mode: request.mode,
            filters: Filters {
                subject_ref: request.subject_ref.clone(),
                from: request.from.map(instant),
                to: request.to.map(instant),
                limit: request.limit,
            },
            summary: Summary { record_count: records.len(), subject_count: subjects.len() },
            claim_assessment: Assessment {
                status,
                kind: status.kind(),
                reason,
                record_statuses,
                error_statuses: ["invalid_request", "runtime_failure"],
            },
            records,
            has_more,
            strict: request.strict,
        }
    }
}

/// A time that somebody has given: without decimals where it has none.
fn instant(at: Instant) -> String {
    let text = time_text(at.time());
    text.strip_suffix(".000000Z").map_or(text.clone(), |whole| format!("{whole}Z"))
}
