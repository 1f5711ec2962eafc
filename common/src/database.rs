//! Connections to PostgreSQL, set up once and the same everywhere.

use std::time::Duration;

use errors::Place;
use sqlx::{Connection, Executor as _, PgConnection, Postgres, Transaction, postgres::PgConnectOptions};

use crate::settings::{ConnectionUrl, SourceSettings};

/// How long a connection attempt may take before it counts as failed. A silent host would otherwise hold the lane
/// for the operating system's two minutes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction for one long look at a whole table: read-only, without our time-out, and free to scan.
///
/// # Errors
/// When the server is away.
pub async fn long_look(connection: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut look = connection.begin().await?;
    look.execute("set transaction read only; set local statement_timeout = 0; set local enable_seqscan = on")
        .await?;
    Ok(look)
}

/// What a role of the pipeline brings along on every connection.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    patience: Duration,
}

impl Database {
    /// Reads a connection URL.
    ///
    /// Behind a transaction-mode pooler (`pooler`) session settings would leak into other clients' sessions and
    /// prepared statements would not find their session again, so neither is used: the role itself must carry the
    /// settings (`docs/configuration.md`).
    ///
    /// # Errors
    /// When the URL cannot be parsed; the message never repeats it.
    pub fn new(
        url: &ConnectionUrl,
        application_name: &str,
        statement_timeout: Duration,
        pooler: bool,
    ) -> Result<Self, sqlx::Error> {
        let options = url
            .postgres()
            .map_err(|error| sqlx::Error::Configuration(format!("the connection URL: {error}").into()))?
            .application_name(application_name);
        let options = if pooler {
            options.statement_cache_capacity(0)
        } else {
            let milliseconds = |duration: Duration| duration.as_millis().to_string();
            options.options([
                // A serializable default makes our reads abort the application's transactions.
                ("default_transaction_isolation", "read committed".to_owned()),
                // Rows hidden by a policy must be an error, not "not found".
                ("row_security", "off".to_owned()),
                // Every statement of ours finds its rows by an index. One planned while a table was empty would scan it
                // for as long as the plan is kept.
                ("enable_seqscan", "off".to_owned()),
                // A scan that cannot be avoided, of a table with one row, now looks so dear that it would be compiled first,
                // for seconds.
                ("jit", "off".to_owned()),
                // What we have told the broker must survive a crash of the database.
                ("synchronous_commit", "on".to_owned()),
                ("statement_timeout", milliseconds(statement_timeout)),
                ("lock_timeout", milliseconds(Duration::from_secs(5))),
                ("idle_in_transaction_session_timeout", milliseconds(Duration::from_secs(60))),
            ])
        };
        Ok(Self { options, patience: statement_timeout + statement_timeout / 10 })
    }

    /// The source database of the settings.
    ///
    /// # Errors
    /// When no URL is set, or it cannot be parsed.
    pub fn source(settings: &SourceSettings, application_name: &str) -> Result<Self, sqlx::Error> {
        let url = settings.url.as_ref().ok_or_else(|| {
            let remedy = "no source database is configured: set source.url in the settings file, or SOURCE_DATABASE_URL";
            sqlx::Error::Configuration(remedy.into())
        })?;
        Self::new(url, application_name, settings.statement_timeout, settings.pooler)
    }

    /// Waits for an answer of the server, but not for ever: on a connection that a network has forgotten nothing ever
    /// comes, not even the server's own time-out. Let the connection go after an error.
    ///
    /// # Errors
    /// The answer's own; or a time-out a little after the server's own would have come.
    pub async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        tokio::time::timeout(self.patience, answer)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }

    /// Opens one connection, for a worker to hold for its life.
    ///
    /// # Errors
    /// When the server cannot be reached within [`CONNECT_TIMEOUT`] or refuses.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&self.options))
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
            .map_err(|error| Place::of(&self.options, error))
    }
}
