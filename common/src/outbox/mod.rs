//! The transactional outbox: an append-only log next to the application's table, read without gaps.
//!
//! [`capture`] writes an entry in the application's own transaction. A reader's position is not a number but a
//! PostgreSQL snapshot, because numbers and times are handed out before commit and "greater than the last" loses
//! late commits: [`reader`]. [`relay`] drives it all towards a sink, and goes back after something was lost; [`maintenance`] is what a
//! leader does besides relaying, and shows the application how far it may delete rows of its own; [`admin`] is for operators.
//! [`reconcile_cursor`] knows how far the log has been compared with a target, [`forwarders`] are those that were ever delivered to,
//! [`SourceIdentity`] names the source, [`history`] is what the log knows of events whose rows are gone.

pub mod admin;
pub mod capture;
pub mod forwarders;
pub mod history;
pub mod maintenance;
pub mod reader;
pub mod reconcile_cursor;
pub mod relay;
mod source_identity;

use sqlx::{Connection, Executor};

use self::capture::{catalog, objects, ownership};
pub use self::source_identity::SourceIdentity;
use crate::{database::Database, identifier::TableName, session::Session, settings::SourceSettings};

/// Creates schema `outbox` and its tables, or brings them up to date. Never run by a service start. Looks at what is there, whatever the
/// table of migrations says: returns what had been dropped, and is there again, empty.
///
/// # Errors
/// When the server is away or refuses, or behind a pooler, or a newer version has been here; nothing is half done, each step is
/// a transaction.
pub async fn migrate(session: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    if let Some(applied) = objects::applied(session).await? {
        objects::compare(&applied).map_err(|error| sqlx::Error::Configuration(Box::new(error)))?;
    }
    let connection = session.direct()?;
    connection.execute("create schema if not exists outbox").await?;
    // Building an index over a long log may take longer than one of our ordinary statements.
    connection.execute("set statement_timeout = 0").await?;
    // Whichever role runs this, what is made is the owner's: capture runs with the owner's rights.
    ownership::hand_over(session).await?;
    ownership::become_owner(session).await?;
    let made = make(session).await;
    ownership::reset(session).await?;
    let missing = made?;
    let connection = session.direct()?;
    connection.execute("reset statement_timeout").await?;
    connection.ping().await?;
    Ok(missing)
}

/// Runs the migrations, and makes again what is missing all the same, and functions that are other ones.
async fn make(session: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    let mut recreated = Vec::new();
    if objects::has_lost_its_migrations(session).await? {
        objects::adopt(session).await?;
        recreated.push(objects::TABLE.to_owned());
    }
    let run = objects::migrator().run(session.direct()?).await;
    run.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
    let missing = objects::missing(session).await?;
    if !missing.is_empty() {
        objects::recreate(session, &missing).await?;
    }
    recreated.extend(missing);
    let differences = catalog::differences(session).await?;
    let altered: Vec<String> = differences.into_iter().filter_map(|difference| difference.function).collect();
    if !altered.is_empty() {
        objects::recreate(session, &altered).await?;
    }
    recreated.extend(altered);
    Ok(recreated)
}

/// The cluster that the connection leads to. Transaction ids mean nothing in another one.
///
/// # Errors
/// When the server is away.
pub async fn system_identifier(connection: &mut Session) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select system_identifier from pg_control_system()").fetch_one(connection).await
}

