//! Evidence: what was claimed of the audit itself, when and by whom. Records are appended and never changed.
//!
//! A host attests with a [`Record`], in its own transaction; commands of this crate attest what they have seen themselves, and such a
//! record says so ([`EvidenceRecord::is_machine_made`]). [`Evidence`] reads them, and sums them up as a [`Proof`].
//!
//! ```no_run
//! use serde_json::json;
//! use threadline::{Timeline, evidence::{ProofRequest, Record, Subject}};
//!
//! # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Record::new(Subject::RetentionPolicy, json!({"name": "default"}), "ok").detail(json!({"keep_days": 400}));
//! timeline.record_evidence(policy).await?;
//! let proof = timeline.evidence().proof(&ProofRequest::default()).await?;
//! println!("{}", proof.claim_assessment.status.as_str());
//! # Ok(())
//! # }
//! ```

mod claim;
mod document;
mod machine;
mod observed;
mod proof;
mod reader;
mod record;
mod stored;
mod subject;

pub use claim::{Claim, ClaimStatus};
pub use document::Document;
pub use machine::{Entrypoint, PRODUCT};
pub use observed::{expected_coverage, redaction_policy, trigger_coverage};
pub use proof::{Assessment, Mode, Proof, ProofRequest, Summary};
pub use reader::{Evidence, HistoryFilter, LIMIT, LIMIT_MAX, Records};
pub use record::{EvidenceError, Record};
pub use stored::EvidenceRecord;
pub use subject::Subject;
