//! What records are worth, alone and together.

use serde_json::{Value, json};
use threadline::evidence::{Entrypoint, ProofRequest, Record, Subject};

use super::Recorded;

const WORTH: [&str; 3] = ["proven", "inferred_posture", "unsupported"];

async fn assessment(recorded: &Recorded, strict: bool) -> anyhow::Result<Value> {
    let proof = recorded.evidence().proof(&ProofRequest { strict, ..ProofRequest::default() }).await?;
    assert_eq!(proof.strict, strict);
    let mut assessment = serde_json::to_value(proof.claim_assessment)?;
    for always in ["record_statuses", "error_statuses"] {
        assessment.as_object_mut().unwrap().remove(always);
    }
    Ok(assessment)
}

fn inferred() -> Value {
    json!({"status": "inferred_posture", "kind": "posture_snapshot"})
}

fn proven() -> Value {
    json!({"status": "proven", "kind": "direct_fact"})
}

/// A host's claim without an explicit worth, by its subject: the worth, and the worth where hosts are not taken at their word.
#[tokio::test]
async fn without_an_explicit_claim_the_subject_decides_and_strict_believes_machines_alone()
-> anyhow::Result<()> {
    for (subject, worth) in [
        (Subject::RedactionPolicy, inferred()),
        (Subject::RetentionPolicy, inferred()),
        (Subject::SupportScopePosture, inferred()),
        (Subject::TriggerCoverage, proven()),
        (Subject::RetentionRun, proven()),
        (Subject::ExportDelivery, proven()),
    ] {
        let recorded = Recorded::nothing().await?;
        recorded.timeline.record_evidence(Record::new(subject, json!({"n": 1}), "ok")).await?;
        assert_eq!(assessment(&recorded, false).await?, worth, "{subject}");
        assert_eq!(assessment(&recorded, true).await?, inferred(), "{subject}");
        let machine = Record::new(subject, json!({"n": 1}), "ok").made_by(Entrypoint::Coverage);
        recorded.timeline.record_evidence(machine).await?;
        assert_eq!(assessment(&recorded, true).await?, worth, "{subject}");
    }
    Ok(())
}

#[tokio::test]
async fn an_explicit_claim_counts_and_one_that_cannot_be_read_does_not() -> anyhow::Result<()> {
    let explicit = |status: &str, kind: &str| json!({"status": status, "kind": kind});
    for (claim, expected) in [
        (json!({"status": "proven"}), explicit("proven", "direct_fact")),
        (json!({"status": "inferred_posture"}), explicit("inferred_posture", "posture_snapshot")),
        (json!({"status": "unsupported"}), explicit("unsupported", "unsupported_claim")),
        (
            json!({"status": "proven", "reason": "seen", "kind": "other"}),
            json!({"status": "proven", "kind": "direct_fact", "reason": "seen"}),
        ),
        (json!({"status": "proven", "reason": 7}), explicit("proven", "direct_fact")),
        (json!({"status": "certain"}), inferred()),
        (json!({"status": null}), inferred()),
        (json!({"status": ["proven"]}), inferred()),
        (json!("proven"), inferred()),
        (json!(null), inferred()),
        (json!([]), inferred()),
    ] {
        let recorded = Recorded::nothing().await?;
        let detail = json!({"claim_assessment": claim, "other": [1, {"status": "unsupported"}]});
        let record = Record::new(Subject::RetentionPolicy, json!({}), "ok").detail(detail);
        recorded.timeline.record_evidence(record).await?;
        assert_eq!(assessment(&recorded, false).await?, expected, "{claim}");
        // What is said explicitly is as much worth where hosts are not taken at their word.
        assert_eq!(assessment(&recorded, true).await?, expected, "{claim}");
    }
    Ok(())
}

/// All three of all three, in every order: the worst decides, with the reason of its newest record.
#[tokio::test]
async fn of_several_records_the_worst_decides() -> anyhow::Result<()> {
    for first in WORTH {
        for second in WORTH {
            for third in WORTH {
                let recorded = Recorded::nothing().await?;
                for (n, worth) in [third, second, first].into_iter().enumerate() {
                    let detail =
                        json!({"claim_assessment": {"status": worth, "reason": format!("{worth} {n}")}});
                    let record = Record::new(Subject::TriggerCoverage, json!({"n": n}), "ok").detail(detail);
                    recorded.timeline.record_evidence(record).await?;
                }
                let newest_first = [(first, 2), (second, 1), (third, 0)];
                let worst =
                    WORTH.into_iter().rev().find(|one| newest_first.iter().any(|(worth, _)| worth == one));
                let (worth, n) = newest_first.into_iter().find(|(worth, _)| Some(*worth) == worst).unwrap();
                let found = assessment(&recorded, false).await?;
                assert_eq!(found["status"], worth, "{newest_first:?}");
                assert_eq!(found["reason"], format!("{worth} {n}"), "{newest_first:?}");
            }
        }
    }
    Ok(())
}
