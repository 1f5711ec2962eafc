//! What a check is, and what it finds.

use futures::future::BoxFuture;
use sqlx::PgConnection;

use super::{State, facts::Facts, remedy::Remedy};

/// One check.
pub(super) struct Check {
    /// `section.name`. Never changed: programs know it.
    pub(super) id: &'static str,
    /// What is so when nothing is wrong.
    pub(super) expectation: &'static str,
    pub(super) run: Run,
}

type Run = for<'a> fn(&'a mut PgConnection, &'a Facts) -> BoxFuture<'a, Result<Outcome, sqlx::Error>>;

/// The checks of a section: name, function, and what is so when nothing is wrong.
macro_rules! checks {
    ($($id:literal $run:path, $expectation:literal;)*) => {
        pub(super) const CHECKS: &[crate::doctor::check::Check] = &[$(crate::doctor::check::Check {
            id: $id,
            expectation: $expectation,
            run: |connection, facts| Box::pin($run(connection, facts)),
        }),*];
    };
}

pub(super) use checks;

/// What a check found.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) seen: String,
    pub(super) remedy: Vec<Remedy>,
}

impl Outcome {
    fn new(state: State, seen: impl Into<String>) -> Self {
        // Names of objects and messages of servers are text that others wrote.
        Self { state, seen: seen.into().replace(char::is_control, " "), remedy: Vec::new() }
    }

    pub(super) fn ok(seen: impl Into<String>) -> Self {
        Self::new(State::Ok, seen)
    }

    pub(super) fn attention(seen: impl Into<String>) -> Self {
        Self::new(State::Attention, seen)
    }

    pub(super) fn failed(seen: impl Into<String>) -> Self {
        Self::new(State::Failed, seen)
    }

    pub(super) fn not_applicable(seen: impl Into<String>) -> Self {
        Self::new(State::NotApplicable, seen)
    }

    pub(super) fn unknown(seen: impl Into<String>) -> Self {
        Self::new(State::Unknown, seen)
    }

    /// With what to do.
    pub(super) fn remedy(self, steps: impl IntoIterator<Item = Remedy>) -> Self {
        Self { remedy: steps.into_iter().collect(), ..self }
    }
}

/// Names that a line lists; how many there are besides is said.
const LISTED_MAX: usize = 5;

/// The first few of many, and how many there are besides.
pub(super) fn listed<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    let shown = all.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
