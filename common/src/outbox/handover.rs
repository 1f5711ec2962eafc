//! Who reads the log, and changing a forwarder's road between the stream and the log. One documented function per statement.

use super::{
    backlog::{self, Standing},
    rounds::{STREAM_READER, StreamPosition},
    system_identifier,
};
use crate::{identifier::ForwarderId, session::Session, settings::Settings};

const PREFIX: &str = "forward-";

/// The name of a forwarder's own reader in `outbox.rounds` and `outbox.leases`.
#[must_use]
pub fn reader(id: &ForwarderId) -> String {
    format!("{PREFIX}{id}")
}

/// The forwarder that a reader belongs to.
#[must_use]
pub fn forwarder(reader: &str) -> Option<&str> {
    reader.strip_prefix(PREFIX)
}

/// All readers that these settings may lead to. A forwarder may have one of its own even where it goes through the stream:
/// until its earlier road is drained.
#[must_use]
pub fn readers(settings: &Settings) -> Vec<String> {
    let stream = settings.broker.url.as_ref().map(|_| STREAM_READER.to_owned());
    stream.into_iter().chain(settings.forwarder.iter().map(|forwarder| reader(&forwarder.id))).collect()
}

/// Whether the log holds anything that `ahead` may have handed over and `behind` has not.
///
/// # Errors
/// When the server is away.
pub async fn is_behind(connection: &mut Session, behind: &str, ahead: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "with b as (select s from outbox.rounds where reader = $1 order by n desc limit 1),
              a as (select t from outbox.rounds where reader = $2 order by n desc limit 1)
         select exists (
             select from a, b, outbox.entries e
             where e.xid >= pg_snapshot_xmin(b.s)
               and pg_visible_in_snapshot(e.xid, a.t) and not pg_visible_in_snapshot(e.xid, b.s))",
    )
    .bind(behind)
    .bind(ahead)
    .fetch_one(connection)
    .await
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

/// The newest mark of `stream_reader` that `reader` is certainly past: nothing at or below it is news to that one.
///
/// # Errors
/// When the server is away.
pub async fn passed(
    connection: &mut Session,
    reader: &str,
    stream_reader: &str,
) -> Result<Option<StreamPosition>, sqlx::Error> {
    let row: Option<(time::OffsetDateTime, i64)> = sqlx::query_as(
        "select m.stream_created, m.stream_seq
         from outbox.rounds m,
              (select s from outbox.rounds where reader = $1 order by n desc limit 1) p
         where m.reader = $2 and m.stream_seq is not null and pg_snapshot_xmax(m.s) <= pg_snapshot_xmin(p.s)
         order by m.n desc limit 1",
    )
    .bind(reader)
    .bind(stream_reader)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|(created, sequence)| StreamPosition { created, sequence: sequence.cast_unsigned() }))
}

/// Lets a new `reader` begin where a durable at `floor` stands, instead of at the beginning of the log. Without effect
/// when it exists already.
///
/// # Errors
/// When the server is away.
pub async fn begin_at(
    connection: &mut Session,
    reader: &str,
    stream_reader: &str,
    floor: StreamPosition,
) -> Result<(), sqlx::Error> {
    let identifier = system_identifier(connection).await?;
    sqlx::query(
        "insert into outbox.rounds (reader, n, s, t, generation, system_identifier)
         select $1, 0, m.s, m.s, 0, m.system_identifier
         from outbox.rounds m
         where m.reader = $2 and m.stream_created = $3 and m.stream_seq <= $4 and m.system_identifier = $5
         order by m.n desc limit 1
         on conflict do nothing",
    )
    .bind(reader)
    .bind(stream_reader)
    .bind(floor.created)
    .bind(floor.sequence.cast_signed())
    .bind(identifier)
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops a reader, so that it holds nothing back any more; answers how many rows it had.
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
pub async fn forget_settled(connection: &mut Session, reader: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from outbox.settled where reader = $1").bind(reader).execute(connection).await?;
    Ok(())
}

/// The readers that a status shows: of the stream if any forwarder goes through it, and of each forwarder that reads the log
/// itself, or has and may not be drained yet.
///
/// # Errors
/// When the server is away.
pub async fn standings(
    connection: &mut Session,
    settings: &Settings,
    limit: i64,
) -> Result<Vec<Standing>, sqlx::Error> {
    let through_stream = settings.forwarder.iter().any(|forwarder| !forwarder.reads_log(&settings.broker));
    let of_forwarders = settings.forwarder.iter().map(|forwarder| (reader(&forwarder.id), forwarder));
    let wanted: Vec<(String, bool)> = std::iter::once((STREAM_READER.to_owned(), through_stream))
        .chain(of_forwarders.map(|(name, forwarder)| (name, forwarder.reads_log(&settings.broker))))
        .collect();
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let mut standings = backlog::standings(connection, &names, limit).await?;
    standings.retain(|standing| {
        standing.round.is_some() || wanted.iter().any(|(name, used)| *used && *name == standing.reader)
    });
    Ok(standings)
}
