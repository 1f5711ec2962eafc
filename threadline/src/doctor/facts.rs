//! What several checks look at, read once.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::{COVERAGE_TIME, bounded, check::Outcome, remedy::Remedy};
use crate::{
    StorageSchema,
    coverage::{self, Expectations, Finding, FindingCode, PolicyStatus, Severity},
    install::owned_tables,
    partitions,
};

/// Which check reports which kinds of findings of coverage; each kind is reported once.
const FINDINGS: [(&str, &[FindingCode]); 7] = [
    ("capture.off", &[FindingCode::CaptureOff]),
    (
        "capture.triggers",
        &[
            FindingCode::CaptureTriggerDisabled,
            FindingCode::LevelBlind,
            FindingCode::MissingTrigger,
            FindingCode::PartitionWithoutCapture,
            FindingCode::PkDrift,
            FindingCode::UnloggedTable,
            FindingCode::VirtualColumnAdded,
        ],
    ),
    ("actors.context", &[FindingCode::MalformedContextSeen]),
    ("redaction.drift", &[FindingCode::PolicyDrift]),
    ("brownfield.triggers", &[FindingCode::LegacyTriggerNoPkArgs]),
    ("brownfield.functions", &[FindingCode::DuplicateCaptureTrigger, FindingCode::SharedCaptureFunction]),
    ("brownfield.keys", &[FindingCode::UnresolvedLegacyKeys]),
];

/// What is known before the first check.
pub(super) struct Facts {
    pub(super) storage: StorageSchema,
    pub(super) expectations: Expectations,
    /// Or why it could not be read.
    pub(super) coverage: Result<coverage::Report, String>,
    /// Or why they could not be read.
    pub(super) policies: Result<Vec<PolicyStatus>, String>,
    /// Tables of the timeline that are there.
    tables: BTreeSet<String>,
    /// Tables for months of changes.
    months: Vec<String>,
}

impl Facts {
    pub(super) async fn read(
        connection: &mut PgConnection,
        storage: &StorageSchema,
        expectations: &Expectations,
    ) -> Result<Self, sqlx::Error> {
        let tables: Vec<String> = sqlx::query_scalar(
            "select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = any ($2) and c.relkind in ('r', 'p')",
        )
        .persistent(false)
        .bind(storage.as_str())
        .bind(owned_tables())
        .fetch_all(&mut *connection)
        .await?;
        let months = partitions::tables(connection, storage).await?;
        let coverage = bounded(connection, COVERAGE_TIME, async |connection| {
            coverage::read(connection, storage, None, expectations).await
        })
        .await?;
        let policies = bounded(connection, COVERAGE_TIME, async |connection| {
            coverage::policies(connection, storage, expectations).await
        })
        .await?;
        Ok(Self {
            storage: storage.clone(),
            expectations: expectations.clone(),
            coverage,
            policies,
            tables: tables.into_iter().collect(),
            months,
        })
    }

    /// Whether there are captured transactions and changes to ask about.
    pub(super) fn has_timeline(&self) -> bool {
        self.has("audit_transactions") && self.has("audit_changes")
    }

    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    /// These tables of the timeline, with those for months of changes where changes are among them.
    pub(super) fn with_months(&self, tables: &[&'static str]) -> Vec<&str> {
        let months = self.months.iter().filter(|_| tables.contains(&"audit_changes"));
        tables.iter().copied().chain(months.map(String::as_str)).collect()
    }

    /// A table of the timeline, quoted.
    pub(super) fn table(&self, name: &'static str) -> String {
        self.storage.table(name)
    }

    /// What coverage found of the kinds that the check reports: failed where something is wrong, attention where something is to be done.
    pub(super) fn findings(&self, check: &str) -> Outcome {
        let codes = FINDINGS.iter().find(|(id, _)| *id == check).map_or(&[][..], |(_, codes)| codes);
        let report = match &self.coverage {
            Ok(report) => report,
            Err(why) => return Outcome::unknown(why),
        };
        let found: Vec<&Finding> = report
            .schemas
            .iter()
            .flat_map(|one| &one.findings)
            .filter(|finding| codes.contains(&finding.code))
            .collect();
        if found.is_empty() {
            return match report.skipped.iter().find(|one| codes.contains(&one.code)) {
                Some(skipped) => Outcome::unknown(&skipped.reason),
                None => Outcome::ok("no findings"),
            };
        }
        let lines =
            found.iter().map(|one| format!("{} of {}.{}: {}", one.code, one.schema, one.table, one.message));
        let seen = format!("{} findings: {}", found.len(), super::check::listed(lines));
        let is_wrong = found.iter().any(|one| one.severity == Severity::Error);
        let outcome = if is_wrong { Outcome::failed(seen) } else { Outcome::attention(seen) };
        let mut steps: Vec<Remedy> = Vec::new();
        for step in found.iter().flat_map(|one| &one.remedy).map(|step| Remedy::of_step(step)) {
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        outcome.remedy(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_finding_is_reported_by_one_check() {
        let mut reported: Vec<FindingCode> =
            FINDINGS.iter().flat_map(|(_, codes)| codes.iter().copied()).collect();
        reported.sort_unstable();
        assert_eq!(reported, FindingCode::ALL);
        for (id, _) in FINDINGS {
            assert!(super::super::checks().any(|(_, check, _)| check == id), "{id}");
        }
    }
}
