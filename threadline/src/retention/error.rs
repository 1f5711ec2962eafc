//! Why a purge did not do what it was to do.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{capture::Refusal, lease::Holder, query::time_text, telemetry};

/// Why a purge did not begin, or not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// `disabled`, `cutoff`, `option_invalid`, `took_too_long`, `timeline_incomplete`, `not_permitted`, `archive_failed`, `archive_key`,
    /// `archive_directory`, `table_unknown`: what was asked for, or where.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another process purges this timeline.
    #[error(
        "another purge is on: {holder} has the lease until {} unless it renews it; wait for its end",
        time_text(*until)
    )]
    Held {
        /// Which process.
        holder: String,
        /// Until when its lease is believed.
        until: OffsetDateTime,
    },
    /// It was told to stop. What was deleted before stays deleted.
    #[error("the purge was told to stop; what it has deleted stays deleted, and a further run goes on")]
    Cancelled,
    /// Another process took its lease, since it was not renewed in time.
    #[error(
        "the purge has lost its lease to another process, and has deleted nothing since; wait for the end of the other one"
    )]
    LeaseLost,
    /// Somebody holds a lock for too long.
    #[error(
        "{table} was locked by somebody else for more than {limit:?}; pg_locks says by whom. A further run goes on"
    )]
    Locked {
        /// What a statement wanted to write to.
        table: &'static str,
        /// How long it was tried.
        limit: Duration,
    },
    /// Somebody holds locks for too long, which kept single steps from being done. The run went on with all others.
    #[error(
        "somebody else held locks on months of audit_changes for more than {limit:?}, and pg_locks says by whom; the run went on beside \
         them, and a further one does what was left: {}",
        what.join(", ")
    )]
    Left {
        /// The steps, such as `to drop audit_changes_2026_05`.
        what: Vec<String>,
        /// How long they were tried.
        limit: Duration,
    },
    /// What the database says, or that it says nothing.
    #[error("the timeline cannot be purged")]
    Database(#[source] sqlx::Error),
}

/// Characters that are recorded of an error.
const ERROR_CHARS: usize = 2_000;

impl PurgeError {
    /// Its term; `None` for what the database says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => Some(refusal.term),
            Self::Held { .. } => Some("purge_is_on"),
            Self::Cancelled => Some("cancelled"),
            Self::LeaseLost => Some("lease_lost"),
            Self::Locked { .. } | Self::Left { .. } => Some("locked"),
            Self::Database(_) => None,
        }
    }

    /// What kind it is of, for telemetry.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Database(error) => telemetry::kind(error),
            other => other.term().unwrap_or("database"),
        }
    }

    /// With its term, as a run records it: nothing of a row.
    pub(super) fn recorded(&self) -> String {
        let words = errors::line(self);
        let words = self.term().map_or_else(|| words.clone(), |term| format!("{term}: {words}"));
        words.chars().take(ERROR_CHARS).collect()
    }
}

impl From<Holder> for PurgeError {
    fn from(Holder { holder, until }: Holder) -> Self {
        Self::Held { holder, until }
    }
}

impl From<sqlx::Error> for PurgeError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let (term, hint) = match code.as_deref() {
            // Not there, or not of this version.
            Some("42P01" | "42703") => ("timeline_incomplete", "run `threadline install`"),
            Some("57014") => {
                ("took_too_long", "give a smaller --batch-size, or look for what slows the server down")
            }
            Some("42501") => {
                ("not_permitted", "deploy/postgres/timeline.sql grants audit_maintainer what a purge needs")
            }
            _ => return Self::Database(error),
        };
        Self::Refused(Refusal::new(term, errors::database(&error)).hint(hint))
    }
}
