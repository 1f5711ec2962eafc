//! Why there is no export.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::query::{FilterError, ReadError};

/// Why there is no export, or none that is complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// It cannot be made as it was asked for.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The timeline could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file beside the export, or the export itself.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Where the export is written to takes no more of it.
    #[error("the export cannot be written")]
    Unwritten(#[source] io::Error),
    /// The export is complete, and could not be recorded.
    #[error("the export could not be recorded in the timeline")]
    Unrecorded(#[source] sqlx::Error),
}

impl ExportError {
    pub(super) fn refused(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source }
    }

    /// Its term; `None` for what the database or the operating system says.
    #[must_use]
    pub fn term(&self) -> Option<&'static str> {
        match self {
            Self::Refused { term, .. } => Some(term),
            Self::Read(error) => error.term(),
            Self::File { .. } | Self::Unwritten(_) | Self::Unrecorded(_) => None,
        }
    }

    /// What kind it is of, for telemetry.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Unwritten(_) => "output",
            Self::Unrecorded(_) => "record",
            Self::Refused { .. } | Self::Read(_) => self.term().unwrap_or("database"),
        }
    }
}

impl From<FilterError> for ExportError {
    fn from(error: FilterError) -> Self {
        Self::Read(error.into())
    }
}

impl From<sqlx::Error> for ExportError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error.into())
    }
}
