//! How far the application may delete its own rows.

use common::{
    outbox::{
        self, capture,
        maintenance::retention::{generation, settle, undelivered_older_than},
        reader::rounds::{self, Append, PublishedPosition, Round, StreamPosition},
        system_identifier,
    },
    session::Session,
};
use sandbox::{
    audit::{self, AuditRow},
    fixture::{audit_events, empty_database, source_database},
};
use sqlx::Executor as _;
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use crate::reader::{READER, read_all};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// One committed row that was inserted so many days ago.
pub(crate) async fn row(connection: &mut Session, days: i32) -> anyhow::Result<Uuid> {
    Ok(sqlx::query_scalar(
        "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
         select gen_random_uuid(), now(), 'test.row', 'success',
                (now() - $1 * interval '24 hours' - interval '1 hour') at time zone 'UTC'
         returning id",
    )
    .bind(days)
    .fetch_one(connection)
    .await?)
}

/// How many whole days ago everything had been delivered; `None` when nothing is known to be.
async fn safe_days(connection: &mut Session) -> anyhow::Result<Option<i64>> {
    let days: Option<f64> = sqlx::query_scalar(
        "select case when isfinite(s) then floor(extract(epoch from now() - s) / 86400)::float8 end
         from outbox.safe_before() s",
    )
    .fetch_one(connection)
    .await?;
    #[expect(clippy::cast_possible_truncation, reason = "whole days")]
    Ok(days.map(|days| days as i64))
}

/// Deletes as the recipe does; answers how many rows went.
async fn clean_up(connection: &mut Session, days: i32) -> anyhow::Result<u64> {
    let done = sqlx::query(
        "delete from audit_events
         where inserted_at < least(now() - $1 * interval '1 day', (select outbox.safe_before())) at time zone 'UTC'",
    )
    .bind(days)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

fn at(sequence: u64) -> StreamPosition {
    StreamPosition { created: datetime!(2026-01-01 00:00 UTC), sequence }
}

/// Reads a round, as a publisher whose broker acknowledged everything up to `sequence`.
async fn publish(connection: &mut Session, sequence: u64) -> anyhow::Result<()> {
    let identifier = system_identifier(connection).await?;
    let head = rounds::head(connection, READER, identifier).await?;
    let Append::Written(round) = rounds::open(connection, &head, head.mark, false).await? else {
        anyhow::bail!("nothing is unread")
    };
    let mark = Some(PublishedPosition { position: at(sequence), event: None });
    let closing = Round { number: round.number + 1, from: round.to.clone(), mark, ..round.clone() };
    let Append::Written(_) = rounds::append(connection, &round, &closing).await? else {
        anyhow::bail!("nobody else reads here")
    };
    Ok(())
}

async fn failure(connection: &mut Session, event: Uuid, state: &str) -> anyhow::Result<()> {
    sqlx::query(
        "insert into outbox.failures (forwarder, ref, audit_event_id, state, reason, next_attempt_at)
         values ('timeline', $1::text, $1, $2, 'schema_mismatch', case when $2 = 'retrying' then now() end)
         on conflict (forwarder, ref) do update
         set state = excluded.state, next_attempt_at = excluded.next_attempt_at",
    )
    .bind(event)
    .bind(state)
    .execute(connection)
    .await?;
    Ok(())
}

#[tokio::test]
async fn while_nothing_is_known_to_be_delivered_nothing_is_deleted() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    assert_eq!(safe_days(&mut connection).await?, None, "no reader, no row");
    row(&mut connection, 100).await?;
    assert_eq!(safe_days(&mut connection).await?, None, "no reader");
    assert_eq!(clean_up(&mut connection, 90).await?, 0);
    assert_eq!(undelivered_older_than(&mut connection, 90 * DAY).await?, 1, "and it is at risk");

    publish(&mut connection, 1).await?;
    assert_eq!(safe_days(&mut connection).await?, None, "published, and nobody has settled anything");
    assert_eq!(clean_up(&mut connection, 90).await?, 0);

    capture::detach(&mut connection).await?;
    connection.execute("truncate outbox.entries; select outbox.detach()").await?;
    assert_eq!(safe_days(&mut connection).await?, None, "detached");
    assert_eq!(undelivered_older_than(&mut connection, 90 * DAY).await?, 0);
    Ok(())
}

