//! What an error of a reload is about.

use common::fault::{Fault, classify};

/// What an error of a reload says, where the same statement passes without any row, in a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// A row.
    Row,
    /// Perhaps a row that takes too long, or too much memory; or a server that is short of them.
    Cost,
    /// Perhaps a row that makes the server fail, or end the connection; or a server that does so by itself.
    Server,
}

impl ReadFault {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match (error, code.as_deref()) {
            // Statement time-out, out of memory.
            (_, Some("57014" | "53200")) => Self::Cost,
            (sqlx::Error::Io(error), _) if error.kind() == std::io::ErrorKind::TimedOut => Self::Cost,
            _ => match classify(error) {
                Fault::Event | Fault::Statement | Fault::Table => Self::Row,
                Fault::Conflict | Fault::Unavailable => Self::Server,
            },
        }
    }

    /// How often a row must fail before that counts: some errors pass, and connections are cut.
    pub(super) fn confirmations(self) -> u32 {
        match self {
            Self::Row | Self::Cost => 2,
            Self::Server => 3,
        }
    }
}
