//! A session with the source database: the one way in which statements reach it.
//!
//! On a connection of its own a session keeps named prepared statements and the settings that it brought along. Behind a
//! transaction-mode pooler neither survives the end of a transaction, because the next one may run on another connection
//! of the server. There every statement is unnamed, and in a transaction, which begins with our settings: the driver
//! parses and executes in two steps, and the second one would not find the first on another connection. Because both are
//! one type, no statement can forget it.

use std::{
    fmt::Write as _,
    ops::{Deref, DerefMut},
    time::Duration,
};

use futures::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, Connection as _, Either, Execute, Executor, PgConnection, Postgres, SqlSafeStr as _,
    SqlStr,
    pool::PoolConnection,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::mpsc;

use crate::pooler::PoolerRefusal;

/// Who keeps the driver's account of open transactions.
type Manager = <Postgres as sqlx::Database>::TransactionManager;

/// How long a pooler may take to give a transaction one of its connections.
const POOL_WAIT: Duration = Duration::from_secs(10);

/// Rows on their way from a statement to its reader.
const ROWS_AHEAD: usize = 8;

/// A session with the source database, on a connection of its own or behind a pooler.
#[derive(Debug)]
pub struct Session {
    connection: Held,
    /// Behind a pooler: the statements with which each transaction begins.
    begin: Option<SqlStr>,
}

/// The connection of a session.
#[derive(Debug)]
enum Held {
    /// It ends with the session.
    Own(PgConnection),
    /// It goes back to the pool of this process that it came from.
    Lent(PoolConnection<Postgres>),
}

impl Deref for Held {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Lent(connection) => connection,
        }
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::Lent(connection) => connection,
        }
    }
}

impl From<PgConnection> for Session {
    fn from(connection: PgConnection) -> Self {
        Self { connection: Held::Own(connection), begin: None }
    }
}

/// On a connection of a pool of this process, which is set up by whoever made the pool.
impl From<PoolConnection<Postgres>> for Session {
    fn from(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Held::Lent(connection), begin: None }
    }
}

impl Session {
    /// Behind a transaction-mode pooler, with these settings in each transaction.
    pub(crate) fn pooled<'s>(
        connection: PgConnection,
        settings: impl IntoIterator<Item = (&'s str, &'s str)>,
    ) -> Self {
        let mut begin = "begin isolation level read committed".to_owned();
        for (name, value) in settings {
            // A list that is quoted as one would be one name.
            let value = value.replace(',', "', '");
            let _ = write!(begin, "; set local {name} = '{value}'");
        }
        Self { connection: Held::Own(connection), begin: Some(AssertSqlSafe(begin).into_sql_str()) }
    }

    /// Begins a transaction, or a savepoint in the one that is open. It is rolled back when it is dropped.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, sqlx::Error> {
        let statement = if self.is_in_transaction() { None } else { self.begin.clone() };
        // Created before anything is sent: whatever ends this future ends the transaction.
        let is_given_a_connection = statement.is_some();
        let mut transaction = Transaction { session: self, open: true };
        let begun = Manager::begin(&mut transaction.connection, statement);
        if is_given_a_connection {
            // It waits for nothing in the server, only for a connection of the pooler's pool: that has no limit.
            tokio::time::timeout(POOL_WAIT, begun)
                .await
                .unwrap_or_else(|_| Err(PoolerRefusal::exhausted(POOL_WAIT)))
        } else {
            begun.await
        }
        .map_err(PoolerRefusal::or)?;
        Ok(transaction)
    }

    /// The connection itself, for what no pooler can carry: migrations, and what knows nothing of a session.
    ///
    /// # Errors
    /// Behind a pooler.
    pub fn direct(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match self.begin {
            None => Ok(&mut self.connection),
            Some(_) => Err(not_behind_a_pooler()),
        }
    }

    /// Says good-bye.
    ///
    /// # Errors
    /// When the server is gone already.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        match self.connection {
            Held::Own(connection) => connection.close().await,
            Held::Lent(connection) => connection.close().await,
        }
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.connection.ping().await
    }

    fn is_in_transaction(&self) -> bool {
        Manager::get_transaction_depth(&self.connection) > 0
    }

    /// Whether the next statement needs a transaction around it.
    fn needs_transaction(&self) -> bool {
        self.begin.is_some() && !self.is_in_transaction()
    }
}

/// What needs a connection of its own, and what to do about it.
pub(crate) fn not_behind_a_pooler() -> sqlx::Error {
    let remedy = "this needs a connection of its own, and source.pooler says that source.url leads to a transaction-mode \
                  pooler: for this command set SOURCE_DATABASE_URL to the server itself and AUDIT__SOURCE__POOLER=false";
    sqlx::Error::Configuration(remedy.into())
}

/// A transaction of a [`Session`]; rolled back unless it is committed.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'c> {
    session: &'c mut Session,
    open: bool,
}

impl Transaction<'_> {
    /// Makes it last.
    ///
    /// # Errors
    /// When the server is away, or a constraint that was deferred does not hold.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        Manager::commit(&mut self.connection).await?;
        self.open = false;
        Ok(())
    }

    /// Undoes it now.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        Manager::rollback(&mut self.connection).await?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.open {
            Manager::start_rollback(&mut self.session.connection);
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
    }
}

/// Passes a statement on, and has it unnamed.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.begin.is_none() {
            return self.connection.fetch_many(query).map_err(PoolerRefusal::or).boxed();
        }
        if !self.needs_transaction() {
            return self.connection.fetch_many(Unnamed(query)).map_err(PoolerRefusal::or).boxed();
        }
        let (sender, mut receiver) = mpsc::channel(ROWS_AHEAD);
        let run = async move {
            let mut transaction = self.begin().await?;
            let mut steps = transaction.connection.fetch_many(Unnamed(query));
            while let Some(step) = steps.try_next().await? {
                // The rest is not read: as on a connection of its own, the rest is skipped.
                let _ = sender.send(step).await;
            }
            drop(steps);
            transaction.commit().await
        };
        let failure = stream::once(run).filter_map(async |ended: Result<(), _>| ended.err().map(Err));
        stream::select(stream::poll_fn(move |context| receiver.poll_recv(context)).map(Ok), failure).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.begin.is_none() {
            return self.connection.fetch_optional(query).map_err(PoolerRefusal::or).boxed();
        }
        if !self.needs_transaction() {
            return self.connection.fetch_optional(Unnamed(query)).map_err(PoolerRefusal::or).boxed();
        }
        async move {
            let mut transaction = self.begin().await?;
            let row = transaction.connection.fetch_optional(Unnamed(query)).await?;
            transaction.commit().await?;
            Ok(row)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        if self.begin.is_some() {
            let why = "a statement that is prepared ahead does not survive behind a pooler";
            return async move { Err(sqlx::Error::Configuration(why.into())) }.boxed();
        }
        self.connection.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        // Only the driver's own macros ask for this, when they are compiled.
        self.connection.describe(sql)
    }
}
