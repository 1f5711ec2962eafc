//! What the services write about attempts. One documented function per statement.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use uuid::Uuid;

use super::{Failure, FailureState, NextStep, PriorAttempts, Reason};
use crate::{
    fault::{Fault, classify},
    identifier::ForwarderId,
    session::Session,
};

/// How much of an error is kept.
const ERROR_CHARS: usize = 2_000;

/// Which of these, each a forwarder and a reference, are dead letters or discarded already.
///
/// # Errors
/// When the server is away.
pub async fn ended(
    connection: &mut Session,
    references: &[(String, String)],
) -> Result<HashSet<(String, String)>, sqlx::Error> {
    let (forwarders, references): (Vec<&str>, Vec<&str>) =
        references.iter().map(|(forwarder, reference)| (forwarder.as_str(), reference.as_str())).unzip();
    let found: Vec<(String, String)> = sqlx::query_as(
        "select f.forwarder, f.ref from unnest($1::text[], $2::text[]) as m (forwarder, ref)
         join outbox.failures f on f.forwarder = m.forwarder and f.ref = m.ref
         where f.state in ('dead', 'discarded')",
    )
    .bind(forwarders)
    .bind(references)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().collect())
}

/// Writes the failures of one batch, and with them the log's entries of those that are taken out of their message. Settle their
/// messages only after this has been committed.
///
/// # Errors
/// When the server is away.
pub async fn record(
    connection: &mut Session,
    forwarder: &ForwarderId,
    failures: &[Failure],
) -> Result<(), sqlx::Error> {
    // The same message may have come twice in one batch, and one statement may not meet a row twice.
    let last: BTreeMap<&str, &Failure> =
        failures.iter().map(|failure| (failure.reference.as_str(), failure)).collect();
    let failures: Vec<&Failure> = last.into_values().collect();
    match insert(connection, forwarder, &failures, storable).await {
        // An error's own message may not exist in the database's encoding.
        Err(error) if classify(&error) == Fault::Event => {
            insert(connection, forwarder, &failures, |error| {
                storable(error).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
            })
            .await
        }
        written => written,
    }
}

/// What is known of those of these events that failed before.
///
/// # Errors
/// When the server is away.
pub async fn prior_attempts(
    connection: &mut Session,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<HashMap<Uuid, PriorAttempts>, sqlx::Error> {
    let known: Vec<(Uuid, i32, bool, bool, bool, Option<f64>)> = sqlx::query_as(
        "select audit_event_id, attempts, state = 'discarded',
                -- No process had the forwarder then; now one has.
                state = 'dead' and reason <> 'unknown_forwarder', coalesce(reason = 'audit_event_not_found', false),
                extract(epoch from next_attempt_at - clock_timestamp())::float8
         from outbox.failures where forwarder = $1 and ref = any ($2)",
    )
    .bind(forwarder.as_str())
    .bind(events.iter().map(Uuid::to_string).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let earlier = |(event, attempts, discarded, dead, gone, wait): (_, i32, _, _, _, Option<f64>)| {
        let attempts = attempts.max(0).cast_unsigned();
        let wait = Duration::try_from_secs_f64(wait.unwrap_or(0.0).max(0.0)).unwrap_or_default();
        (event, PriorAttempts { attempts, wait, discarded, dead, gone })
    };
    Ok(known.into_iter().map(earlier).collect())
}

async fn insert(
    connection: &mut Session,
    forwarder: &ForwarderId,
    failures: &[&Failure],
    words: impl Fn(&str) -> String,
) -> Result<(), sqlx::Error> {
    let mut references = Vec::new();
    let mut events = Vec::new();
    let mut states = Vec::new();
    let mut reasons = Vec::new();
    let mut errors = Vec::new();
    let mut attempts = Vec::new();
    let mut waits = Vec::new();
    let mut excerpts = Vec::new();
    let mut taken_out = Vec::new();
    for failure in failures {
        let (state, reason, wait) = match failure.outcome {
            NextStep::Retry(wait) | NextStep::RetryAlone(wait) => {
                (FailureState::Retrying.as_str(), None, Some(wait.as_secs_f64()))
            }
            NextStep::Dead(reason) => (FailureState::Dead.as_str(), Some(reason.as_str()), None),
        };
        references.push(failure.reference.as_str());
        events.push(failure.audit_event_id);
        states.push(state);
        reasons.push(reason);
        errors.push(words(&failure.error));
        attempts.push(i32::try_from(failure.attempts).unwrap_or(i32::MAX));
        waits.push(wait);
        excerpts.push(failure.excerpt.as_deref());
        if let NextStep::RetryAlone(_) = failure.outcome {
            taken_out.extend(failure.audit_event_id);
        }
    }
    sqlx::query(
        "with alone as (
             insert into outbox.entries (audit_event_id, forwarder) select t.id, $1 from unnest($10::uuid[]) t (id))
         insert into outbox.failures as f
             (forwarder, ref, audit_event_id, state, reason, error, attempts, next_attempt_at, excerpt)
         select $1, n.ref, n.audit_event_id, n.state, n.reason, n.error, n.attempts,
                clock_timestamp() + n.wait * interval '1 second', n.excerpt
         from unnest($2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[], $8::float8[], $9::bytea[])
              n (ref, audit_event_id, state, reason, error, attempts, wait, excerpt)
         order by n.ref
         on conflict (forwarder, ref) do update
         set state = excluded.state, reason = excluded.reason, error = excluded.error,
             attempts = excluded.attempts, started = 0, next_attempt_at = excluded.next_attempt_at,
             last_failed_at = clock_timestamp()
         where f.state <> 'discarded'",
    )
    .bind(forwarder.as_str())
    .bind(references)
    .bind(events)
    .bind(states)
    .bind(reasons)
    .bind(errors)
    .bind(attempts)
    .bind(waits)
    .bind(excerpts)
    .bind(taken_out)
    .execute(connection)
    .await?;
    Ok(())
}

/// What the column can hold: PostgreSQL has no NUL in texts, and a message of any length would be stored as it is.
fn storable(error: &str) -> String {
    error.chars().map(|c| if c == '\0' { '\u{fffd}' } else { c }).take(ERROR_CHARS).collect()
}

/// Removes the rows of events that have been delivered after all.
///
/// # Errors
/// When the server is away.
pub async fn clear(
    connection: &mut Session,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from outbox.failures where forwarder = $1 and ref = any ($2::uuid[]::text[])")
        .bind(forwarder.as_str())
        .bind(events)
        .execute(connection)
        .await?;
    Ok(())
}

/// Commits that an event is about to be forwarded alone; returns how often that was begun and never ended. A message
/// that kills its process leaves nothing else behind.
///
/// # Errors
/// When the server is away.
pub async fn start(
    connection: &mut Session,
    forwarder: &ForwarderId,
    event: Uuid,
) -> Result<u32, sqlx::Error> {
    let started: i32 = sqlx::query_scalar(
        "insert into outbox.failures as f (forwarder, ref, audit_event_id, state, started, next_attempt_at)
         values ($1, $2::text, $2, 'retrying', 1, clock_timestamp())
         on conflict (forwarder, ref) do update set started = f.started + 1
         returning started",
    )
    .bind(forwarder.as_str())
    .bind(event)
    .fetch_one(connection)
    .await?;
    Ok(started.max(0).cast_unsigned())
}

/// Takes back what [`start`] has written: the process lives.
///
/// # Errors
/// When the server is away.
pub async fn end(connection: &mut Session, forwarder: &ForwarderId, event: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with unblemished as (
             delete from outbox.failures
             where forwarder = $1 and ref = $2::uuid::text and state = 'retrying' and attempts = 0)
         update outbox.failures set started = 0
         where forwarder = $1 and ref = $2::uuid::text and (state <> 'retrying' or attempts > 0)",
    )
    .bind(forwarder.as_str())
    .bind(event)
    .execute(connection)
    .await?;
    Ok(())
}

