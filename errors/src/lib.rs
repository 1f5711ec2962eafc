//! How errors are said, to people and in logs: each cause once, with the place that could not be reached, and nothing of a row.
//!
//! The driver's own words will not do: they end with a line number of PostgreSQL's source, leave out what the server says in
//! DETAIL and HINT, and repeat their cause in every layer.
//!
//! ```
//! use std::{fmt, io};
//!
//! #[derive(Debug)]
//! struct CannotRead(sqlx::Error);
//!
//! impl fmt::Display for CannotRead {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str("cannot read the log")
//!     }
//! }
//!
//! impl std::error::Error for CannotRead {
//!     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
//!         Some(&self.0)
//!     }
//! }
//!
//! let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
//! let error = CannotRead(sqlx::Error::Io(refused));
//! // The driver's own words begin with `error communicating with database`.
//! assert_eq!(errors::line(&error), "cannot read the log: connection refused");
//! ```

mod place;

use std::error::Error;

use sqlx::{error::DatabaseError, migrate::MigrateError, postgres::PgDatabaseError};

pub use place::Place;

/// What happened, and why, in one line.
#[must_use]
pub fn line(error: &(dyn Error + 'static)) -> String {
    causes(error).join(": ")
}

/// What happened, and each cause of it that says something that has not been said.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |cause| beneath(*cause)) {
        let words = cause.downcast_ref::<sqlx::Error>().map_or_else(|| cause.to_string(), database);
        if said.iter().any(|earlier| earlier.contains(&words)) {
            continue;
        }
        match said.last_mut() {
            // Only a longer form of the same.
            Some(last) if words.starts_with(last.as_str()) => *last = words,
            _ => said.push(words),
        }
    }
    said
}

/// What clap says of a command line that it refuses, in one line: without the usage and the advice that follow.
#[must_use]
pub fn usage(rendered: &str) -> String {
    let Some(said) = rendered.strip_prefix("error: ") else {
        // The help, where everything is missing.
        return "the command line names no subcommand: --help lists them".to_owned();
    };
    let said = said.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The next cause; those of the driver's errors are in [`database`] already.
fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if error.is::<sqlx::Error>() { None } else { error.source() }
}

/// What a database says, or why it says nothing. See `of_server` for what is left out.
#[must_use]
pub fn database(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<Place>() {
            Some(place) => place.to_string(),
            None => of_server(error.as_ref()),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("TLS: {error}"),
        sqlx::Error::Protocol(error) => protocol(error),
        sqlx::Error::Migrate(error) => match error.as_ref() {
            MigrateError::Execute(error) => database(error),
            MigrateError::ExecuteMigration(error, version) => {
                format!("migration {version}: {}", database(error))
            }
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// What the driver does not understand, without the place in its own source, and with what it means where that is known.
fn protocol(error: &str) -> String {
    let is_place = |place: &str| {
        let line = place.strip_suffix(')').and_then(|place| place.rsplit_once(':'));
        line.is_some_and(|(path, line)| {
            path.contains("::") && line.bytes().all(|digit| digit.is_ascii_digit())
        })
    };
    let said = error.rsplit_once(" (").filter(|(_, place)| is_place(place)).map_or(error, |(said, _)| said);
    if said.contains("SSLRequest") {
        return format!("{said}: what answers there is no PostgreSQL server; see host and port of the URL");
    }
    said.to_owned()
}

/// A server's message with its SQLSTATE, DETAIL and HINT.
///
/// Values of rows are left out. They stand in the DETAIL of whatever is about a row (`Key (id)=(…) already exists`, `Failing row
/// contains (…)`), so it is shown of those classes only that are about servers, sessions, rights and definitions; and in the
/// quotes of the messages of class 22 (`invalid input syntax for type integer: "…"`). What a host's own trigger says is
/// passed on.
pub(crate) fn of_server(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    let postgres = error.try_downcast_ref::<PgDatabaseError>();
    let message = if code.starts_with("22") { unquoted(error.message()) } else { error.message().to_owned() };
    let mut text = if code.is_empty() { message } else { format!("{message} (SQLSTATE {code})") };
    let detail = postgres.and_then(PgDatabaseError::detail).filter(|_| shows_detail(&code));
    let hint = postgres.and_then(PgDatabaseError::hint);
    for (name, more) in [("detail", detail), ("hint", hint)] {
        if let Some(more) = more {
            text = format!("{text}; {name}: {}", more.trim_end_matches('.'));
        }
    }
    text.replace(char::is_control, " ")
}

/// Classes whose DETAIL is about something else than a row.
fn shows_detail(code: &str) -> bool {
    const CLASSES: [&str; 15] =
        ["08", "0A", "25", "28", "2B", "3D", "3F", "40", "42", "53", "55", "57", "58", "F0", "XX"];
    // A policy's refusal is about the row.
    code != "42501" && CLASSES.iter().any(|class| code.starts_with(class))
}

/// Without what is in double quotes.
fn unquoted(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, quoted)) = rest.split_once('"') {
        text += before;
        text += "\"…\"";
        // A value may hold quotes itself: up to the last one of the message.
        rest = quoted.rsplit_once('"').map_or("", |(_, after)| after);
    }
    text + rest
}

#[cfg(test)]
mod tests;
