//! Why an erasure did not do what it was to do.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    batches,
    capture::Refusal,
    lease::Holder,
    query::{ReadError, time_text},
    telemetry,
};

/// Why an erasure did not begin, or not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// `reason_missing`, `reason_names_subject`, `actor_is_subject`, `subject_invalid`, `key_column`, `column_unknown`,
    /// `policy_missing`, `too_many_rows`,
    /// `option_invalid`, `took_too_long`, `timeline_incomplete`, `not_permitted`: what was asked for, or where.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Which row is meant: `table_unknown`, `table_ambiguous`, `key_mismatch`.
    #[error("{0}")]
    Read(ReadError),
    /// Another process erases in this timeline.
    #[error(
        "another erasure is on: {holder} has the lease until {} unless it renews it; wait for its end",
        time_text(*until)
    )]
    Held {
        /// Which process.
        holder: String,
        /// Until when its lease is believed.
        until: OffsetDateTime,
    },
    /// It was told to stop.
    #[error("the erasure was told to stop; what it has erased stays erased, and the same command goes on")]
    Cancelled,
    /// Another process took its lease, since it was not renewed in time.
    #[error(
        "the erasure has lost its lease to another process, and has erased nothing since; wait for the end of the other one"
    )]
    LeaseLost,
    /// Somebody holds a lock for too long.
    #[error(
        "{table} was locked by somebody else for more than {limit:?}; pg_locks says by whom. The same command goes on"
    )]
    Locked {
        /// What a statement wanted to write to.
        table: &'static str,
        /// How long it was tried.
        limit: Duration,
    },
    /// What the database says, or that it says nothing.
    #[error("nothing can be erased in the timeline")]
    Database(#[source] sqlx::Error),
}

/// Characters that are recorded of an error.
const ERROR_CHARS: usize = 2_000;

impl ErasureError {
    /// What kind it is of, for telemetry.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Database(error) => telemetry::kind(error),
            other => other.term().unwrap_or("database"),
        }
    }

    /// Its term; `None` for what the database says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => Some(refusal.term),
            Self::Read(error) => error.term(),
            Self::Held { .. } => Some("erasure_is_on"),
            Self::Cancelled => Some("cancelled"),
            Self::LeaseLost => Some("lease_lost"),
            Self::Locked { .. } => Some("locked"),
            Self::Database(_) => None,
        }
    }

    /// As a run records it: nothing of a row, and nothing of whom it is about, which the words of a refused row may say.
    pub(super) fn recorded(&self) -> String {
        let words = match self {
            Self::Read(_) => "the row or table that was asked for cannot be told".to_owned(),
            error => errors::line(error),
        };
        let words = self.term().map_or_else(|| words.clone(), |term| format!("{term}: {words}"));
        words.chars().take(ERROR_CHARS).collect()
    }

    /// Whether the same transaction may succeed a little later.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Database(error) if batches::is_busy(error))
    }
}

impl From<Holder> for ErasureError {
    fn from(Holder { holder, until }: Holder) -> Self {
        Self::Held { holder, until }
    }
}

impl From<ReadError> for ErasureError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            error => Self::Read(error),
        }
    }
}

impl From<sqlx::Error> for ErasureError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let (term, hint) = match code.as_deref() {
            // Not there, or not of this version.
            Some("42P01" | "42703") => ("timeline_incomplete", "run `threadline install`"),
            Some("57014") => {
                ("took_too_long", "give a smaller --batch-size, or look for what slows the server down")
            }
            Some("42501") => {
                ("not_permitted", "deploy/postgres/timeline.sql grants audit_eraser what an erasure needs")
            }
            _ => return Self::Database(error),
        };
        Self::Refused(Refusal::new(term, errors::database(&error)).hint(hint))
    }
}
