//! Records of what this program has seen itself: coverage, and what is hidden.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ClaimStatus, Entrypoint, Record, Subject};
use crate::{
    capture::Policy,
    coverage::{Coverage, PolicyStatus, Severity, Skipped, Verdict, policy_status::Status},
    signing::hexadecimal,
};

/// Tables and findings that a record lists. Its counts are those of all.
const LISTED_MAX: usize = 1_000;

/// How a schema is captured: `ok`, or `degraded` where a table is not captured that is not left out on purpose, or where a finding of
/// severity error says that something is wrong.
pub fn trigger_coverage(coverage: &Coverage, skipped: &[Skipped]) -> Record {
    let is_whole = coverage.uncovered.is_empty() && !coverage.has_errors();
    of_coverage(json!({"schema": coverage.schema}), is_whole, skipped, described(coverage, skipped))
}

/// Whether the tables of a schema that are expected to be captured are: `ok`, or `degraded`.
pub fn expected_coverage(coverage: &Coverage, skipped: &[Skipped], verdict: &Verdict) -> Record {
    let mut detail = described(coverage, skipped);
    let violations: Vec<Value> = verdict
        .violations
        .iter()
        .take(LISTED_MAX)
        .map(|one| json!({"table": one.table, "status": one.status, "errors": one.errors}))
        .collect();
    detail["expected"] = json!({
        "expected": verdict.expected,
        "covered": verdict.covered,
        "violated": verdict.violations.len(),
        "violations": violations,
    });
    let subject_ref = json!({"schema": coverage.schema, "check": "expected_tables"});
    of_coverage(subject_ref, verdict.violations.is_empty(), skipped, detail)
}

/// What of a table is hidden: the state of its policy, and digests of what is configured and deployed.
pub fn redaction_policy(status: &PolicyStatus) -> Record {
    let (worth, reason) = match status.status {
        Status::CouldNotIntrospect => (ClaimStatus::InferredPosture, "could_not_introspect"),
        Status::DriftDetected | Status::ConfigMatchesDeployed => (ClaimStatus::Proven, "compared"),
    };
    let detail = json!({
        "state": status.status,
        "drift": status.drift,
        "configured_sha256": status.configured.as_ref().map(digest),
        "deployed_sha256": status.deployed.as_ref().map(digest),
        "claim_assessment": {"status": worth, "reason": reason},
    });
    Record::new(Subject::RedactionPolicy, json!({"table": status.table.to_string()}), status.status.as_str())
        .detail(detail)
        .made_by(Entrypoint::Policy)
}

/// SHA-256 of the policy as JSON, with its keys sorted and without spaces, in hexadecimal digits.
fn digest(policy: &Policy) -> String {
    let text = json!(policy).to_string();
    hexadecimal(&Sha256::digest(text))
}

fn of_coverage(subject_ref: Value, is_whole: bool, skipped: &[Skipped], mut detail: Value) -> Record {
    let (worth, reason) = if skipped.is_empty() {
        (ClaimStatus::Proven, "catalog_read")
    } else {
        (ClaimStatus::InferredPosture, "not_all_looked_for")
    };
    detail["claim_assessment"] = json!({"status": worth, "reason": reason});
    let status = if is_whole { "ok" } else { "degraded" };
    Record::new(Subject::TriggerCoverage, subject_ref, status).detail(detail).made_by(Entrypoint::Coverage)
}

fn described(coverage: &Coverage, skipped: &[Skipped]) -> Value {
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &coverage.findings {
        *by_code.entry(finding.code.as_str()).or_default() += 1;
    }
    let findings: Vec<Value> = coverage
        .findings
        .iter()
        .take(LISTED_MAX)
        .map(|one| json!({"code": one.code, "severity": one.severity, "table": one.table}))
        .collect();
    let errors = coverage.findings.iter().filter(|one| one.severity == Severity::Error).count();
    json!({
        "covered": coverage.covered.len(),
        "uncovered": coverage.uncovered.len(),
        "uncovered_tables": coverage.uncovered.iter().take(LISTED_MAX).collect::<Vec<_>>(),
        "expected_uncovered": coverage.expected_uncovered.len(),
        "errors": errors,
        "warnings": coverage.findings.len() - errors,
        "findings_by_code": by_code,
        "findings": findings,
        "skipped": skipped.iter().map(|one| one.code).collect::<Vec<_>>(),
    })
}
