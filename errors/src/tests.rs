use std::{borrow::Cow, fmt, io};

use sqlx::{error::ErrorKind, postgres::PgConnectOptions};

use super::*;

#[derive(Debug)]
struct Layer(&'static str, Option<Box<Layer>>);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Layer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

fn layers(words: &[&'static str]) -> Layer {
    let mut layers = words.iter().rev().fold(None, |below, words| Some(Box::new(Layer(words, below))));
    *layers.take().expect("at least one")
}

#[test]
fn each_cause_is_said_once() {
    for (chain, expected) in [
        (&["cannot read the log: it is away", "it is away"][..], &["cannot read the log: it is away"][..]),
        (&["a", "b", "a"], &["a", "b"]),
        (&["outer: middle: inner", "middle", "inner"], &["outer: middle: inner"]),
        (&["no answer", "no answer: refused", "refused"], &["no answer: refused"]),
        (&["cannot", "refused"], &["cannot", "refused"]),
    ] {
        assert_eq!(causes(&layers(chain)), expected, "{chain:?}");
    }
}

/// As the driver reports a server's refusal, without a server.
#[derive(Debug)]
struct Refusal(&'static str, &'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line 142", self.1)
    }
}

impl Error for Refusal {}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        self.1
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
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

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

#[test]
fn values_of_rows_and_lines_of_postgresqls_source_are_left_out() {
    for (code, message, expected) in [
        (
            "22P02",
            "invalid input syntax for type integer: \"hunter2\"",
            "invalid input syntax for type integer: \"…\" (SQLSTATE 22P02)",
        ),
        (
            "22P02",
            "invalid input value for enum kind: \"a \"hunter2\" b\"",
            "invalid input value for enum kind: \"…\" (SQLSTATE 22P02)",
        ),
        (
            "22003",
            "value \"7531\" is out of range for type integer",
            "value \"…\" is out of range for type integer (SQLSTATE 22003)",
        ),
        ("22007", "unterminated: \"hunter2", "unterminated: \"…\" (SQLSTATE 22007)"),
        (
            "23502",
            "null value in column \"name\" of relation \"audit_actions\" violates not-null constraint",
            "null value in column \"name\" of relation \"audit_actions\" violates not-null constraint (SQLSTATE 23502)",
        ),
        ("42P01", "relation \"x\" does not exist", "relation \"x\" does not exist (SQLSTATE 42P01)"),
    ] {
        let error = sqlx::Error::Database(Box::new(Refusal(code, message)));
        assert_eq!(database(&error), expected);
        assert_eq!(causes(&error), [expected]);
        let migration = MigrateError::ExecuteMigration(error, 3);
        assert_eq!(database(&sqlx::Error::Migrate(Box::new(migration))), format!("migration 3: {expected}"));
    }
}

#[test]
fn detail_is_shown_of_what_is_not_about_a_row() {
    for (code, shown) in [
        ("21000", false),
        ("22001", false),
        ("23505", false),
        ("23514", false),
        ("2BP01", true),
        ("40P01", true),
        ("42501", false),
        ("42804", true),
        ("44000", false),
        ("53300", true),
        ("57P03", true),
        ("P0001", false),
        ("HV000", false),
        ("", false),
    ] {
        assert_eq!(shows_detail(code), shown, "{code}");
    }
}

#[test]
fn a_connection_that_fails_names_host_port_and_database_and_no_secret() {
    for (url, place) in [
        ("postgres://app:hunter2@db.example:6432/prod", "database prod at db.example:6432"),
        ("postgres://app:hunter2@[::1]/prod?password=hunter2", "database prod at [::1]:5432"),
        ("postgres://app:hunter2@%2Fvar%2Frun/prod", "database prod at /var/run:5432"),
        ("postgres://app:hunter2@db:5432", "database app at db:5432"),
    ] {
        let options: PgConnectOptions = url.parse().expect("a URL");
        let refused = || sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(database(&Place::of(&options, refused())), format!("{place}: connection refused"));
        let denied = sqlx::Error::Database(Box::new(Refusal("28P01", "password authentication failed")));
        let denied = Place::of(&options, denied);
        let code = denied.as_database_error().and_then(DatabaseError::code);
        assert_eq!(code.as_deref(), Some("28P01"), "whose fault it is stays known");
        assert_eq!(line(&denied), format!("{place}: password authentication failed (SQLSTATE 28P01)"));
    }
}

#[test]
fn what_the_driver_does_not_understand_is_said_without_a_place_in_its_source() {
    for (error, said) in [
        (
            "unexpected response from SSLRequest: 0x49 (sqlx_postgres::connection::tls:95)",
            "unexpected response from SSLRequest: 0x49: what answers there is no PostgreSQL server; see host and port of the URL",
        ),
        ("unknown message type: '\\0' (sqlx_postgres::message:7)", "unknown message type: '\\0'"),
        ("it said no (twice)", "it said no (twice)"),
    ] {
        assert_eq!(database(&sqlx::Error::Protocol(error.to_owned())), said);
    }
}
