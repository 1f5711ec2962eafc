//! Errors of a connection pooler between a process and PostgreSQL, with their remedies.

use std::time::Duration;

const OF_URL: &str = "the pooler in between does not let through what source.url asks for besides our settings: take options out \
                      of it, or name it in the pooler's ignore_startup_parameters";
const POOL_TAKEN: &str = "all connections of the pooler's pool are taken: raise its default_pool_size, or set pool_mode = \
                          transaction where sessions keep them (docs/configuration.md, behind a pooler)";
const IN_BETWEEN: &str = "a transaction-mode pooler is in between: for the source set source.pooler = true; the timeline, \
                          `publisher attach` and `threadline install` need the server itself (docs/configuration.md, behind a \
                          pooler)";

/// What a pooler in between does not let through, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{said}: {remedy}")]
pub struct PoolerRefusal {
    /// Its own message.
    pub said: String,
    /// The remedy.
    pub remedy: &'static str,
}

impl PoolerRefusal {
    /// Whether an error is one: a start of a session that brings settings along, a named statement on another connection of
    /// the server than the one that knows it, a transaction.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        let error = error.as_database_error()?;
        let (code, said) = (error.code()?, error.message());
        let remedy = match code.as_ref() {
            "08P01" if said.contains("startup parameter") => IN_BETWEEN,
            // Sent to a client that has waited for too long for a connection of the pool.
            "08P01" if said.contains("query_wait_timeout") => POOL_TAKEN,
            "08P01" if said.contains("statement pooling") => {
                "a pooler in between has pool_mode = statement, which allows no transactions: set it to transaction or session"
            }
            "26000" | "42P05" => IN_BETWEEN,
            _ => return None,
        };
        Some(Self { said: error.to_string(), remedy })
    }

    /// A transaction-mode pooler that the settings do not know of.
    pub(crate) fn in_between(said: String) -> Self {
        Self { said, remedy: IN_BETWEEN }
    }

    /// Where the settings know of the pooler: what it does not let through comes from the URL.
    pub(crate) fn of_url(cause: sqlx::error::BoxDynError) -> sqlx::error::BoxDynError {
        match cause.downcast::<Self>() {
            Ok(refusal) if refusal.remedy == IN_BETWEEN => Box::new(Self { remedy: OF_URL, ..*refusal }),
            Ok(refusal) => refusal,
            Err(cause) => cause,
        }
    }

    /// That a pooler has not given one of its connections within so long.
    pub(crate) fn exhausted(waited: Duration) -> sqlx::Error {
        let said = format!("no connection of the pool has become free within {} s", waited.as_secs());
        sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, Self { said, remedy: POOL_TAKEN }))
    }

    /// The same error, with its remedy if it is one.
    pub(crate) fn or(error: sqlx::Error) -> sqlx::Error {
        match Self::of(&error) {
            // That passes by itself when there is less to do.
            Some(refusal) if refusal.remedy == POOL_TAKEN => sqlx::Error::Io(std::io::Error::other(refusal)),
            Some(refusal) => sqlx::Error::Configuration(refusal.into()),
            None => error,
        }
    }
}