/// Why a service cannot work with this database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// No URL is set, or the server does not respond, or it refuses.
    #[error("cannot connect to the source database (source.url)")]
    Unreachable(#[source] sqlx::Error),
    /// The schema is missing.
    #[error("this database has no outbox yet, or an older one: run `publisher attach` first")]
    Missing,
    /// Some of it is not there, although it was made.
    #[error("of the schema outbox {} is missing because it was dropped: run `publisher attach`, which recreates it", .0.join(", "))]
    Incomplete(Vec<String>),
    /// A newer version has been here.
    #[error(
        "the schema outbox is of a newer version: migration {found}, and this binary knows {known}: use a binary of that version"
    )]
    Newer {
        /// In the database.
        found: i64,
        /// In this binary.
        known: i64,
    },
    /// Every reference would lead to a row that is not there.
    #[error(
        "source.table is {configured}, but the outbox captures {attached}: set source.table to what was \
         attached, under the name that it has now"
    )]
    OtherTable {
        /// In the settings.
        configured: TableName,
        /// In the database, as it is called now.
        attached: String,
    },
    /// It has the name under which another one was attached.
    #[error(
        "source.table is {configured}, which is another table than the one that was attached under that name and is \
         called {attached} now: run `publisher attach` to capture the new one, and `publisher backfill` for what it \
         held before"
    )]
    ReplacedTable {
        /// In the settings.
        configured: TableName,
        /// What is still captured.
        attached: String,
    },
    /// It is a view or the like; the table behind it has another name now.
    #[error(
        "source.table is {configured}, which is no table; the one that was attached under that name is called {attached} now: \
         source.table must name the table itself"
    )]
    HiddenTable {
        /// In the settings.
        configured: TableName,
        /// What is captured, as it is called now.
        attached: String,
    },
    /// It was dropped.
    #[error(
        "source.table is {configured}, but the outbox captured {attached}, which is gone: run `publisher attach` to \
         capture {configured}"
    )]
    GoneTable {
        /// In the settings.
        configured: TableName,
        /// What was captured.
        attached: String,
    },
    /// The server is away.
    #[error("the source database: {}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// The source database of the settings and a connection to it, under a name of its own, for a command that works with the
/// outbox there.
///
/// # Errors
/// When it cannot be reached, or has no outbox that [fits](require).
pub async fn open(
    source: &SourceSettings,
    application_name: &str,
) -> Result<(Database, Session), OutboxError> {
    let database = Database::source(source, application_name).map_err(OutboxError::Unreachable)?;
    let mut connection = reach(&database).await?;
    require(&mut connection, &source.table).await?;
    Ok((database, connection))
}

/// A connection to the source database, whatever it holds.
///
/// # Errors
/// When it cannot be reached.
pub async fn reach(source: &Database) -> Result<Session, OutboxError> {
    source.connect().await.map_err(OutboxError::Unreachable)
}

/// Checks that the outbox is there, and that the attached table, if there is one, is the configured one.
///
/// # Errors
/// When it is not, or the server is away.
pub async fn require(connection: &mut Session, table: &TableName) -> Result<(), OutboxError> {
    let applied = objects::applied(connection).await?;
    let is_migrated = applied.as_deref().map(objects::compare).transpose()?;
    let missing = objects::missing(connection).await?;
    match (is_migrated, missing.is_empty()) {
        (Some(false), _) | (None, false) => return Err(OutboxError::Missing),
        (Some(true), false) => return Err(OutboxError::Incomplete(missing)),
        (Some(true) | None, true) => {}
    }
    // By oid, so that a table that was renamed is the same, and another one under its name is not.
    let attached: Option<(bool, bool, bool, String, bool)> = sqlx::query_as(
        "select coalesce(a.oid = to_regclass($1), false), s.named and to_regclass($1) is not null, a.oid is not null,
                coalesce((select format('%s.%s', n.nspname, c.relname)
                          from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = a.oid), s.name),
                exists (select from pg_class c where c.oid = to_regclass($1) and c.relkind not in ('r', 'p'))
         from (select format('%s.%s', table_schema, table_name) as name,
                      (table_schema, table_name) = ($2, $3) as named from outbox.source) s
         cross join lateral (select outbox.attached_table() as oid offset 0) a",
    )
    .bind(table.quoted())
    .bind(table.schema())
    .bind(table.table())
    .fetch_optional(connection)
    .await?;
    let configured = table.clone();
    match attached {
        None | Some((true, ..)) => Ok(()),
        Some((_, _, false, attached, _)) => Err(OutboxError::GoneTable { configured, attached }),
        Some((_, true, true, attached, true)) => Err(OutboxError::HiddenTable { configured, attached }),
        Some((_, true, true, attached, false)) => Err(OutboxError::ReplacedTable { configured, attached }),
        Some((_, false, true, attached, _)) => Err(OutboxError::OtherTable { configured, attached }),
    }
}
