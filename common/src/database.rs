//! Connections to PostgreSQL, set up once and the same everywhere.

use std::{sync::Arc, time::Duration};

use errors::Place;
use sqlx::{Connection, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions};

use crate::{
    dead_peer::DeadPeerDetector,
    pooler::PoolerRefusal,
    session::{self, Session, Transaction},
    settings::{ConnectionUrl, SourceSettings},
};

/// How long a connection attempt may take before it counts as failed. A silent host would otherwise hold the worker
/// for the operating system's two minutes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction that reads a whole table: read-only, without our time-out, and free to scan.
///
/// # Errors
/// When the server is away.
pub async fn read_only_scan(session: &mut Session) -> Result<Transaction<'_>, sqlx::Error> {
    let mut scan = session.begin().await?;
    scan.execute("set transaction read only; set local statement_timeout = 0; set local enable_seqscan = on")
        .await?;
    Ok(scan)
}

/// The same within the session's own time-out.
///
/// # Errors
/// When the server is away.
pub async fn read_only_look(session: &mut Session) -> Result<Transaction<'_>, sqlx::Error> {
    let mut look = session.begin().await?;
    look.execute("set transaction read only; set local enable_seqscan = on").await?;
    Ok(look)
}

/// What a role of the pipeline brings along on every connection.
#[derive(Debug, Clone)]
pub struct Database {
    /// With the search path of the role.
    options: PgConnectOptions,
    /// With [`SEARCH_PATH`], but behind a pooler, where each transaction sets it.
    pinned: PgConnectOptions,
    /// Behind a pooler: what each transaction sets for itself.
    transaction_settings: Option<Vec<(&'static str, String)>>,
    response_timeout: Duration,
    /// Who serves the one connection of a handle that is made by [`Database::with_dead_peer_detection`].
    dead_peer: Option<Arc<DeadPeerDetector>>,
}

/// Where our statements look for functions, operators and types, which they do not qualify: nowhere but in the system's own
/// schema. Tables they qualify.
const SEARCH_PATH: (&str, &str) = ("search_path", "pg_catalog,pg_temp");

/// What our statements rely on, whatever the role or the database say.
fn session_settings(statement_timeout: Duration) -> Vec<(&'static str, String)> {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    vec![
        // Rows hidden by a policy must be an error, not "not found".
        ("row_security", "off".to_owned()),
        // Every statement of ours finds its rows by an index. One planned while a table was empty would scan it
        // for as long as the plan is kept.
        ("enable_seqscan", "off".to_owned()),
        // A scan that cannot be avoided, of a table with one row, now looks so dear that it would be compiled first,
        // for seconds.
        ("jit", "off".to_owned()),
        // What was published to the broker must survive a crash of the database.
        ("synchronous_commit", "on".to_owned()),
        ("statement_timeout", milliseconds(statement_timeout)),
        ("lock_timeout", milliseconds(Duration::from_secs(5))),
        ("idle_in_transaction_session_timeout", milliseconds(Duration::from_secs(60))),
    ]
}

/// With the setting whose URL cannot be used.
fn named(key: &str, error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Configuration(error) => sqlx::Error::Configuration(format!("{key}: {error}").into()),
        error => error,
    }
}

