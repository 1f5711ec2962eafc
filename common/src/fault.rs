//! What a database error means for a delivery.

/// Whose fault an error is, and therefore what may be charged for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This event's own data: the same statement would fail again for it, and not for its neighbours.
    Event,
    /// A conflict with a concurrent transaction: repeat the statement at once.
    Conflict,
    /// The server, the network, grants, a missing table: says nothing about any event. Nothing is charged.
    Unavailable,
}

/// Classifies by SQLSTATE: classes 22 (data exception) and 23 (integrity constraint violation) are about the row,
/// 40001 and 40P01 are conflicts, everything else is [`Fault::Unavailable`].
///
/// Codes: PostgreSQL documentation, appendix A.
#[must_use]
pub fn classify(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(database) => {
            database.code().map_or(Fault::Unavailable, |code| of_sqlstate(&code))
        }
        // A value that cannot be encoded is the event's own.
        sqlx::Error::Encode(_) => Fault::Event,
        _ => Fault::Unavailable,
    }
}

fn of_sqlstate(code: &str) -> Fault {
    match code {
        "40001" | "40P01" => Fault::Conflict,
        _ if code.starts_with("22") || code.starts_with("23") => Fault::Event,
        _ => Fault::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_and_constraint_errors_are_charged_to_an_event() {
        let table = [
            ("22001", Fault::Event),       // string too long
            ("22P02", Fault::Event),       // invalid text representation
            ("22P05", Fault::Event),       // untranslatable character: a NUL in jsonb
            ("23502", Fault::Event),       // not null
            ("23514", Fault::Event),       // check
            ("40001", Fault::Conflict),    // serialization failure
            ("40P01", Fault::Conflict),    // deadlock
            ("08006", Fault::Unavailable), // connection failure
            ("25006", Fault::Unavailable), // read-only transaction
            ("28P01", Fault::Unavailable), // invalid password
            ("3D000", Fault::Unavailable), // no such database
            ("42501", Fault::Unavailable), // insufficient privilege
            ("42P01", Fault::Unavailable), // undefined table
            ("53100", Fault::Unavailable), // disk full
            ("53300", Fault::Unavailable), // too many connections
            ("55P03", Fault::Unavailable), // lock not available
            ("57014", Fault::Unavailable), // statement time-out
            ("57P01", Fault::Unavailable), // admin shutdown
            ("57P03", Fault::Unavailable), // cannot connect now
            ("58030", Fault::Unavailable), // I/O error
            ("XX000", Fault::Unavailable), // internal error
            ("", Fault::Unavailable),
        ];
        for (code, fault) in table {
            assert_eq!(of_sqlstate(code), fault, "{code}");
        }
    }

    #[test]
    fn an_error_without_a_code_is_never_charged() {
        assert_eq!(classify(&sqlx::Error::PoolTimedOut), Fault::Unavailable);
        assert_eq!(classify(&sqlx::Error::WorkerCrashed), Fault::Unavailable);
        assert_eq!(
            classify(&sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())),
            Fault::Unavailable
        );
    }
}
