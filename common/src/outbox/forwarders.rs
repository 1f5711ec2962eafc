//! `outbox.forwarders`: who has ever been delivered to, and since when. One documented function per statement.

use crate::{identifier::ForwarderId, session::Session};

/// Notes forwarders that are delivered to. For a `new` one among others everything up to now is history. One that has a
/// place already, on the stream or in the log, has been delivered to for longer than is recorded; and the very
/// first ones are owed everything, since there was no other forwarder to deliver it to.
///
/// # Errors
/// When the server is away.
pub async fn register(
    connection: &mut Session,
    forwarders: &[ForwarderId],
    new: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into outbox.forwarders as f (forwarder, since)
         select n.id, case when $2 and exists (select from outbox.forwarders)
                                and not exists (select from outbox.rounds r where r.reader = 'forward-' || n.id)
                           then pg_current_snapshot() else '3:3:'::pg_snapshot end
         from (select distinct u.id from unnest($1::text[]) u (id)) n order by n.id
         on conflict (forwarder) do update
         set since = excluded.since, at = clock_timestamp(), dropped_at = null where f.dropped_at is not null",
    )
    .bind(forwarders.iter().map(ForwarderId::as_str).collect::<Vec<_>>())
    .bind(new)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that an operator has dropped a forwarder.
///
/// # Errors
/// When the server is away.
pub async fn drop(connection: &mut Session, forwarder: &str) -> Result<(), sqlx::Error> {
    sqlx::query("update outbox.forwarders set dropped_at = clock_timestamp() where forwarder = $1")
        .bind(forwarder)
        .execute(connection)
        .await?;
    Ok(())
}

/// Those of these that some process has, or had: what is addressed to them is not for others to decide.
///
/// # Errors
/// When the server is away.
pub async fn known(connection: &mut Session, forwarders: &[ForwarderId]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select n.id from unnest($1::text[]) n (id)
         where exists (select from outbox.forwarders f where f.forwarder = n.id)
            or exists (select from outbox.rounds r where r.reader = 'forward-' || n.id)",
    )
    .bind(forwarders.iter().map(ForwarderId::as_str).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}
