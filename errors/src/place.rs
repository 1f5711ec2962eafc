//! Where a connection was to lead.

use std::{borrow::Cow, error::Error, fmt, io};

use sqlx::{
    error::{DatabaseError, ErrorKind},
    postgres::PgConnectOptions,
};

use super::of_server;

/// A server's refusal of a connection, with host, port and database, and never with a user's secrets.
#[derive(Debug)]
pub struct Place {
    place: String,
    error: Box<dyn DatabaseError>,
}

impl Place {
    /// Adds to the error of a connection attempt where it was to lead.
    #[must_use]
    pub fn of(options: &PgConnectOptions, error: sqlx::Error) -> sqlx::Error {
        let place = address(options);
        match error {
            sqlx::Error::Io(error) => {
                sqlx::Error::Io(io::Error::new(error.kind(), format!("{place}: {error}")))
            }
            sqlx::Error::Database(error) => sqlx::Error::Database(Box::new(Self { place, error })),
            sqlx::Error::Tls(error) => sqlx::Error::Tls(format!("{place}: {error}").into()),
            sqlx::Error::Protocol(error) => sqlx::Error::Protocol(format!("{place}: {error}")),
            other => other,
        }
    }
}

fn address(options: &PgConnectOptions) -> String {
    let host =
        options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    // The server takes the user's name where none is given.
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("database {database} at {host}:{}", options.get_port())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, of_server(self.error.as_ref()))
    }
}

impl Error for Place {}

impl DatabaseError for Place {
    fn message(&self) -> &str {
        self.error.message()
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.error.code()
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn is_transient_in_connect_phase(&self) -> bool {
        self.error.is_transient_in_connect_phase()
    }

    fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}
