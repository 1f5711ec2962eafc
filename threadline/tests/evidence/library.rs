//! What the Elixir library answered, and its statements.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use threadline::{
    ActorRef, ActorType,
    evidence::{Entrypoint, HistoryFilter, Mode, ProofRequest, Record, Subject},
};
use time::macros::datetime;
use uuid::Uuid;

use super::{Recorded, ends};

/// Its documents by name, with one time in place of when they were made.
const PROOFS: &str = include_str!("library_proofs.json");

fn proofs() -> BTreeMap<String, Value> {
    serde_json::from_str(PROOFS).unwrap()
}

/// All records of the fixtures.
pub(crate) fn records() -> Vec<Value> {
    proofs()["history"]["records"].as_array().unwrap().clone()
}

/// Its own insert: all columns.
pub(crate) async fn insert(connection: &mut PgConnection, record: &Value) -> anyhow::Result<()> {
    sqlx::query(
        r#"insert into "public"."threadline_evidence_records"
               ("id", "subject", "subject_ref", "summary_status", "recorded_at", "actor_ref", "provenance", "detail", "schema_version",
                "inserted_at")
           values ($1::uuid, $2, $3, $4, $5::timestamptz, $6, $7, $8, $9, $10::timestamptz)"#,
    )
    .bind(record["id"].as_str())
    .bind(record["subject"].as_str())
    .bind(&record["subject_ref"])
    .bind(record["summary_status"].as_str())
    .bind(record["recorded_at"].as_str())
    .bind(Some(&record["actor_ref"]).filter(|actor| !actor.is_null()))
    .bind(&record["provenance"])
    .bind(&record["detail"])
    .bind(i32::try_from(record["schema_version"].as_i64().unwrap())?)
    .bind(record["inserted_at"].as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// What is asked for, for each of its documents.
fn requests() -> Vec<(&'static str, ProofRequest)> {
    let latest = ProofRequest::default();
    let history = ProofRequest { mode: Mode::History, ..latest.clone() };
    let of = |subject| ProofRequest { subject: Some(subject), ..latest.clone() };
    let about = |name: &str| ProofRequest {
        subject_ref: Some(json!({"schema": name}).into()),
        ..of(Subject::TriggerCoverage)
    };
    vec![
        ("overview", latest.clone()),
        ("history", history.clone()),
        ("latest_subject", of(Subject::TriggerCoverage)),
        ("history_subject", ProofRequest { mode: Mode::History, ..of(Subject::TriggerCoverage) }),
        ("latest_ref", about("public")),
        ("absent_ref", about("x")),
        ("none", of(Subject::RetentionRun)),
        (
            "window",
            ProofRequest {
                from: Some("2026-03-02T00:00:00Z".parse().unwrap()),
                to: Some("2026-03-03T00:00:00Z".parse().unwrap()),
                limit: Some(5),
                ..history
            },
        ),
    ]
}

/// A document without what the library's has not, and made when its was.
fn comparable(mut proof: Value) -> Value {
    let document = proof.as_object_mut().unwrap();
    assert_eq!(document.remove("has_more"), Some(json!(false)));
    assert_eq!(document.remove("strict"), Some(json!(false)));
    let made = document.insert("generated_at".to_owned(), json!("2026-03-07T00:00:00.000000Z"));
    assert_eq!(made.unwrap().as_str().unwrap().len(), "2026-03-07T00:00:00.000000Z".len());
    for record in document["records"].as_array_mut().unwrap() {
        assert_eq!(record.as_object_mut().unwrap().remove("machine_made"), Some(json!(false)));
    }
    proof
}

#[tokio::test]
async fn proofs_are_the_librarys_documents() -> anyhow::Result<()> {
    let recorded = Recorded::by_the_library().await?;
    let expected = proofs();
    let requests = requests();
    assert_eq!(requests.len(), expected.len());
    for (name, request) in requests {
        let proof = serde_json::to_value(recorded.evidence().proof(&request).await?)?;
        assert_eq!(comparable(proof), expected[name], "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_are_the_librarys() -> anyhow::Result<()> {
    let recorded = Recorded::by_the_library().await?;
    let evidence = recorded.evidence();
    let expected = |name: &str| ends(&proofs()[name]["records"]);
    let public = || json!({"schema": "public"}).into();
    let of = async |records: threadline::evidence::Records| {
        assert!(!records.has_more);
        Ok::<_, anyhow::Error>(ends(&serde_json::to_value(records.records)?))
    };
    assert_eq!(of(evidence.list_overview(None).await?).await?, expected("overview"));
    assert_eq!(of(evidence.list_history(&HistoryFilter::default()).await?).await?, expected("history"));
    let latest = evidence.list_latest_subject_refs(Subject::TriggerCoverage, None).await?;
    assert_eq!(of(latest).await?, expected("latest_subject"));
    let history = evidence.list_subject_ref_history(Subject::TriggerCoverage, public(), None).await?;
    assert_eq!(of(history).await?, expected("history_subject"));
    let newest = evidence.get_latest_subject_ref(Subject::TriggerCoverage, public()).await?;
    assert_eq!(newest.unwrap().id.to_string(), "eeeeeeee-0000-4000-8000-000000000002");
    assert!(evidence.get_latest_subject_ref(Subject::RetentionRun, public()).await?.is_none());
    Ok(())
}

/// Its statement, and what its types take: objects, an actor, a positive version.
#[tokio::test]
async fn records_of_ours_are_read_by_the_librarys_statement() -> anyhow::Result<()> {
    let mut recorded = Recorded::nothing().await?;
    let at = datetime!(2026-05-15 12:00:00.123456 UTC);
    let admin = ActorRef::new(ActorType::Admin, Some("a1"))?;
    let attested = Record::new(Subject::RetentionPolicy, json!({"name": "default"}), "ok")
        .detail(json!({"keep_days": 400}))
        .recorded_at(at)
        .actor(admin)
        .provenance(json!({"host": "shop"}).as_object().unwrap().clone())
        .schema_version(2);
    let plain =
        Record::new(Subject::ExportDelivery, json!({"job": 1}), "completed").made_by(Entrypoint::Export);
    for record in [attested, plain] {
        recorded.timeline.record_evidence(record).await?;
    }
    let rows = sqlx::query(
        r#"select e0."id", e0."subject", e0."subject_ref", e0."summary_status", e0."recorded_at"::text, e0."actor_ref", e0."provenance",
                  e0."detail", e0."schema_version", e0."inserted_at" is not null
           from "public"."threadline_evidence_records" as e0
           where (e0."subject" = any ($1)) order by e0."recorded_at" desc, e0."id" desc limit $2"#,
    )
    .bind(Subject::ALL.map(Subject::as_str))
    .bind(10_i64)
    .fetch_all(&mut recorded.connection)
    .await?;
    assert_eq!(rows.len(), 2);
    let [made, attested] = &rows[..] else { panic!("two rows") };
    let _: Uuid = attested.try_get(0)?;
    assert_eq!(attested.try_get::<&str, _>(1)?, "retention_policy");
    assert_eq!(attested.try_get::<Value, _>(2)?, json!({"name": "default"}));
    assert_eq!(attested.try_get::<&str, _>(3)?, "ok");
    assert!(attested.try_get::<&str, _>(4)?.contains(":00.123456"));
    assert_eq!(attested.try_get::<Value, _>(5)?, json!({"type": "admin", "id": "a1"}));
    assert_eq!(
        attested.try_get::<Value, _>(6)?,
        json!({"writer": "threadline", "entrypoint": "record_retention_policy", "host": "shop"})
    );
    assert_eq!(attested.try_get::<Value, _>(7)?, json!({"keep_days": 400}));
    assert_eq!((attested.try_get::<i32, _>(8)?, attested.try_get::<bool, _>(9)?), (2, true));
    assert_eq!(made.try_get::<Option<Value>, _>(5)?, None);
    assert_eq!((made.try_get::<Value, _>(7)?, made.try_get::<i32, _>(8)?), (json!({}), 1));
    Ok(())
}
