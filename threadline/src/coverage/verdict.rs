//! Whether the tables that are expected to be captured are.

use serde::Serialize;

use super::{FindingCode, Report, Severity};
use crate::capture::HostTable;

/// How a table stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is no such table.
    Missing,
    /// Not every change of its rows is captured.
    Uncovered,
    /// It is captured, and a finding of severity `error` says that something is wrong.
    Error,
    /// It is not captured on purpose.
    ExpectedUncovered,
    /// It is captured.
    Covered,
}

impl Status {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Uncovered => "uncovered",
            Self::Error => "error",
            Self::ExpectedUncovered => "expected_uncovered",
            Self::Covered => "covered",
        }
    }
}

/// One table of a [`Verdict`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// As `schema.table`.
    pub table: String,
    /// How it stands.
    pub status: Status,
    /// Whether it is expected to be captured.
    pub expected: bool,
    /// Kinds of findings of severity `error` about it.
    pub errors: Vec<FindingCode>,
}

/// How expected tables stand, and the others of their schemas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// By name.
    pub tables: Vec<TableStatus>,
    /// Expected tables that are not captured, or not as they should be: those that are missing, then those that are uncovered, then
    /// those with an error, each by name.
    pub violations: Vec<TableStatus>,
    /// How many tables are expected.
    pub expected: usize,
    /// How many of them are captured as they should be.
    pub covered: usize,
}

/// Compares coverage with what is expected. A table counts as expected even where other settings say that it is not captured on purpose.
#[must_use]
pub fn verdict(report: &Report, expected: &[HostTable]) -> Verdict {
    let mut tables: Vec<TableStatus> = Vec::new();
    for coverage in &report.schemas {
        let gaps = coverage.expected_uncovered.iter().map(|gap| (&gap.table, Status::ExpectedUncovered));
        let covered = coverage.covered.iter().map(|table| (table, Status::Covered));
        let uncovered = coverage.uncovered.iter().map(|table| (table, Status::Uncovered));
        for (table, status) in covered.chain(uncovered).chain(gaps) {
            let of_table =
                coverage.findings.iter().filter(|one| one.table == *table && one.severity == Severity::Error);
            let mut errors: Vec<FindingCode> = of_table.map(|one| one.code).collect();
            errors.dedup();
            let name = HostTable { schema: coverage.schema.clone(), name: table.clone() };
            let is_expected = expected.contains(&name);
            let status = match status {
                Status::Covered if !errors.is_empty() => Status::Error,
                Status::ExpectedUncovered if is_expected => Status::Uncovered,
                status => status,
            };
            tables.push(TableStatus { table: name.to_string(), status, expected: is_expected, errors });
        }
    }
    let missing = |name: &&HostTable| !tables.iter().any(|one| one.table == name.to_string());
    let missing: Vec<TableStatus> = expected
        .iter()
        .filter(missing)
        .map(|name| TableStatus {
            table: name.to_string(),
            status: Status::Missing,
            expected: true,
            errors: Vec::new(),
        })
        .collect();
    tables.extend(missing);
    tables.sort_by(|one, other| one.table.cmp(&other.table));
    let mut violations: Vec<TableStatus> =
        tables.iter().filter(|one| one.expected && one.status != Status::Covered).cloned().collect();
    violations.sort_by(|one, other| (one.status, &one.table).cmp(&(other.status, &other.table)));
    let expected = tables.iter().filter(|one| one.expected).count();
    Verdict { covered: expected - violations.len(), expected, tables, violations }
}