#[tokio::test]
async fn retention_never_reaches_what_is_not_delivered() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 120).await?;
    row(&mut connection, 100).await?;
    assert_eq!(read_all(&mut connection, 10).await?.len(), 2);
    assert_eq!(safe_days(&mut connection).await?, Some(0), "everything is delivered");
    row(&mut connection, 110).await?;
    row(&mut connection, 95).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(110));
    for (days, rows) in [(112, 0), (105, 1), (90, 2)] {
        assert_eq!(undelivered_older_than(&mut connection, days * DAY).await?, rows, "{days}");
    }
    assert_eq!(clean_up(&mut connection, 90).await?, 1, "the one of 120 days");
    assert_eq!(read_all(&mut connection, 10).await?.len(), 2);
    assert_eq!(undelivered_older_than(&mut connection, 90 * DAY).await?, 0);
    assert_eq!(clean_up(&mut connection, 90).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_slower_reader_holds_what_a_faster_one_has_delivered() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let identifier = system_identifier(&mut connection).await?;
    row(&mut connection, 100).await?;
    read_all(&mut connection, 10).await?;
    rounds::head(&mut connection, "slow", identifier).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(100));
    connection.execute("update outbox.rounds set system_identifier = 1 where reader = 'slow'").await?;
    assert_eq!(safe_days(&mut connection).await?, None, "a position of another cluster says nothing");
    Ok(())
}

#[tokio::test]
async fn what_the_broker_holds_counts_once_every_durable_has_settled_it() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 120).await?;
    publish(&mut connection, 1).await?;
    row(&mut connection, 100).await?;
    publish(&mut connection, 2).await?;
    let generation = generation(&mut connection, READER).await?;
    for (floor, safe) in [(0, None), (1, Some(100)), (2, Some(0)), (1, Some(100)), (0, None), (2, Some(0))] {
        settle(&mut connection, READER, generation, at(floor)).await?;
        assert_eq!(safe_days(&mut connection).await?, safe, "floor {floor}");
    }
    let other = StreamPosition { created: at(0).created + Duration::DAY, sequence: 2 };
    settle(&mut connection, READER, generation, other).await?;
    assert_eq!(safe_days(&mut connection).await?, None, "no mark is on another creation of the stream");
    Ok(())
}

#[tokio::test]
async fn a_settled_mark_outlives_the_row_it_came_from() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 120).await?;
    publish(&mut connection, 1).await?;
    let generation = generation(&mut connection, READER).await?;
    settle(&mut connection, READER, generation, at(1)).await?;
    row(&mut connection, 100).await?;
    publish(&mut connection, 2).await?;
    connection.execute("delete from outbox.rounds where stream_seq = 1 or stream_seq is null").await?;
    settle(&mut connection, READER, generation, at(1)).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(100));
    Ok(())
}

#[tokio::test]
async fn after_a_rewind_what_was_settled_before_it_says_nothing() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 120).await?;
    publish(&mut connection, 1).await?;
    let before = generation(&mut connection, READER).await?;
    settle(&mut connection, READER, before, at(1)).await?;
    let identifier = system_identifier(&mut connection).await?;
    let head = rounds::head(&mut connection, READER, identifier).await?;
    let Append::Written(_) = outbox::relay::rewind::rewind(&mut connection, &head, at(1)).await? else {
        panic!("nobody else reads here")
    };
    assert_eq!(safe_days(&mut connection).await?, Some(120), "everything is sent again");
    row(&mut connection, 100).await?;
    publish(&mut connection, 1).await?;
    assert_eq!(safe_days(&mut connection).await?, None);
    let after = generation(&mut connection, READER).await?;
    settle(&mut connection, READER, after, at(1)).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(0));
    settle(&mut connection, READER, before, at(0)).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(0), "a late look at the earlier generation");
    Ok(())
}

#[tokio::test]
async fn transactions_in_progress_hold_it_at_their_beginning() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 100).await?;
    read_all(&mut connection, 10).await?;
    let mut reading = database.session().await?;
    reading.execute("begin; select from audit_events").await?;
    let began = times(&mut reading, "now()").await?;
    // Until it ends it may still write a row with the time of its beginning.
    assert_eq!(bound(&mut connection).await?, began);
    let mut writing = database.session().await?;
    writing.execute("begin").await?;
    row(&mut writing, 110).await?;
    let began = times(&mut writing, "now()").await?;
    reading.execute("rollback").await?;
    assert_eq!(bound(&mut connection).await?, began);
    // No statement deletes what it cannot see; once it can, the row is known to be undelivered.
    assert_eq!(clean_up(&mut connection, 90).await?, 1);
    writing.execute("commit").await?;
    assert_eq!(safe_days(&mut connection).await?, Some(110));
    assert_eq!(clean_up(&mut connection, 90).await?, 0);
    Ok(())
}

/// Up to where it would be safe but for the allowance for clocks.
async fn bound(connection: &mut Session) -> anyhow::Result<OffsetDateTime> {
    times(connection, "outbox.safe_before() + interval '10 minutes'").await
}

async fn times(connection: &mut Session, expression: &str) -> anyhow::Result<OffsetDateTime> {
    let statement = format!("select {expression}");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await?)
}

