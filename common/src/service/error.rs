//! Why a service ended, for its caller: the binary, or a host that embeds it.

use std::{error::Error, fmt};

use crate::service::boot;

/// Why a service did not start, or ended before that was requested. Its text says what happened and what to do; [`Error::source`]
/// leads to the causes. It never holds row data or secrets.
#[derive(Debug)]
pub struct ServiceError {
    kind: ServiceErrorKind,
    error: Box<dyn Error + Send + Sync>,
}

/// What can be done about a [`ServiceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceErrorKind {
    /// Settings, or files that they name, cannot be used: a restart is in vain. The binaries end with exit status 2.
    Misconfigured,
    /// Anything else, such as a server that is away at the start: a restart may help. The binaries end with exit status 1.
    Failed,
}

impl ServiceError {
    /// Wraps an error; its kind follows from it and its causes.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = error.into();
        let misused = boot::status(&*error) == boot::MISUSED;
        let kind = if misused { ServiceErrorKind::Misconfigured } else { ServiceErrorKind::Failed };
        Self { kind, error }
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ServiceErrorKind {
        self.kind
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for ServiceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