impl Database {
    /// Reads a connection URL.
    ///
    /// Behind a transaction-mode pooler (`pooler`) nothing is set on the session, which others share, but in each transaction:
    /// see [`Session`]. What only such a session's start could say is not said: poolers refuse it.
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
            .postgres_with_files()
            .map_err(|error| sqlx::Error::Configuration(format!("the connection URL: {error}").into()))?
            .application_name(application_name);
        let settings = session_settings(statement_timeout);
        let (options, transaction_settings) = if pooler {
            let settings = settings.into_iter().chain([(SEARCH_PATH.0, SEARCH_PATH.1.to_owned())]).collect();
            (options.extra_float_digits(None).statement_cache_capacity(0), Some(settings))
        } else {
            // A serializable default makes our reads abort the application's transactions.
            (options.options([("default_transaction_isolation", "read committed")]).options(settings), None)
        };
        let response_timeout = statement_timeout + statement_timeout / 10;
        let pinned = if pooler { options.clone() } else { options.clone().options([SEARCH_PATH]) };
        Ok(Self { options, pinned, transaction_settings, response_timeout, dead_peer: None })
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
            .map_err(|error| named("source.url", error))
    }

    /// A handle for a task that holds one connection at a time: while an answer is waited for on it,
    /// [`Database::with_timeout`] notices within seconds that a network has forgotten it. Not behind a pooler, where nobody
    /// knows who serves whom.
    #[must_use]
    pub fn with_dead_peer_detection(&self) -> Self {
        let dead_peer = self.transaction_settings.is_none().then(Arc::default);
        Self { dead_peer, ..self.clone() }
    }

    /// Waits for a response of the server, within a limit: on a connection that a network has forgotten nothing ever
    /// comes, not even the server's own time-out. Let the connection go after an error.
    ///
    /// # Errors
    /// The answer's own; or a time-out a little after the server's own would have come.
    pub async fn with_timeout<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let answer = tokio::time::timeout(self.response_timeout, answer);
        let answer = match &self.dead_peer {
            None => answer.await,
            Some(dead_peer) => tokio::select! {
                biased;
                answer = answer => answer,
                () = dead_peer.detected(&self.pinned) => {
                    let message = "the network has forgotten the connection: the server has nothing in work on it";
                    Ok(Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::NotConnected, message))))
                }
            },
        };
        answer
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
            .map_err(PoolerRefusal::or)
    }

    /// Opens one session, for a worker to hold for its life.
    ///
    /// # Errors
    /// When the server cannot be reached within [`CONNECT_TIMEOUT`] or refuses.
    pub async fn connect(&self) -> Result<Session, sqlx::Error> {
        let connection = self.open(&self.pinned).await?;
        let Some(settings) = &self.transaction_settings else { return Ok(connection.into()) };
        let timed = knows_transaction_timeout(&connection).then_some(("transaction_timeout", "0"));
        let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
        Ok(Session::pooled(connection, settings.chain(timed)))
    }

    /// Opens a connection of one's own, for what knows nothing of a [`Session`].
    ///
    /// # Errors
    /// When the settings say that a pooler is in between; when the server cannot be reached within [`CONNECT_TIMEOUT`] or
    /// refuses.
    pub async fn connect_directly(&self) -> Result<PgConnection, sqlx::Error> {
        if self.transaction_settings.is_some() {
            return Err(session::not_behind_a_pooler());
        }
        self.open(&self.pinned).await
    }

    /// The same for writing into a table whose triggers are the host's and may rely on the path of the role: that one, behind
    /// the system's own schema. A statement on it qualifies what could be overloaded.
    ///
    /// # Errors
    /// As [`Database::connect_directly`].
    pub async fn connect_with_path_of_role(&self) -> Result<PgConnection, sqlx::Error> {
        if self.transaction_settings.is_some() {
            return Err(session::not_behind_a_pooler());
        }
        let mut connection = self.open(&self.options).await?;
        let lead = async {
            let path: String = connection.fetch_one("show search_path").await?.try_get(0)?;
            let path =
                if path.trim().is_empty() { "pg_catalog".to_owned() } else { format!("pg_catalog, {path}") };
            sqlx::query("select pg_catalog.set_config('search_path', $1, false)")
                .bind(path)
                .execute(&mut connection)
                .await
        };
        tokio::time::timeout(CONNECT_TIMEOUT, lead)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))?;
        Ok(connection)
    }

    /// What to say of a server that does not answer: whether it is there at all makes a difference.
    async fn silence(&self) -> sqlx::Error {
        const PROBE: Duration = Duration::from_secs(1);
        let address = (self.options.get_host(), self.options.get_port());
        let is_tcp = self.options.get_socket().is_none();
        let accepts = is_tcp
            && matches!(
                tokio::time::timeout(PROBE, tokio::net::TcpStream::connect(address)).await,
                Ok(Ok(_))
            );
        if !accepts {
            return sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        }
        let said = format!(
            "it accepts connections, and has not answered within {} s: the server hangs, or all connections of a pooler in \
             between are taken (raise its default_pool_size)",
            CONNECT_TIMEOUT.as_secs()
        );
        sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, said))
    }

    async fn open(&self, options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let opened = async {
            let mut connection = PgConnection::connect_with(options).await?;
            if self.transaction_settings.is_none() && knows_transaction_timeout(&connection) {
                connection.execute("set transaction_timeout = 0").await?;
            }
            if self.transaction_settings.is_none() {
                in_force(&mut connection).await?;
            }
            if let Some(dead_peer) = &self.dead_peer {
                dead_peer.watch(&mut connection).await?;
            }
            Ok(connection)
        };
        let opened = match tokio::time::timeout(CONNECT_TIMEOUT, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(self.silence().await),
        };
        opened.map_err(|error| match PoolerRefusal::or(Place::of(&self.options, error)) {
            sqlx::Error::Configuration(cause) if self.transaction_settings.is_some() => {
                sqlx::Error::Configuration(PoolerRefusal::of_url(cause))
            }
            error => error,
        })
    }
}

/// Whether what opened the session is in force. A pooler may ignore it silently, and rows that a policy hides would
/// look as if they did not exist.
async fn in_force(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Not prepared: another client's statement may have the name.
    let row = connection
        .fetch_one("select pg_catalog.current_setting('row_security'), pg_catalog.current_setting('enable_seqscan'), \
                    pg_catalog.current_setting('jit')")
        .await?;
    let found = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if found == ("off", "off", "off") {
        return Ok(());
    }
    let (row_security, enable_seqscan, jit) = found;
    let said = format!(
        "the session does not have the settings that opened it (row_security is {row_security}, enable_seqscan {enable_seqscan}, \
         jit {jit}; all should be off)"
    );
    Err(sqlx::Error::Configuration(PoolerRefusal::in_between(said).into()))
}

/// From PostgreSQL 17 on a role may bring along a limit for whole transactions, and a long look is one. Older servers refuse
/// a connection that speaks of it.
fn knows_transaction_timeout(connection: &PgConnection) -> bool {
    connection.server_version_num().is_some_and(|version| version >= 170_000)
}
