//! Writing records.

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::{
    StorageSchema,
    evidence::{Document, Entrypoint, EvidenceError, PRODUCT, Record, Subject},
};
use time::{Date, Month, OffsetDateTime, UtcOffset};

use super::Recorded;

fn record() -> Record {
    Record::new(Subject::TriggerCoverage, json!({"schema": "public"}), "ok")
}

#[tokio::test]
async fn a_record_shares_the_fate_of_the_callers_transaction() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    recorded.connection.execute("begin").await?;
    record().record(&mut recorded.connection, &StorageSchema::default()).await?;
    recorded.connection.execute("rollback").await?;
    assert!(recorded.evidence().list_overview(None).await?.records.is_empty());
    recorded.timeline.record_evidence(record()).await?;
    assert_eq!(recorded.evidence().list_overview(None).await?.records.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_no_record_is_refused_with_its_term_and_nothing_is_written() -> anyhow::Result<()> {
    let recorded = Recorded::nothing().await?;
    let new = |subject_ref: Value, status: &str| Record::new(Subject::RetentionRun, subject_ref, status);
    let ancient =
        Date::from_calendar_date(-9_000, Month::January, 1)?.midnight().assume_offset(UtcOffset::UTC);
    for (record, term) in [
        (new(json!("x"), "ok"), "invalid_subject_ref"),
        (new(json!(null), "ok"), "invalid_subject_ref"),
        (new(json!([{}]), "ok"), "invalid_subject_ref"),
        (new(json!({}), ""), "summary_status_blank"),
        (new(json!({}), " \n"), "summary_status_blank"),
        (new(json!({}), "ok").detail(json!("x")), "invalid_detail"),
        (new(json!({}), "ok").schema_version(0), "invalid_schema_version"),
        (new(json!({}), "ok").schema_version(-1), "invalid_schema_version"),
        (new(json!({"a": "\0"}), "ok"), "invalid_value"),
        (new(json!({}), "o\0k"), "invalid_value"),
        (new(json!({}), "ok").detail(json!({"a\0": 1})), "invalid_value"),
        (new(json!({}), "ok").detail(r#"{"a": "\ud800"}"#.parse::<Document>()?), "invalid_value"),
        (new(json!({}), "ok").detail(r#"{"a": 1e999999}"#.parse::<Document>()?), "invalid_value"),
        (new(json!({}), "ok").recorded_at(ancient), "invalid_value"),
    ] {
        let described = format!("{record:?}");
        match recorded.timeline.record_evidence(record).await {
            Err(EvidenceError::Refused(refusal)) => assert_eq!(refusal.term, term, "{described}"),
            other => panic!("{described}: {other:?}"),
        }
    }
    assert!(recorded.evidence().list_overview(None).await?.records.is_empty());
    assert_eq!("foo".parse::<Subject>().map_err(|refusal| refusal.term), Err("unsupported_subject"));
    Ok(())
}

#[tokio::test]
async fn every_digit_of_a_document_is_stored() -> anyhow::Result<()> {
    let recorded = Recorded::nothing().await?;
    let exact = r#"{"n": 123456789012345678901234567890.10}"#;
    let subject_ref: Document = exact.parse()?;
    let stored = recorded
        .timeline
        .record_evidence(
            Record::new(Subject::ExportDelivery, subject_ref.clone(), "ok").detail(subject_ref.clone()),
        )
        .await?;
    assert_eq!((stored.subject_ref.get(), stored.detail.get()), (exact, exact));
    let found = recorded.evidence().get_latest_subject_ref(Subject::ExportDelivery, subject_ref).await?;
    assert_eq!(found.map(|record| record.id), Some(stored.id));
    let near: Document = r#"{"n": 123456789012345678901234567890.11}"#.parse()?;
    assert!(recorded.evidence().get_latest_subject_ref(Subject::ExportDelivery, near).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_record_says_who_made_it() -> anyhow::Result<()> {
    let recorded = Recorded::nothing().await?;
    let provenance = |value: Value| value.as_object().unwrap().clone();
    for (record, expected, is_machine_made) in [
        (record(), json!({"writer": "threadline", "entrypoint": "record_trigger_coverage"}), false),
        (
            record().provenance(provenance(json!({"writer": "shop", "run": 7}))),
            json!({"writer": "shop", "entrypoint": "record_trigger_coverage", "run": 7}),
            false,
        ),
        (
            record().made_by(Entrypoint::Coverage),
            json!({"writer": "threadline", "entrypoint": "coverage", "product": PRODUCT, "version": env!("CARGO_PKG_VERSION")}),
            true,
        ),
    ] {
        let stored = recorded.timeline.record_evidence(record).await?;
        assert_eq!(serde_json::from_str::<Value>(stored.provenance.get())?, expected);
        assert_eq!(stored.is_machine_made, is_machine_made, "{expected}");
        assert!((OffsetDateTime::now_utc() - stored.recorded_at).whole_minutes().abs() < 5);
    }
    Ok(())
}
