//! Switching a forwarder between the stream and the log: what one reader has that another has not. One documented function per
//! statement.

use super::rounds::StreamPosition;
use crate::{outbox::system_identifier, session::Session};

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