/// How many events of a forwarder wait for another attempt; counting stops at `limit`.
///
/// # Errors
/// When the server is away.
pub async fn retrying(
    connection: &mut Session,
    forwarder: &ForwarderId,
    limit: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from (
             select from outbox.failures where forwarder = $1 and state = 'retrying' limit $2) waiting",
    )
    .bind(forwarder.as_str())
    .bind(limit)
    .fetch_one(connection)
    .await
}

/// The events of a forwarder whose next attempt is due, longest overdue first; with each, whether its last attempt was
/// begun and never ended.
///
/// # Errors
/// When the server is away.
pub async fn due(
    connection: &mut Session,
    forwarder: &ForwarderId,
    limit: i64,
) -> Result<Vec<(Uuid, bool)>, sqlx::Error> {
    sqlx::query_as(
        "select audit_event_id, started > 0 from outbox.failures
         where forwarder = $1 and state = 'retrying' and next_attempt_at <= clock_timestamp()
           and audit_event_id is not null
           -- A fresh mark of a start is of a page in work.
           and (attempts > 0 or started = 0 or first_failed_at < clock_timestamp() - interval '1 minute')
         order by next_attempt_at limit $2",
    )
    .bind(forwarder.as_str())
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Enters events into the log again that have waited for their next attempt for so much too long: their message is gone, and
/// nothing else would look for them. Their attempts stay counted. Returns how many, a thousand at most.
///
/// # Errors
/// When the server is away.
pub async fn requeue_overdue(connection: &mut Session, overdue: Duration) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "with queued as (
             update outbox.failures f set state = 'queued', next_attempt_at = null
             where (f.forwarder, f.ref) in (
                 select o.forwarder, o.ref from outbox.failures o
                 where o.state = 'retrying' and o.audit_event_id is not null
                   and o.next_attempt_at < clock_timestamp() - $1 * interval '1 second'
                 order by o.next_attempt_at limit 1000 for update skip locked)
             returning f.audit_event_id, f.forwarder)
         insert into outbox.entries (audit_event_id, forwarder) select q.audit_event_id, q.forwarder from queued q",
    )
    .bind(overdue.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Those of `events` that a forwarder has a failure of, with its state, and whether it is a dead letter which says
/// that the audit row was gone: where the row is there, that one is outdated.
///
/// # Errors
/// When the server is away.
pub async fn states(
    connection: &mut Session,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<Vec<(Uuid, FailureState, bool)>, sqlx::Error> {
    let states: Vec<(Uuid, String, bool)> = sqlx::query_as(
        "select audit_event_id, state, state = 'dead' and coalesce(reason = $3, false) from outbox.failures
         where forwarder = $1 and ref = any ($2::uuid[]::text[]) and audit_event_id is not null",
    )
    .bind(forwarder.as_str())
    .bind(events)
    .bind(Reason::AuditEventNotFound.as_str())
    .fetch_all(connection)
    .await?;
    let parsed = states.into_iter().map(|(event, state, gone)| Ok((event, state.parse()?, gone)));
    parsed.collect::<Result<_, String>>().map_err(|error| sqlx::Error::Decode(error.into()))
}
