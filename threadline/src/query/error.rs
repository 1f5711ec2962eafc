//! Why a question has no answer.

use super::{CursorError, FilterError};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What was asked cannot be answered as it was asked.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// No cursor of a page.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Something else of what was asked cannot be used.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// What the database says, or that it says nothing.
    #[error("the timeline cannot be read")]
    Database(#[source] sqlx::Error),
}

impl ReadError {
    pub(crate) fn unusable(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    /// Its term; `None` for what the database says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Filter(error) => Some(error.term()),
            Self::Cursor(_) => Some("invalid_cursor"),
            Self::Refused { term, .. } => Some(term),
            Self::Database(_) => None,
        }
    }
}

impl From<sqlx::Error> for ReadError {
    /// A time that the server cannot read is one that was given, in a cursor or as the time of the question.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if matches!(code.as_deref(), Some("22007" | "22008" | "22009")) {
            let reason = "PostgreSQL knows no such time: a cursor is given as it came with a page, and a time is before the year 294276";
            return Self::unusable("invalid_time", reason);
        }
        Self::Database(error)
    }
}
