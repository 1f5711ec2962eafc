//! Coverage: which tables are captured, which are not, and what is wrong with those that are.
//!
//! [`read`] looks at all tables of a database in a few statements, however many there are. [`verdict`](fn@verdict::verdict) compares the
//! result with the tables that are expected to be captured, [`policies`](fn@policy_status::policies) compares settings with what is
//! deployed.

mod changes_by_day;
mod drift;
pub mod finding;
mod findings;
mod observation;
mod observed;
mod policy_diff;
pub mod policy_status;
mod remedy;
pub mod settings;
mod stored_policy;
mod table_facts;
pub mod verdict;

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use sqlx::{PgConnection, error::DatabaseError};

use crate::{
    StorageSchema,
    capture::{HostTable, Policy},
    telemetry::{self, Tables},
};
use observation::Observation;
use observed::ObservedTable;

pub(crate) use observed::host_tables;

pub use changes_by_day::{CHANGES_MAX, DAYS, changes_by_day};
pub use drift::Drift;
pub use finding::{Finding, FindingCode, Severity};
pub use policy_status::{PolicyStatus, policies};
pub use remedy::capture_command;
pub use stored_policy::stored_policy;
pub use table_facts::{TableFacts, table_facts};
pub use verdict::{Verdict, verdict};

/// Tables in which tools for migrations keep what they have done, in whatever schema.
pub const BASELINE: [&str; 20] = [
    "schema_migrations",
    "_sqlx_migrations",
    "__diesel_schema_migrations",
    "seaql_migrations",
    "refinery_schema_history",
    "flyway_schema_history",
    "databasechangelog",
    "databasechangeloglock",
    "ar_internal_metadata",
    "django_migrations",
    "alembic_version",
    "goose_db_version",
    "atlas_schema_revisions",
    "_prisma_migrations",
    "knex_migrations",
    "knex_migrations_lock",
    "SequelizeMeta",
    "__drizzle_migrations",
    "__EFMigrationsHistory",
    "doctrine_migration_versions",
];

/// What the host expects of its tables.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// Tables that are to be captured.
    pub expected: Vec<HostTable>,
    /// Whether it was said that none is: of a timeline that the pipeline alone writes.
    pub expects_none: bool,
    /// Tables that are not, beside the [`BASELINE`].
    pub expected_uncovered: Vec<HostTable>,
    /// Tables of the baseline that are to be captured all the same.
    pub audit_anyway: Vec<HostTable>,
    /// What settings say of captured tables. Empty when they say nothing: then deployed policies are compared with no settings.
    pub policies: BTreeMap<HostTable, Policy>,
    /// Tables that a policy of retention has windows of.
    pub retained: Vec<HostTable>,
}

/// Coverage of one schema. Partitions count with their table; tables of the timeline and of the pipeline do not count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coverage {
    /// Its name.
    pub schema: String,
    /// Tables of which every change of a row is captured, by name.
    pub covered: Vec<String>,
    /// Tables of which none is, or not every one.
    pub uncovered: Vec<String>,
    /// The same, on purpose.
    pub expected_uncovered: Vec<ExpectedGap>,
    /// By table.
    pub findings: Vec<Finding>,
}

/// A table that is not captured on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectedGap {
    /// Its name.
    pub table: String,
    /// Who says so.
    pub source: Source,
}

/// Who says that a table is not to be captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The [`BASELINE`], or the extension that has made the table.
    Baseline,
    /// The host's settings.
    Config,
}

/// Coverage of several schemas.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// By name. What is found about the timeline itself is with its own schema where that is among them, and else with the first.
    pub schemas: Vec<Coverage>,
    /// Kinds of findings that could not be looked for.
    pub skipped: Vec<Skipped>,
}

/// A kind of finding that could not be looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Which.
    pub code: FindingCode,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Of all schemas.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.schemas.iter().flat_map(|one| &one.findings)
    }

    /// Of all schemas.
    pub(crate) fn tables(&self) -> Tables {
        let count = |of: fn(&Coverage) -> usize| self.schemas.iter().map(of).sum();
        Tables {
            covered: count(|one| one.covered.len()),
            uncovered: count(|one| one.uncovered.len()),
            expected_uncovered: count(|one| one.expected_uncovered.len()),
        }
    }
}

