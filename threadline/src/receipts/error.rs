//! Why nothing was sealed, verified or bundled.

use std::io;

use crate::{capture::Refusal, query::ReadError};

/// Why nothing was sealed, verified or bundled. That something does not verify is no error, but a [`Fault`](super::Fault).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It cannot be done as it was asked for, or not now.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on: `sealed_elsewhere`, `receipt_unsigned`, `receipt_key_changed`, `no_receipts`, `row_too_large`, `interval`,
        /// `not_installed`, `rights`, `hidden_rows`.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// What [`Position`](crate::query::Position) says: `standby`.
    #[error(transparent)]
    Read(ReadError),
    /// What the database says, or that it says nothing.
    #[error("the database does not answer as it should")]
    Database(#[source] sqlx::Error),
    /// A bundle cannot be written or read.
    #[error("the bundle cannot be {0}")]
    File(&'static str, #[source] io::Error),
}

impl ReceiptError {
    pub(super) fn refused(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    /// Its term; `None` for what the database or the operating system says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Refused { term, .. } => Some(term),
            Self::Read(error) => error.term(),
            Self::Database(_) | Self::File(..) => None,
        }
    }
}

impl From<ReadError> for ReceiptError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            error => Self::Read(error),
        }
    }
}

impl From<Refusal> for ReceiptError {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.term, refusal.to_string())
    }
}

impl From<sqlx::Error> for ReceiptError {
    /// What has a remedy says it.
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        let refused = match code.as_deref() {
            Some("42P01" | "42703" | "3F000") => Some((
                "not_installed",
                "the tables of receipts are not there, or not complete: run `threadline install`",
            )),
            Some("42501") => Some((
                "rights",
                "deploy/postgres/timeline.sql grants audit_sealer what sealing needs, and audit_reader what everything else of receipts needs; exempt \
                 the role from policies of row level security on the timeline's tables",
            )),
            _ => None,
        };
        match refused {
            Some((term, remedy)) => Self::refused(term, format!("{}; {remedy}", errors::database(&error))),
            None => Self::Database(error),
        }
    }
}
