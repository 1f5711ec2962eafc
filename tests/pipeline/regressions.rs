//! What the source's own rules, its load and its clients do to the pipeline, and the pipeline to them.

use std::time::Instant;

use end_to_end::{DEADLINE, OwnedServer, Pipeline, exhaustion, samples};
use futures::TryStreamExt as _;
use sandbox::{
    audit::{self, AuditRow},
    fixture::{self, audit_events},
    postgres::Postgres,
    process::Process,
    rights::as_role,
    wait,
    work_dir::{WorkDir, free_port},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::{loss::publish, operations::get};

/// Waits until a process has waited for something twice: once may be a look at the wrong moment.
fn waits(process: &Process, what: &str) -> anyhow::Result<()> {
    wait::until(what, DEADLINE, || process.log().matches(what).count() >= 2)
}

/// The same, of connections.
fn is_refused(process: &Process) -> anyhow::Result<()> {
    wait::until("a connection to be refused", DEADLINE, || exhaustion::refusals(&process.log()) >= 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_hides_are_an_outage_and_not_missing() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let mut superuser = pipeline.source.superuser().await?;
    // With the rights of the shipped roles, and an attribute that only this test changes.
    let role = format!("pipeline_{}", Uuid::new_v4().simple());
    let statement = format!(
        "create role {role} login in role audit_publisher, audit_consumer;
         alter table audit_events enable row level security;
         create policy visible on audit_events for select using (action <> 'test.hidden')"
    );
    superuser.execute(AssertSqlSafe(statement)).await?;
    let rows = [AuditRow::sample("test.row"), AuditRow::sample("test.hidden")];
    pipeline.commit(&rows).await?;

    let hidden: i64 = sqlx::query_scalar("select count(*) from audit_events")
        .fetch_one(&mut PgConnection::connect(&as_role(&pipeline.source.url, &role)).await?)
        .await?;
    assert_eq!(hidden, 1, "the policy hides one from the pipeline's role");
    pipeline.source_role = Some(role.clone());
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer_with(&["--set", &listen, "--set", "consumer.unready_after=1s"])?;
    waits(&consumer, "row-level security policy")?;
    wait::until("the consumer to be unready", DEADLINE, || {
        get(port, "/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains("row-level security"))
    })?;
    pipeline.charges_nobody().await?;
    assert_eq!(pipeline.projected().await?, 0);

    superuser.execute(AssertSqlSafe(format!("alter role {role} bypassrls"))).await?;
    pipeline.arrive(&rows.map(|row| row.id)).await?;
    pipeline.charges_nobody().await
}

/// Predicate locks of the pipeline's sessions: what could make a serializable transaction of the application fail.
async fn predicate_locks(connection: &mut PgConnection) -> anyhow::Result<(i64, i64)> {
    let statement = "select count(distinct a.pid), count(l.pid)
                     from pg_stat_activity a
                     left join pg_locks l on l.pid = a.pid and l.mode = 'SIReadLock'
                     where a.datname = current_database() and a.application_name like 'audit-%'";
    Ok(sqlx::query_as(statement).fetch_one(connection).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_serializable_by_default_never_aborts_the_application_because_of_us()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut watch = pipeline.source.connect().await?;
    let name = pipeline.source.name();
    let by_default = format!("alter database {name} set default_transaction_isolation = 'serializable'");
    watch.execute(AssertSqlSafe(by_default)).await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer()?;
    // One writer, so that nobody but the pipeline could be in its way.
    let mut application = pipeline.source.connect().await?;
    let isolation: String =
        sqlx::query_scalar("show transaction_isolation").fetch_one(&mut application).await?;
    assert_eq!(isolation, "serializable");
    let (rows, mut ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let begun = Instant::now();
    let (mut watched, mut written) = (0, 0);
    while written < 150 || watched < 4 && begun.elapsed() < DEADLINE {
        written += 1;
        let row = AuditRow::sample("test.row");
        application.execute("begin").await?;
        application.execute("select count(*), max(occurred_at) from audit_events").await?;
        audit::insert(&mut application, &audit_events(), std::slice::from_ref(&row)).await?;
        application
            .execute("update audit_events set user_agent = 'read, then written' where user_agent is null")
            .await?;
        let (sessions, locks) = predicate_locks(&mut watch).await?;
        assert_eq!(locks, 0, "the pipeline's own transactions are not serializable");
        watched = watched.max(sessions);
        application.execute("commit").await?;
        ids.push(row.id);
    }
    assert!(watched >= 4, "the pipeline was at work: {watched} sessions");
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lets_nobody_in_charges_nobody() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start_with(&work_dir, false, "max_connections = 20")?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&server, "source").await?;
    pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
    let url = server.url("postgres");
    pipeline.own_postgres = Some(OwnedServer { server, work_dir });
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;

    let mut application = pipeline.source.connect().await?;
    let taken = exhaustion::exhaust(&url, DEADLINE).await?;
    let (rows, ids) = samples(100);
    audit::insert(&mut application, &audit_events(), &rows).await?;
    is_refused(&publisher)?;
    // The publisher cannot give it anything to do.
    publish(&pipeline, ids[0], None).await?;
    is_refused(&consumer)?;
    drop(taken);
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_of_the_source_charge_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let short = ["--set", "source.statement_timeout=1s"];
    let publisher = pipeline.publisher_with(&short)?;
    let (rows, mut ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    let mut holder = pipeline.source.connect().await?;
    sqlx::raw_sql("begin; lock table audit_events in access exclusive mode").execute(&mut holder).await?;
    let consumer = pipeline.consumer_with(&short)?;
    waits(&consumer, "canceling statement due to statement timeout")?;
    pipeline.charges_nobody().await?;
    holder.execute("rollback").await?;
    pipeline.arrive(&ids).await?;

    sqlx::raw_sql("begin; lock table outbox.rounds in exclusive mode").execute(&mut holder).await?;
    let (rows, mut more) = samples(20);
    pipeline.commit(&rows).await?;
    ids.append(&mut more);
    waits(&publisher, "canceling statement due to statement timeout")?;
    holder.execute("rollback").await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_with_somebody_elses_transaction_charges_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let (mut rows, mut ids) = samples(20);
    rows.sort_by_key(|row| row.id);
    ids.sort_unstable();
    let insert = |id: Uuid| {
        sqlx::query("insert into audit_actions (id, name, actor_ref, status) values ($1, 'a.b', '{}', 'ok')")
            .bind(id)
    };
    // The batch goes in by ascending id; this one holds the last of them and asks for the first.
    let mut host = pipeline.timeline.connect().await?;
    host.execute("begin").await?;
    insert(ids[19]).execute(&mut host).await?;
    pipeline.commit(&rows).await?;
    // All at once in the stream are one batch, also where the next message is slow to come.
    pipeline.references(rows.len()).await?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.linger=1s"])?;
    let mut watch = pipeline.timeline.connect().await?;
    wait::until_some("the batch to wait for that transaction", DEADLINE, async || {
        let statement = "select count(*) from pg_stat_activity
                         where application_name = 'audit-consumer-timeline' and wait_event_type = 'Lock'
                           and datname = current_database()";
        let waiting: i64 = sqlx::query_scalar(statement).fetch_one(&mut watch).await?;
        Ok((waiting > 0).then_some(()))
    })
    .await?;
    // One of the two is ended for the other; whichever it is.
    let outcome = insert(ids[0]).execute(&mut host).await;
    host.execute("rollback").await?;
    if let Err(error) = outcome {
        assert!(error.to_string().contains("deadlock"), "{error}");
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    wait::until_some("the deadlock to be counted", DEADLINE, async || {
        watch.execute("select pg_stat_clear_snapshot()").await?;
        let deadlocks: i64 = sqlx::query_scalar(deadlocks).fetch_one(&mut watch).await?;
        Ok((deadlocks > 0).then_some(()))
    })
    .await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await
}

/// nats-server before 2.9.15 forgets, when a stream is purged behind a consumer, every message that the consumer has
/// delivered and that is not settled.
#[tokio::test(flavor = "multi_thread")]
async fn trimming_behind_the_consumers_loses_nothing_of_what_they_have_in_hand() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let trimming = ["--set", "relay.maintenance_interval=200ms", "--set", "publisher.replay_window=0s"];
    let mut publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (rows, ids) = samples(10);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    // In the hand of somebody who never settles them, as of a process that was killed.
    let (rows, held) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(30).await?;
    let durable = pipeline.durable("timeline").await?;
    let messages = durable.batch().max_messages(20).expires(DEADLINE).messages().await?;
    let taken: Vec<_> = messages.try_collect().await.map_err(|error| anyhow::anyhow!(error))?;
    assert_eq!(taken.len(), 20);
    publisher.terminate(DEADLINE)?;
    let _publisher = pipeline.publisher_with(&trimming)?;
    let stream = pipeline.stream().await?;
    wait::until_some("what is settled to be trimmed", DEADLINE, async || {
        Ok((stream.get_info().await?.state.first_sequence == 11).then_some(()))
    })
    .await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&held).await?;
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await
}
