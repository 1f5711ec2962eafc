//! Who reads the log: the names of readers, whether they exist, how much they have left to read, and removing one. One documented
//! function per statement.

use super::rounds::STREAM_READER;
use crate::{
    identifier::ForwarderId,
    outbox::admin::backlog::{self, ReaderBacklog},
    session::Session,
    settings::Settings,
};

const PREFIX: &str = "forward-";

/// The name of a forwarder's own reader in `outbox.rounds` and `outbox.leases`.
#[must_use]
pub fn reader_name(id: &ForwarderId) -> String {
    format!("{PREFIX}{id}")
}

/// The forwarder that a reader belongs to.
#[must_use]
pub fn forwarder_of(reader: &str) -> Option<&str> {
    reader.strip_prefix(PREFIX)
}

/// All readers that these settings may lead to. A forwarder may have one of its own even where it goes through the stream:
/// until its previous path is drained.
#[must_use]
pub fn reader_names(settings: &Settings) -> Vec<String> {
    let stream = settings.broker.url.as_ref().map(|_| STREAM_READER.to_owned());
    stream.into_iter().chain(settings.forwarder.iter().map(|forwarder| reader_name(&forwarder.id))).collect()
}

/// Whether a reader has ever read.
///
/// # Errors
/// When the server is away.
pub async fn exists(connection: &mut Session, reader: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from outbox.rounds where reader = $1)")
        .bind(reader)
        .fetch_one(connection)
        .await
}

/// Drops a reader, so that it holds nothing back any more; returns how many rows it had.
///
/// # Errors
/// When the server is away.
pub async fn drop_reader(connection: &mut Session, reader: &str) -> Result<u64, sqlx::Error> {
    let done =
        sqlx::query("delete from outbox.rounds where reader = $1").bind(reader).execute(connection).await?;
    Ok(done.rows_affected())
}

/// Forgets what had been settled of a reader that is dropped: one that begins again under its name must not inherit it.
///
/// # Errors
/// When the server is away.
pub async fn delete_settled(connection: &mut Session, reader: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from outbox.settled where reader = $1").bind(reader).execute(connection).await?;
    Ok(())
}

/// The readers that a status shows: of the stream if any forwarder goes through it, and of each forwarder that reads the log
/// itself, or has and may not be drained yet.
///
/// # Errors
/// When the server is away.
pub async fn backlogs(
    connection: &mut Session,
    settings: &Settings,
    limit: i64,
) -> Result<Vec<ReaderBacklog>, sqlx::Error> {
    let through_stream = settings.forwarder.iter().any(|forwarder| !forwarder.reads_log(&settings.broker));
    let of_forwarders = settings.forwarder.iter().map(|forwarder| (reader_name(&forwarder.id), forwarder));
    let wanted: Vec<(String, bool)> = std::iter::once((STREAM_READER.to_owned(), through_stream))
        .chain(of_forwarders.map(|(name, forwarder)| (name, forwarder.reads_log(&settings.broker))))
        .collect();
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let mut backlogs = backlog::backlogs(connection, &names, limit).await?;
    backlogs.retain(|backlog| {
        backlog.round.is_some() || wanted.iter().any(|(name, used)| *used && *name == backlog.reader)
    });
    Ok(backlogs)
}
