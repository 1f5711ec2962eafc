//! Why something was not stored, fetched or deleted. What a server has answered is not in it: such an answer may hold a key.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why something was not stored, fetched or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// It cannot be done as it was asked for; a repetition is in vain until settings or arguments are changed.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The object store has refused it, or was away.
    #[error("the object store {what}{}", code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Store {
        /// What programs can rely on: `storage_denied`, `storage_missing` or `storage_unavailable`.
        term: &'static str,
        /// What it did.
        what: &'static str,
        /// The code of its answer, such as `NoSuchBucket`.
        code: Option<String>,
    },
    /// A file of this machine.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl StorageError {
    pub(super) fn refused(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    /// `storage_longer`.
    pub(super) fn longer(name: &str, bytes_max: u64) -> Self {
        Self::refused(
            "storage_longer",
            format!("{name} has more than the {bytes_max} bytes that it may have"),
        )
    }

    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { what, path: path.to_owned(), source }
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> &'static str {
        match self {
            Self::Refused { term, .. } | Self::Store { term, .. } => term,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => "storage_missing",
            Self::File { .. } => "storage_file",
        }
    }

    /// Whether a repetition is in vain.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}
