//! Why a job is not added, changed or carried out.

use uuid::Uuid;

use crate::{
    export::ExportError,
    query::{FilterError, ReadError},
    storage::StorageError,
    telemetry,
};

/// Why a job is not added, changed or carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It cannot be done as it was asked for.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// There is no export.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// It could not be stored or fetched.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What the database says.
    #[error("{}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// Refusals that there may be none of at another time, of another file, another worker or another server.
const PASSING: [&str; 8] = [
    "directory_not_private",
    "export_in_use",
    "took_too_long",
    "standby",
    "resume_changed",
    "nothing_to_resume",
    "file_exists",
    "folder_missing",
];

impl JobError {
    pub(super) fn refused(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    /// `job_missing`.
    #[must_use]
    pub fn missing(job: Uuid) -> Self {
        Self::refused("job_missing", format!("there is no job {job}: list shows those that there are"))
    }

    /// `attempts_invalid`: somebody has changed them, for nothing counts so far.
    pub(super) fn attempts_invalid() -> Self {
        let reason = "the row of the job counts more attempts than there can have been, or fewer than none: somebody has changed it; add the job again";
        Self::refused("attempts_invalid", reason)
    }

    /// Its term; `None` for what the database or the operating system says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Refused { term, .. } => Some(term),
            Self::Export(error) => error.term(),
            Self::Storage(error) => Some(error.term()),
            Self::Database(_) => None,
        }
    }

    /// What kind it is of, for telemetry.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Database(error) => telemetry::kind(error),
            Self::Export(error) => error.kind(),
            error => error.term().unwrap_or("failed"),
        }
    }

    /// Whether a repetition is in vain.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { term, .. } => !PASSING.contains(term),
            Self::Storage(error) => error.is_permanent(),
            Self::Export(error) => error.term().is_some_and(|term| !PASSING.contains(&term)),
            Self::Database(_) => false,
        }
    }

    /// What a row says of it: a term and words. What a database says of values is not in them.
    pub(super) fn words(&self) -> String {
        let of_database = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            let code = code.map(|code| format!(" (SQLSTATE {code})")).unwrap_or_default();
            format!("database: the database could not be read or written{code}")
        };
        match self {
            Self::Database(error)
            | Self::Export(ExportError::Unrecorded(error) | ExportError::Read(ReadError::Database(error))) => {
                of_database(error)
            }
            Self::Export(error @ (ExportError::File { .. } | ExportError::Unwritten(_))) => {
                format!("export_file: {}", errors::line(error))
            }
            error => format!("{}: {}", error.term().unwrap_or("failed"), errors::line(error)),
        }
    }
}

impl From<FilterError> for JobError {
    fn from(error: FilterError) -> Self {
        Self::Export(error.into())
    }
}