#[tokio::test]
async fn a_prepared_transaction_holds_it_before_its_preparation() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    row(&mut connection, 100).await?;
    read_all(&mut connection, 10).await?;
    let name = Uuid::new_v4().simple().to_string();
    connection.execute("begin").await?;
    row(&mut connection, 0).await?;
    connection.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{name}'"))).await?;
    let prepared = format!("prepared from pg_prepared_xacts where gid = '{name}'");
    let prepared = times(&mut connection, &prepared).await?;
    assert_eq!(bound(&mut connection).await?, prepared - Duration::DAY);
    connection.execute(sqlx::AssertSqlSafe(format!("rollback prepared '{name}'"))).await?;
    assert_eq!(safe_days(&mut connection).await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn failures_that_will_be_tried_again_hold_and_dead_ones_do_not() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let failed = row(&mut connection, 100).await?;
    read_all(&mut connection, 10).await?;
    for (state, safe) in [("retrying", 100), ("queued", 100), ("dead", 0), ("discarded", 0)] {
        failure(&mut connection, failed, state).await?;
        assert_eq!(safe_days(&mut connection).await?, Some(safe), "{state}");
        let at_risk = undelivered_older_than(&mut connection, 90 * DAY).await?;
        assert_eq!(at_risk, i64::from(safe > 0), "{state}");
    }
    assert_eq!(clean_up(&mut connection, 90).await?, 1);
    failure(&mut connection, failed, "queued").await?;
    assert_eq!(safe_days(&mut connection).await?, Some(0), "what is gone holds nothing");
    Ok(())
}

#[tokio::test]
async fn both_types_of_inserted_at_are_read_in_any_time_zone_and_any_schema() -> anyhow::Result<()> {
    for (kind, literal) in [("timestamp", "2020-05-01 12:00:00"), ("timestamptz", "2020-05-01 12:00:00+00")] {
        let database = empty_database().await?;
        let mut connection = database.session().await?;
        connection
            .execute(sqlx::AssertSqlSafe(format!(
                r#"set time zone 'Asia/Tokyo';
                   create schema "Auth Data";
                   create table "Auth Data"."audit-events"
                       (id uuid primary key, occurred_at {kind} not null, inserted_at {kind} not null)"#
            )))
            .await?;
        outbox::migrate(&mut connection).await?;
        capture::attach(&mut connection, &"Auth Data.audit-events".parse()?).await?;
        let identifier = system_identifier(&mut connection).await?;
        rounds::head(&mut connection, READER, identifier).await?;
        connection
            .execute(sqlx::AssertSqlSafe(format!(
                r#"insert into "Auth Data"."audit-events" values (gen_random_uuid(), '{literal}', '{literal}')"#
            )))
            .await?;
        let safe = times(&mut connection, "outbox.safe_before()").await?;
        assert_eq!(safe, datetime!(2020-05-01 12:00 UTC), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn a_policy_that_hides_rows_from_their_owner_too_stops_a_clean_up_instead_of_letting_it_go_on()
-> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    read_all(&mut connection, 10).await?;
    connection
        .execute(
            "alter table audit_events enable row level security;
             create policy visible on audit_events for select using (action <> 'test.hidden');
             create policy written on audit_events for insert with check (true)",
        )
        .await?;
    audit::insert(connection.direct()?, &audit_events(), &[AuditRow::sample("test.hidden")]).await?;
    let waiting = "select older from outbox.undelivered_rows('infinity')";
    assert_eq!(sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await?, 1);
    connection.execute("alter table audit_events force row level security").await?;
    for function in ["select outbox.safe_before()", "select outbox.undelivered_rows(now())"] {
        let error = connection.execute(function).await.expect_err("it cannot see the row");
        assert!(error.to_string().contains("row-level security policy"), "{error}");
    }
    connection.execute("alter table audit_events no force row level security").await?;
    connection.execute("select outbox.safe_before()").await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_that_cannot_see_other_roles_transactions_is_told_the_remedy() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = Session::from(database.superuser().await?);
    read_all(&mut connection, 10).await?;
    let owner = format!("owner_{}", Uuid::new_v4().simple());
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "create role {owner}; grant usage on schema outbox to {owner};
             grant select on all tables in schema outbox to {owner}; grant select on audit_events to {owner};
             grant execute on all functions in schema outbox to {owner};
             alter function outbox.safe_before() owner to {owner}"
        )))
        .await?;
    let mut application = database.session().await?;
    application.execute("begin").await?;
    let error = connection.execute("select outbox.safe_before()").await.expect_err("it cannot know");
    assert!(error.to_string().contains("cannot see when the transactions of other roles began"), "{error}");
    connection.execute(sqlx::AssertSqlSafe(format!("grant pg_read_all_stats to {owner}"))).await?;
    assert_eq!(bound(&mut connection).await?, times(&mut application, "now()").await?);
    connection.execute("alter function outbox.safe_before() owner to current_user").await?;
    connection.execute(sqlx::AssertSqlSafe(format!("drop owned by {owner}; drop role {owner}"))).await?;
    Ok(())
}
