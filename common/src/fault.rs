//! What a database error means for a delivery.

/// Whose fault an error is, and therefore what may be charged for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This event's own data: the same statement would fail again for it, and not for its neighbours.
    Event,
    /// The statement failed, on the decision of a host's trigger, policy or function, or by a limit of the server. It may be
    /// one event that it failed for, or all: halves show which.
    Statement,
    /// The same of what a statement names: tables, columns, grants. As a rule the table is not as it should be, but a
    /// trigger or a policy may name things for some events only.
    Table,
    /// A conflict with a concurrent transaction: repeat the statement at once.
    Conflict,
    /// The connection, the server, the network, its resources: says nothing about any event. Nothing is charged.
    Unavailable,
}

/// Classifies by SQLSTATE, an error without one as [`Fault::Unavailable`].
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
    match (code, code.get(..2).unwrap_or_default()) {
        ("40001" | "40P01", _) => Fault::Conflict,
        // Data exceptions and integrity constraints.
        (_, "22" | "23") => Fault::Event,
        // What is named; 55000 is the prerequisite state that it is not in.
        ("55000", _) | (_, "3F" | "42") => Fault::Table,
        // In order: the connection and its transactions, prepared statements that a pooler has lost, who may log in where;
        // resources, locks, an operator's hand, the system below, its settings.
        (_, "" | "08" | "0B" | "24" | "25" | "26" | "28" | "2D" | "34" | "3B" | "3D" | "40") => {
            Fault::Unavailable
        }
        (_, "53" | "55" | "57" | "58" | "F0") => Fault::Unavailable,
        // Whatever else a statement can run into, codes of a host's own included.
        _ => Fault::Statement,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_and_constraint_errors_are_charged_to_an_event_by_their_code() {
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
            ("25P02", Fault::Unavailable), // in a failed transaction
            ("26000", Fault::Unavailable), // no such prepared statement
            ("28P01", Fault::Unavailable), // invalid password
            ("3D000", Fault::Unavailable), // no such database
            ("40003", Fault::Unavailable), // statement completion unknown
            ("53100", Fault::Unavailable), // disk full
            ("53200", Fault::Unavailable), // out of memory
            ("53300", Fault::Unavailable), // too many connections
            ("55006", Fault::Unavailable), // object in use
            ("55P03", Fault::Unavailable), // lock not available
            ("57014", Fault::Unavailable), // statement time-out
            ("57P01", Fault::Unavailable), // admin shutdown
            ("57P03", Fault::Unavailable), // cannot connect now
            ("58030", Fault::Unavailable), // I/O error
            ("F0001", Fault::Unavailable), // lock file exists
            ("", Fault::Unavailable),
        ];
        for (code, fault) in table {
            assert_eq!(of_sqlstate(code), fault, "{code}");
        }
    }

    #[test]
    fn what_a_statement_ran_into_or_named_is_looked_at_before_anybody_is_charged() {
        let table = [
            ("P0001", Fault::Statement), // raised by a trigger
            ("P0002", Fault::Statement), // no data found
            ("0A000", Fault::Statement), // feature not supported
            ("21000", Fault::Statement), // cardinality violation
            ("27000", Fault::Statement), // triggered data change violation
            ("2F005", Fault::Statement), // function executed no return statement
            ("38000", Fault::Statement), // external routine exception
            ("39P01", Fault::Statement), // trigger protocol violated
            ("44000", Fault::Statement), // check option
            ("54000", Fault::Statement), // index row too large
            ("54001", Fault::Statement), // stack depth
            ("HV000", Fault::Statement), // foreign data wrapper
            ("XX000", Fault::Statement), // internal error
            ("XX001", Fault::Statement), // data corrupted
            ("AU001", Fault::Statement), // a host's own
            ("42501", Fault::Table),     // a missing grant, or row security refuses a row
            ("42703", Fault::Table),     // undefined column
            ("42P01", Fault::Table),     // undefined table, perhaps one of a trigger's
            ("42883", Fault::Table),     // undefined function
            ("3F000", Fault::Table),     // no such schema
            ("55000", Fault::Table),     // not in prerequisite state
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