impl Source {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Config => "config",
        }
    }
}

impl Skipped {
    /// After a time-out or a refusal; any other error is one.
    fn because(code: FindingCode, error: sqlx::Error) -> Result<Self, sqlx::Error> {
        let code_of_error = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
        let reason = match code_of_error.as_deref() {
            Some("57014") => "it took too long",
            Some("42501") => "the role may not read the timeline",
            _ => return Err(error),
        };
        Ok(Self { code, reason: reason.to_owned() })
    }
}

/// Coverage of these schemas, or of all that have tables or findings.
///
/// # Errors
/// When the server is away, or the role may not read the stored policies.
pub async fn read(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    schemas: Option<&[String]>,
    expectations: &Expectations,
) -> Result<Report, sqlx::Error> {
    let read = observe(connection, storage, schemas, expectations).await;
    match &read {
        Ok(report) => {
            let severity = |one| report.findings().filter(|finding| finding.severity == one).count();
            telemetry::health_checked(report.tables(), schemas.is_none());
            telemetry::findings_checked(
                severity(Severity::Error),
                severity(Severity::Warning),
                schemas.is_none(),
            );
        }
        Err(error) => telemetry::health_check_failed(telemetry::kind(error)),
    }
    read
}

async fn observe(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    schemas: Option<&[String]>,
    expectations: &Expectations,
) -> Result<Report, sqlx::Error> {
    let observation = Observation::read(connection, storage, expectations).await?;
    let (recorded, skipped) = findings::probe(connection, &observation).await?;
    let mut findings = findings::all(&observation);
    findings.extend(recorded);
    findings.sort_by(|one, other| one.order().cmp(&other.order()));
    let names = match schemas {
        Some(schemas) => schemas.to_vec(),
        None => observation
            .tables
            .iter()
            .map(|one| &one.name.schema)
            .chain(findings.iter().map(|one| &one.schema))
            .cloned()
            .collect(),
    };
    let mut report = Report { schemas: none_of(names), skipped };
    for table in &observation.tables {
        if let Some(coverage) = report.schemas.iter_mut().find(|one| one.schema == table.name.schema) {
            coverage.add(table, expectations);
        }
    }
    for finding in findings {
        let is_of_timeline = finding.code == FindingCode::MalformedContextSeen;
        let place = report.schemas.iter().position(|one| one.schema == finding.schema);
        if let Some(n) = place.or_else(|| (is_of_timeline && !report.schemas.is_empty()).then_some(0)) {
            report.schemas[n].findings.push(finding);
        }
    }
    Ok(report)
}

/// Nothing yet, of each schema once, by name.
fn none_of(mut schemas: Vec<String>) -> Vec<Coverage> {
    schemas.sort();
    schemas.dedup();
    let coverage = |schema| Coverage {
        schema,
        covered: Vec::new(),
        uncovered: Vec::new(),
        expected_uncovered: Vec::new(),
        findings: Vec::new(),
    };
    schemas.into_iter().map(coverage).collect()
}

impl Coverage {
    fn add(&mut self, table: &ObservedTable, expectations: &Expectations) {
        let name = table.name.name.clone();
        if table.is_covered() {
            self.covered.push(name);
        } else if let Some(source) = expectations.gap(table) {
            self.expected_uncovered.push(ExpectedGap { table: name, source });
        } else {
            self.uncovered.push(name);
        }
    }

    /// Whether a finding of severity `error` is among its findings.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

impl Expectations {
    /// Who says that the table is not to be captured.
    fn gap(&self, table: &ObservedTable) -> Option<Source> {
        if self.audit_anyway.contains(&table.name) {
            return None;
        }
        if self.expected_uncovered.contains(&table.name) {
            return Some(Source::Config);
        }
        (table.is_of_extension || BASELINE.contains(&table.name.name.as_str())).then_some(Source::Baseline)
    }
}
