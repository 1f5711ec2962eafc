//! What a timeline in production rests on, looked at in one go: capture and its triggers, actors, redaction, retention, exports, the
//! server, and what is left of earlier times.
//!
//! [`run`] makes all [`checks`], one after another; nothing is changed. Each is bounded in rows and in time and has a transaction of its own, so
//! that one that is slow, or that the role may not make, is [unknown](State::Unknown), and the others go on.

mod actors;
mod brownfield;
mod capture;
mod check;
mod export;
mod facts;
mod observability;
mod redaction;
mod remedy;
mod retention;
mod secrets;

use std::{borrow::Cow, time::Duration};

use serde::Serialize;
use sqlx::{Connection as _, PgConnection, error::DatabaseError};

use crate::{
    StorageSchema,
    coverage::{self, Expectations},
    query::limit_time,
};
use check::{Check, Outcome};
use facts::Facts;

pub use remedy::Remedy;

/// Time for one check.
pub(crate) const CHECK_TIME: Duration = Duration::from_secs(3);

/// Time for the statements of coverage, which several checks look at.
const COVERAGE_TIME: Duration = Duration::from_secs(15);

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and something is to be looked at.
    Attention,
    /// Something is not recorded, can be changed, or may become known that is to be hidden.
    Failed,
    /// There is nothing that it could be about.
    NotApplicable,
    /// It could not be found out.
    Unknown,
}

impl State {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Attention, Self::Failed, Self::NotApplicable, Self::Unknown];

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Attention => "attention",
            Self::Failed => "failed",
            Self::NotApplicable => "not_applicable",
            Self::Unknown => "unknown",
        }
    }
}

/// What an item is about, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The timeline's tables, and the triggers that fill them.
    Capture,
    /// Who did it, and why.
    Actors,
    /// What is hidden.
    Redaction,
    /// What is removed.
    Retention,
    /// What is handed over.
    Export,
    /// The server.
    Observability,
    /// What is left of earlier times.
    Brownfield,
}

impl Section {
    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Capture => "capture and triggers",
            Self::Actors => "actors and semantics",
            Self::Redaction => "redaction",
            Self::Retention => "retention and purge",
            Self::Export => "export",
            Self::Observability => "observability",
            Self::Brownfield => "brownfield and continuity",
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Self::Capture => capture::CHECKS,
            Self::Actors => actors::CHECKS,
            Self::Redaction => redaction::CHECKS,
            Self::Retention => retention::CHECKS,
            Self::Export => export::CHECKS,
            Self::Observability => observability::CHECKS,
            Self::Brownfield => brownfield::CHECKS,
        }
    }

    const ALL: [Self; 7] = [
        Self::Capture,
        Self::Actors,
        Self::Redaction,
        Self::Retention,
        Self::Export,
        Self::Observability,
        Self::Brownfield,
    ];
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name, `section.name`; stays the same between versions.
    pub id: &'static str,
    /// What it is about.
    pub section: Section,
    /// How that stands.
    pub state: State,
    /// What is so when nothing is wrong.
    pub expectation: &'static str,
    /// What was seen, with numbers. Never a value of a row.
    pub seen: String,
    /// What to do, in this order.
    pub remedy: Vec<Remedy>,
}

/// What all checks found, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each check.
    pub items: Vec<Item>,
}

impl Report {
    /// How many items are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }
}

/// Every check: its section, its name, and what is so when nothing is wrong.
pub fn checks() -> impl Iterator<Item = (Section, &'static str, &'static str)> {
    all().map(|(section, check)| (section, check.id, check.expectation))
}

fn all() -> impl Iterator<Item = (Section, &'static Check)> {
    Section::ALL.into_iter().flat_map(|section| section.checks().iter().map(move |check| (section, check)))
}

/// Makes all checks.
///
/// # Errors
/// When the connection is lost. What the server refuses, or has no time for, is unknown.
pub async fn run(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    expectations: &Expectations,
) -> Result<Report, sqlx::Error> {
    Ok(with_coverage(connection, storage, expectations).await?.0)
}

/// With the coverage that several checks look at, where it could be read.
pub(crate) async fn with_coverage(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    expectations: &Expectations,
) -> Result<(Report, Option<coverage::Report>), sqlx::Error> {
    let facts = Facts::read(connection, storage, expectations).await?;
    let mut items = Vec::new();
    for (section, check) in all() {
        let Outcome { state, seen, remedy } = if facts.has_timeline() || check.id == capture::SCHEMA {
            bounded(connection, CHECK_TIME, async |connection| (check.run)(connection, &facts).await)
                .await?
                .unwrap_or_else(Outcome::unknown)
        } else {
            Outcome::unknown("there is no timeline")
        };
        items.push(Item { id: check.id, section, state, expectation: check.expectation, seen, remedy });
    }
    Ok((Report { items }, facts.coverage.ok()))
}

/// Asks something in a transaction that only reads and in which no statement takes longer; or why there is no answer.
pub(crate) async fn bounded<T>(
    connection: &mut PgConnection,
    limit: Duration,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<Result<T, String>, sqlx::Error> {
    let mut transaction = connection.begin_with("begin transaction read only").await?;
    limit_time(&mut transaction, limit).await?;
    match ask(&mut transaction).await {
        Ok(answer) => {
            transaction.rollback().await?;
            Ok(Ok(answer))
        }
        // Where the connection is gone, the error is all that there is.
        Err(error) => match transaction.rollback().await {
            Ok(()) => Ok(Err(reason(&error, limit))),
            Err(_) => Err(error),
        },
    }
}

/// Why the server has no answer.
fn reason(error: &sqlx::Error, limit: Duration) -> String {
    let code = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
    match code.as_deref() {
        Some("57014") => format!("it took longer than {} s", limit.as_secs()),
        Some("42501") => format!("the role may not look: {}", errors::database(error)),
        _ => errors::database(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_under_its_section_and_is_documented() {
        let page = include_str!("../../../docs/threadline-doctor.md");
        let mut names = BTreeSet::new();
        for (section, id, expectation) in checks() {
            let prefix = serde_json::to_value(section).expect("a name");
            assert!(id.starts_with(&format!("{}.", prefix.as_str().expect("text"))), "{id}");
            assert!(names.insert(id), "{id} is there twice");
            let row = format!("| `{id}` | {expectation} |");
            assert!(page.contains(&row), "docs/threadline-doctor.md lacks: {row}");
        }
        let documented = page.lines().filter(|line| line.starts_with("| `") && line.contains('.'));
        let documented: BTreeSet<&str> =
            documented.filter_map(|line| line.split('`').nth(1)).filter(|id| id.contains('.')).collect();
        assert_eq!(documented, names);
    }
}
