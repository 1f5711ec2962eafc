//! `outbox.failures`: what the services write.

use std::time::Duration;

use common::{
    failures::{
        self, Failure, NextStep, Reason,
        admin::{self, Filter},
    },
    identifier::ForwarderId,
    process::operator_log::{self, ActionKind, OperatorAction},
    session::Session,
};
use sandbox::fixture::{self, audit_events, shared, source_database};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgPoolOptions};
use uuid::Uuid;

fn failure(id: Uuid, error: &str) -> Failure {
    Failure {
        reference: id.to_string(),
        audit_event_id: Some(id),
        error: error.to_owned(),
        attempts: 1,
        outcome: NextStep::Dead(Reason::SchemaMismatch),
        excerpt: None,
    }
}

async fn errors(connection: &mut Session) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar("select error from outbox.failures order by ref").fetch_all(connection).await?)
}

#[tokio::test]
async fn the_same_failure_twice_in_one_batch_is_written_once() -> anyhow::Result<()> {
    let mut connection = source_database().await?.session().await?;
    let (forwarder, id): (ForwarderId, _) = ("timeline".parse()?, Uuid::new_v4());
    let twice = [failure(id, "first"), failure(id, "second")];
    failures::record(&mut connection, &forwarder, &twice).await?;
    assert_eq!(errors(&mut connection).await?, ["second"]);
    Ok(())
}

#[tokio::test]
async fn an_error_that_the_databases_encoding_cannot_hold_is_written_all_the_same() -> anyhow::Result<()> {
    let name = format!("latin_{}", Uuid::new_v4().simple());
    let create =
        format!("create database {name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0");
    let mut connection = Session::from(PgConnection::connect(&shared().postgres.url("postgres")).await?);
    connection.execute(sqlx::AssertSqlSafe(create)).await?;
    let database = fixture::TestDatabase { url: shared().postgres.url(&name) };
    let mut connection = database.session().await?;
    common::outbox::migrate(&mut connection).await?;
    let forwarder: ForwarderId = "timeline".parse()?;
    let mixed = [failure(Uuid::new_v4(), "caf\u{e9} \u{4e2d}\u{6587} \0 refused")];
    failures::record(&mut connection, &forwarder, &mixed).await?;
    assert_eq!(errors(&mut connection).await?, ["caf? ?? ? refused"]);
    Ok(())
}

#[tokio::test]
async fn a_retry_that_is_long_overdue_enters_the_log_again_and_keeps_its_attempts() -> anyhow::Result<()> {
    let mut connection = source_database().await?.session().await?;
    for (minutes, attempts) in [(90, 3), (10, 1)] {
        sqlx::query(
            "insert into outbox.failures (forwarder, ref, audit_event_id, state, attempts, next_attempt_at)
             select 'timeline', id::text, id, 'retrying', $2, clock_timestamp() - $1 * interval '1 minute'
             from gen_random_uuid() id",
        )
        .bind(minutes)
        .bind(attempts)
        .execute(&mut connection)
        .await?;
    }
    assert_eq!(failures::requeue_overdue(&mut connection, Duration::from_secs(3_600)).await?, 1);
    assert_eq!(failures::requeue_overdue(&mut connection, Duration::from_secs(3_600)).await?, 0);
    let (state, attempts, forwarder): (String, i32, String) = sqlx::query_as(
        "select f.state, f.attempts, e.forwarder from outbox.entries e join outbox.failures f using (audit_event_id)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!((state.as_str(), attempts, forwarder.as_str()), ("queued", 3, "timeline"));
    Ok(())
}

#[tokio::test]
async fn no_more_failures_are_counted_than_was_asked_for() -> anyhow::Result<()> {
    let mut connection = source_database().await?.session().await?;
    let failed: Vec<Failure> = (0..5).map(|_| failure(Uuid::new_v4(), "refused")).collect();
    failures::record(&mut connection, &"timeline".parse()?, &failed).await?;
    for (limit, counted) in [(None, 5), (Some(3), 3), (Some(10), 5)] {
        let groups = admin::summary(&mut connection, &audit_events(), &Filter::default(), limit).await?;
        let counts: Vec<(i64, i64)> = groups.iter().map(|group| (group.count, group.gone)).collect();
        assert_eq!(counts, [(counted, counted)], "{limit:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_action_is_recorded_once_however_many_ask_for_it_at_a_time() -> anyhow::Result<()> {
    let database = source_database().await?;
    let record = async |filter: &'static str| {
        let mut session = database.session().await?;
        let mut transaction = session.begin().await?;
        let action =
            OperatorAction { actor: "somebody", kind: ActionKind::Redrive, filter, count: 0, reason: None };
        let id = operator_log::record_once(&mut transaction, &action).await?;
        transaction.commit().await?;
        anyhow::Ok(id)
    };
    let (one, two, three) = tokio::join!(record("request 1"), record("request 1"), record("request 2"));
    let (one, two, three) = (one?, two?, three?);
    assert!(one.is_some() != two.is_some() && three.is_some(), "{one:?} {two:?} {three:?}");
    let mut session = database.session().await?;
    let found = operator_log::latest(&mut session, Some("request 1"), 10).await?;
    assert_eq!(found.iter().map(|action| action.id).collect::<Vec<_>>(), [one.or(two).unwrap()]);
    assert_eq!(operator_log::recorded(&mut session, found[0].id).await?.as_ref(), found.first());
    assert_eq!(operator_log::latest(&mut session, None, 1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_connection_of_a_pool_goes_back_without_what_a_session_left_open() -> anyhow::Result<()> {
    let database = source_database().await?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&database.url).await?;
    let mut session = Session::from(pool.acquire().await?);
    let mut transaction = session.begin().await?;
    transaction.execute("insert into outbox.acts (actor, kind) values ('somebody', 'nothing')").await?;
    drop(transaction);
    drop(session);
    let mut session = Session::from(pool.acquire().await?);
    let acts: i64 = sqlx::query_scalar("select count(*) from outbox.acts").fetch_one(&mut session).await?;
    assert_eq!(acts, 0);
    session.close().await?;
    // The pool has room for another one.
    Session::from(pool.acquire().await?).ping().await?;
    Ok(())
}
