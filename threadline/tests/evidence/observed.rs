//! What commands that look at capture record of it.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    StorageSchema,
    capture::{Capture, HostTable, Migration, Policy, plan},
    evidence::{HistoryFilter, PRODUCT},
};

use super::{Recorded, commands::threadline};

const SETTINGS: &str =
    "[capture.tables.\"users\"]\nmask = [\"email\"]\n[capture.tables.\"billing.invoices\"]\n";

/// Users are captured with their mask, invoices are not.
async fn host() -> anyhow::Result<Recorded> {
    let mut recorded = Recorded::nothing().await?;
    recorded
        .connection
        .execute(
            "create schema billing; create table users (id int primary key, email text);
             create table billing.invoices (id int primary key); create table notes (id int primary key)",
        )
        .await?;
    let table: HostTable = "users".parse()?;
    let policy = Policy::read(&table, json!({"mask": ["email"]}).as_object().unwrap())?;
    let captures = plan(&mut recorded.connection, &StorageSchema::default(), &[(table, policy)]).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    recorded.connection.execute(AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    Ok(recorded)
}

/// Reference, status and detail of all records, by reference.
async fn stored(recorded: &Recorded) -> anyhow::Result<Vec<(Value, String, Value)>> {
    let records = recorded.evidence().list_history(&HistoryFilter::default()).await?.records;
    let mut stored = Vec::new();
    for record in records {
        assert!(record.is_machine_made);
        let provenance: Value = serde_json::from_str(record.provenance.get())?;
        assert_eq!(provenance["product"], PRODUCT);
        let value = |json: &threadline::query::Json| serde_json::from_str::<Value>(json.get());
        stored.push((value(&record.subject_ref)?, record.summary_status, value(&record.detail)?));
    }
    stored.sort_by_key(|(subject_ref, ..)| subject_ref.to_string());
    Ok(stored)
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_asked_for() -> anyhow::Result<()> {
    let recorded = host().await?;
    for arguments in [&["verify-coverage"][..], &["health", "coverage"], &["policy", "show"]] {
        threadline(&recorded.database, SETTINGS, arguments)?;
    }
    assert_eq!(stored(&recorded).await?, []);
    Ok(())
}

#[tokio::test]
async fn verify_coverage_records_how_the_expected_tables_of_each_schema_stand() -> anyhow::Result<()> {
    let recorded = host().await?;
    let ended = threadline(&recorded.database, SETTINGS, &["verify-coverage", "--record", "--json"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(1), "evidence: 2 recorded\n"));
    assert!(serde_json::from_str::<Value>(&ended.out)?["summary"].is_object());
    let stored = stored(&recorded).await?;
    let [billing, public] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!(
        (&billing.0, billing.1.as_str()),
        (&json!({"check": "expected_tables", "schema": "billing"}), "degraded")
    );
    assert_eq!(
        billing.2["expected"],
        json!({
            "expected": 1, "covered": 0, "violated": 1,
            "violations": [{"table": "billing.invoices", "status": "uncovered", "errors": []}]
        })
    );
    assert_eq!(
        (&public.0, public.1.as_str()),
        (&json!({"check": "expected_tables", "schema": "public"}), "ok")
    );
    assert_eq!(
        public.2,
        json!({
            "covered": 1, "uncovered": 1, "uncovered_tables": ["notes"], "expected_uncovered": 0, "errors": 0, "warnings": 0,
            "findings": [], "findings_by_code": {}, "skipped": [],
            "expected": {"expected": 1, "covered": 1, "violated": 0, "violations": []},
            "claim_assessment": {"status": "proven", "reason": "catalog_read"}
        })
    );
    Ok(())
}

#[tokio::test]
async fn health_coverage_records_what_it_finds_by_code_and_table() -> anyhow::Result<()> {
    let mut recorded = host().await?;
    recorded
        .connection
        .execute("drop table notes; alter table users disable trigger threadline_audit_users")
        .await?;
    let ended = threadline(&recorded.database, SETTINGS, &["health", "coverage", "--record"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), "evidence: 1 recorded\n"));
    let stored = stored(&recorded).await?;
    let [(subject_ref, status, detail)] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!((subject_ref, status.as_str()), (&json!({"schema": "public"}), "degraded"));
    assert_eq!(detail["findings_by_code"], json!({"capture_trigger_disabled": 1}));
    assert_eq!(
        detail["findings"],
        json!([{"code": "capture_trigger_disabled", "severity": "error", "table": "users"}])
    );
    recorded.connection.execute("alter table users enable trigger threadline_audit_users").await?;
    threadline(&recorded.database, SETTINGS, &["health", "coverage", "--all-schemas", "--record"])?;
    let latest = recorded.evidence().list_overview(None).await?.records;
    let statuses: Vec<(&str, &str)> =
        latest.iter().map(|one| (one.subject_ref.get(), one.summary_status.as_str())).collect();
    assert!(statuses.contains(&(r#"{"schema": "public"}"#, "ok")), "{statuses:?}");
    assert!(statuses.contains(&(r#"{"schema": "billing"}"#, "degraded")), "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn policy_show_records_the_state_and_the_digests_of_each_policy() -> anyhow::Result<()> {
    let mut recorded = host().await?;
    recorded.connection.execute("insert into users values (1, 'a secret')").await?;
    let ended = threadline(&recorded.database, SETTINGS, &["policy", "show", "--record"])?;
    assert_eq!((ended.status, ended.error.as_str()), (Some(0), "evidence: 2 recorded\n"));
    let before = stored(&recorded).await?;
    let [invoices, users] = &before[..] else { panic!("{before:?}") };
    assert_eq!((&invoices.0, invoices.1.as_str()), (&json!({"table": "billing.invoices"}), "drift_detected"));
    assert_eq!(invoices.2["deployed_sha256"], Value::Null);
    assert_eq!((&users.0, users.1.as_str()), (&json!({"table": "public.users"}), "config_matches_deployed"));
    assert_eq!(users.2["deployed_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(users.2["claim_assessment"], json!({"status": "proven", "reason": "compared"}));
    assert!(!users.2.to_string().contains("a secret"));
    // Another policy has another digest, and the same one the same.
    let hidden = SETTINGS.replace("mask", "exclude");
    for settings in [SETTINGS, &hidden] {
        threadline(&recorded.database, settings, &["policy", "show", "--schema", "public", "--record"])?;
    }
    let after = stored(&recorded).await?;
    let mut configured: Vec<&Value> = after
        .iter()
        .filter(|(subject_ref, ..)| *subject_ref == json!({"table": "public.users"}))
        .map(|(.., detail)| &detail["configured_sha256"])
        .collect();
    assert_eq!(configured.len(), 3);
    configured.sort_by_key(ToString::to_string);
    configured.dedup();
    assert_eq!(configured.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_role_that_may_not_record_is_told_what_it_lacks() -> anyhow::Result<()> {
    let mut recorded = host().await?;
    recorded.connection.execute("drop table threadline_evidence_records").await?;
    let ended = threadline(&recorded.database, SETTINGS, &["health", "coverage", "--record"])?;
    assert_eq!(ended.status, Some(1));
    assert!(ended.error.contains("cannot record the evidence"), "{}", ended.error);
    assert!(ended.error.contains("threadline_evidence_records"), "{}", ended.error);
    Ok(())
}
