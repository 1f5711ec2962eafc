//! Reading: bounds, whoever may not, and rows as somebody else wrote them.

use serde_json::{Value, json, value::RawValue};
use sqlx::Executor as _;
use threadline::{
    evidence::{Document, Evidence, HistoryFilter, LIMIT, LIMIT_MAX, Mode, ProofRequest, Subject},
    query::{Rule, Scope},
};

use super::Recorded;

/// As many records about one subject as are asked for, a second apart, the newest last.
async fn many(recorded: &mut Recorded, records: u32) -> anyhow::Result<()> {
    sqlx::query(
        "insert into threadline_evidence_records (subject, subject_ref, summary_status, recorded_at)
         select 'retention_run', jsonb_build_object('run', n), 'ok', timestamptz '2026-01-01Z' + n * interval '1 second'
         from generate_series(1, $1) n",
    )
    .bind(i32::try_from(records)?)
    .execute(&mut recorded.connection)
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_answer_has_a_thousand_records_unless_more_are_asked_for_and_says_that_there_are_more()
-> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    many(&mut recorded, LIMIT + 1).await?;
    let evidence = recorded.evidence();
    for (limit, count, has_more) in [
        (None, LIMIT, true),
        (Some(1), 1, true),
        (Some(LIMIT), LIMIT, true),
        (Some(LIMIT + 1), LIMIT + 1, false),
        (Some(LIMIT_MAX), LIMIT + 1, false),
    ] {
        let history = evidence.list_history(&HistoryFilter { limit, ..HistoryFilter::default() }).await?;
        let latest = evidence.list_latest_subject_refs(Subject::RetentionRun, limit).await?;
        let overview = evidence.list_overview(limit).await?;
        for records in [&history, &latest, &overview] {
            assert_eq!((records.records.len(), records.has_more), (count as usize, has_more), "{limit:?}");
            assert!(records.records.is_sorted_by(|one, next| one.recorded_at > next.recorded_at));
        }
        for mode in [Mode::Latest, Mode::History] {
            let proof = evidence.proof(&ProofRequest { limit, mode, ..ProofRequest::default() }).await?;
            assert_eq!((proof.summary.record_count, proof.has_more), (count as usize, has_more));
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_has_a_term() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    let evidence = recorded.evidence();
    let subject = Some(Subject::TriggerCoverage);
    let at = Some("2026-05-15T12:00:00Z".parse()?);
    let reference = |text: &str| Some(text.parse::<Document>().unwrap());
    for (request, term) in [
        (ProofRequest { limit: Some(0), ..ProofRequest::default() }, "invalid_limit"),
        (
            ProofRequest { limit: Some(LIMIT_MAX + 1), mode: Mode::History, ..ProofRequest::default() },
            "invalid_limit",
        ),
        (ProofRequest { subject_ref: reference("{}"), ..ProofRequest::default() }, "subject_required"),
        (ProofRequest { from: at, ..ProofRequest::default() }, "window_of_history"),
        (ProofRequest { to: at, subject, ..ProofRequest::default() }, "window_of_history"),
        (
            ProofRequest { subject, subject_ref: reference("[]"), ..ProofRequest::default() },
            "invalid_subject_ref",
        ),
        (
            ProofRequest { subject, subject_ref: reference("\"x\""), ..ProofRequest::default() },
            "invalid_subject_ref",
        ),
        (
            ProofRequest { subject, subject_ref: reference(r#"{"a": "\u0000"}"#), ..ProofRequest::default() },
            "invalid_subject_ref",
        ),
    ] {
        let error = evidence.proof(&request).await.expect_err(term);
        assert_eq!(error.term(), Some(term), "{error}");
    }
    recorded.connection.execute("drop table threadline_evidence_records").await?;
    let error = evidence.list_overview(None).await.expect_err("no table");
    assert_eq!(error.term(), Some("not_installed"), "{error}");
    Ok(())
}

#[tokio::test]
async fn whoever_sees_a_part_of_a_timeline_sees_none_of_its_evidence() -> anyhow::Result<()> {
    let recorded = Recorded::by_the_library().await?;
    for scope in [
        Scope::nothing(),
        Scope::of_context("tenant", "t1"),
        Scope::everything().changes(Rule::Tables(vec!["public.posts".to_owned()])),
        Scope::nothing().actions(Rule::ActionPrefix(String::new())),
    ] {
        let refused = Evidence::of(&recorded.timeline.reader(scope)).expect_err("a scope");
        assert_eq!(refused.term(), Some("evidence_scoped"));
    }
    let whole = Evidence::of(&recorded.timeline.reader(Scope::everything()))?;
    assert_eq!(whole.list_overview(None).await?.records.len(), 4);
    Ok(())
}

#[tokio::test]
async fn the_newest_of_equal_times_is_the_one_with_the_greater_id() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    recorded
        .connection
        .execute(
            "insert into threadline_evidence_records (id, subject, subject_ref, summary_status, recorded_at)
             select ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'retention_run', '{\"run\": 1}', n::text, '2026-01-01Z'
             from unnest(array[2, 9, 4]) n",
        )
        .await?;
    let statuses = |records: &threadline::evidence::Records| -> Vec<String> {
        records.records.iter().map(|record| record.summary_status.clone()).collect()
    };
    let evidence = recorded.evidence();
    assert_eq!(statuses(&evidence.list_history(&HistoryFilter::default()).await?), ["9", "4", "2"]);
    assert_eq!(statuses(&evidence.list_overview(None).await?), ["9"]);
    Ok(())
}

/// Nothing of this can be written by the library or by us; somebody with rights on the table can.
#[tokio::test]
async fn no_row_that_is_stored_makes_a_reader_fail() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    recorded
        .connection
        .execute(
            r#"insert into threadline_evidence_records
                   (subject, subject_ref, summary_status, recorded_at, actor_ref, provenance, detail, schema_version, inserted_at)
               values ('own_subject', '7', '', 'infinity', '"text"', 'null', '[]', -1, '-infinity'),
                      ('', '"x"', 'ok', '-infinity', '{"type": 7}', '"threadline"', 'true', 0, '294000-01-01Z'),
                      ('retention_run', '{"n": 1e300}', 'ok', '4000-01-01 BC', 'null', '{}', '{"claim_assessment": 7}', 1, 'infinity')"#,
        )
        .await?;
    // Deeper than what reads JSON with a stack goes.
    recorded
        .connection
        .execute(
            "insert into threadline_evidence_records (subject, subject_ref, summary_status, recorded_at, provenance, detail)
             select 'retention_run', d, 'deep', '2026-01-01Z', d, jsonb_build_object('claim_assessment', d)
             from (select (repeat('{\"a\":', 1000) || '1' || repeat('}', 1000))::jsonb as d) deep",
        )
        .await?;
    let evidence = recorded.evidence();
    let proof = evidence.proof(&ProofRequest { mode: Mode::History, ..ProofRequest::default() }).await?;
    let text = serde_json::to_string(&proof)?;
    assert!(text.contains(r#""recorded_at":"9999-12-31T23:59:59.999999Z""#), "{text}");
    assert!(text.contains(r#""recorded_at":"0001-01-01T00:00:00.000000Z""#), "{text}");
    let seen: Vec<(&str, &str, Option<&str>)> = proof
        .records
        .iter()
        .map(|record| {
            (
                record.subject.as_str(),
                record.subject_ref.get(),
                record.actor_ref.as_deref().map(RawValue::get),
            )
        })
        .filter(|(_, subject_ref, _)| subject_ref.len() < 400)
        .collect();
    assert_eq!(seen[0], ("own_subject", "7", Some(r#""text""#)));
    assert!(seen.contains(&("", r#""x""#, Some(r#"{"type": 7}"#))), "{seen:?}");
    assert_eq!(proof.records.len(), 4);
    assert!(proof.records.iter().all(|record| !record.is_machine_made));
    // What nobody knows supports nothing.
    let assessment: Value = serde_json::to_value(&proof.claim_assessment)?;
    assert_eq!(
        (&assessment["status"], &assessment["reason"]),
        (&json!("unsupported"), &json!("unknown_subject"))
    );
    assert_eq!(evidence.list_overview(None).await?.records.len(), 4);
    Ok(())
}
