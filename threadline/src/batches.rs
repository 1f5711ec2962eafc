//! What work in short transactions has in common: settings of such a transaction, what is worth another attempt, and pauses.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, Postgres, Row as _, Transaction};
use tokio::sync::watch;

use crate::{ActorRef, ActorType, query::Statement};

/// Time of a statement: a lease outlives two of them and the longest pause.
const STATEMENT_TIME: Duration = Duration::from_secs(15);

/// The longest pause: a lease outlives it, and the batch before it.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Between two attempts at a batch that has found a lock.
pub(crate) const LOCKED_PAUSE: Duration = Duration::from_millis(500);

/// A transaction that writes and sees what is committed before each of its statements, with the settings of [`settle`].
pub(crate) async fn begin(
    pool: &PgPool,
    lock_timeout: Duration,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let begin = "begin transaction isolation level read committed, read write";
    let mut transaction = pool.begin_with(begin).await?;
    settle(&mut transaction, lock_timeout).await?;
    Ok(transaction)
}

/// Sets for this transaction how long is waited, and what would let a plan of a table that has just grown read all of it.
pub(crate) async fn settle(connection: &mut PgConnection, lock_timeout: Duration) -> Result<(), sqlx::Error> {
    set(connection, settings(lock_timeout)).await
}

/// The same for one of many batches, of which one that a crash undoes is done again: nobody waits until it is on disk, and writers do not wait
/// for the disk behind it.
pub(crate) async fn settle_batch(
    connection: &mut PgConnection,
    lock_timeout: Duration,
) -> Result<(), sqlx::Error> {
    let mut settings = settings(lock_timeout);
    settings.push(("synchronous_commit", "off".to_owned()));
    set(connection, settings).await
}

fn settings(lock_timeout: Duration) -> Vec<(&'static str, String)> {
    let milliseconds = |time: Duration| time.as_millis().max(1).to_string();
    vec![
        ("lock_timeout", milliseconds(lock_timeout)),
        ("statement_timeout", milliseconds(STATEMENT_TIME.max(lock_timeout * 2))),
        // There since PostgreSQL 17.
        ("transaction_timeout", "0".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
        // Times are texts between two batches.
        ("datestyle", "ISO, MDY".to_owned()),
        ("timezone", "UTC".to_owned()),
    ]
}

async fn set(
    connection: &mut PgConnection,
    settings: Vec<(&'static str, String)>,
) -> Result<(), sqlx::Error> {
    let (names, values): (Vec<String>, Vec<String>) =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).unzip();
    let mut statement = Statement::new("select count(set_config(s.name, s.value, true)) from unnest(");
    statement
        .bind(names)
        .push("::text[], ")
        .bind(values)
        .push("::text[]) s (name, value) where current_setting(s.name, true) is not null");
    statement.query().execute(connection).await?;
    Ok(())
}

/// Whether the same transaction may succeed a little later: a lock that somebody holds, or a row that somebody changed meanwhile.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40001" | "40P01"))
}

/// The pause behind a batch that took so long, where batches may take this share of the time in percent.
pub(crate) fn pause_behind(took: Duration, busy_percent: u8, least: Duration) -> Duration {
    let busy = u32::from(busy_percent);
    let share = took * (100 - busy) / busy;
    share.max(least).min(PAUSE_MAX)
}

/// Whether the work is told to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// And whoever says so.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (stopped, is_stopped) = watch::channel(false);
        (stopped, Self(is_stopped))
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the work is told to stop, and never where nobody is left who could say so.
    pub(crate) async fn asked_for(&mut self) {
        if self.0.wait_for(|is_stopped| *is_stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets writers go on for so long, unless the work is told to stop.
    pub(crate) async fn pause(&mut self, time: Duration) {
        tokio::select! {
            biased;
            // Whoever could say so is gone: there is nothing to wait for.
            _ = self.0.wait_for(|is_stopped| *is_stopped) => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// Who is logged in, where nobody else is named.
pub(crate) async fn session_user(connection: &mut PgConnection) -> Result<ActorRef, sqlx::Error> {
    let user: String =
        Statement::new("select session_user::text").query().fetch_one(connection).await?.try_get(0)?;
    Ok(ActorRef::new(ActorType::ServiceAccount, Some(user)).unwrap_or_else(|_| ActorRef::anonymous()))
}
