//! Transactions that take their time, and processes whose clock is wrong.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{
    audit::{self, AuditRow},
    fixture::audit_events,
    wait,
};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

/// Until when the lease holds, by the database's clock.
async fn lease(connection: &mut PgConnection) -> anyhow::Result<Option<(String, OffsetDateTime)>> {
    let lease = "select holder, expires_at from outbox.leases where name = 'jetstream'";
    Ok(sqlx::query_as(lease).fetch_optional(connection).await?)
}

/// Waits until some leases have passed since now.
async fn some_leases(connection: &mut PgConnection) -> anyhow::Result<()> {
    let begin: OffsetDateTime =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *connection).await?;
    wait::until_some("leases and refreshes to pass", DEADLINE, async || {
        // The tests' lease is two seconds long, and so is the wait for a refresh.
        let renewed =
            lease(connection).await?.is_some_and(|(_, until)| until > begin + time::Duration::seconds(7));
        Ok(renewed.then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_transactions_held_for_several_leases_and_of_prepared_ones_arrive_after_their_commit()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (mut held, mut prepared) = (pipeline.source.connect().await?, pipeline.source.connect().await?);
    let (rows, held_ids) = samples(20);
    held.execute("begin").await?;
    audit::insert(&mut held, &audit_events(), &rows).await?;
    let (rows, prepared_ids) = samples(20);
    let name = Uuid::new_v4();
    prepared.execute("begin").await?;
    audit::insert(&mut prepared, &audit_events(), &rows).await?;
    prepared.execute(AssertSqlSafe(format!("prepare transaction '{name}'"))).await?;
    let (rows, others) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&others).await?;
    let mut watch = pipeline.source.connect().await?;
    some_leases(&mut watch).await?;
    assert_eq!(pipeline.projected().await?, 20);
    publisher.terminate(DEADLINE)?;
    let _publisher = pipeline.publisher()?;
    let (rows, others) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&others).await?;
    assert_eq!(pipeline.projected().await?, 40, "neither has committed yet");
    held.execute("commit").await?;
    pipeline.arrive(&held_ids).await?;
    assert_eq!(pipeline.projected().await?, 60, "the prepared one has not");
    prepared.execute(AssertSqlSafe(format!("commit prepared '{name}'"))).await?;
    pipeline.arrive(&prepared_ids).await?;
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

/// A leader, a standby and a consumer, of which some believe in another time.
async fn clocks(leader: &str, standby: &str, consumer: &str) -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (taken, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"1s\"\nmax = \"1s\"\n\
         [[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = \"{}\"\nfailing = \"{}\"",
        taken.display(),
        failing.display()
    ))?;
    let only = ["--set", "log.format=json"];
    let behind = |clock: &str, binary: &str| {
        let faketime = ["faketime", "--exclude-monotonic", "-f", clock];
        pipeline.start_behind(&faketime, binary, &only)
    };
    let mut leads = behind(leader, "publisher")?;
    wait::until("the first one to lead", DEADLINE, || leads.log().contains("\"leading\""))?;
    let standby = behind(standby, "publisher")?;
    wait::until("the second one to stand by", DEADLINE, || standby.log().contains("standing by"))?;
    std::fs::write(&failing, "")?;
    let _host = behind(consumer, "host")?;
    let retried = AuditRow::sample("faulty.retry");
    pipeline.commit(std::slice::from_ref(&retried)).await?;
    pipeline.arrive(&[retried.id]).await?;
    let mut watch = pipeline.source.connect().await?;
    let holder = lease(&mut watch).await?.map(|(holder, _)| holder);
    wait::until_some("a second attempt", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok(failures.iter().any(|failure| failure["attempts"].as_i64() >= Some(2)).then_some(()))
    })
    .await?;
    std::fs::remove_file(&failing)?;
    let lines = || std::fs::read_to_string(&taken).unwrap_or_default();
    wait::until("it to be taken", DEADLINE, || lines().contains(&retried.id.to_string()))?;
    some_leases(&mut watch).await?;
    assert_eq!(lease(&mut watch).await?.map(|(holder, _)| holder), holder, "leadership was not stolen");
    leads.kill()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(standby.log().contains("\"leading\""), "leadership was not stuck");
    pipeline.settled("faulty").await?;
    assert_eq!(lines().lines().count(), 21, "each once");
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_ahead_neither_steals_nor_keeps_leadership() -> anyhow::Result<()> {
    clocks("+5m", "-5m", "+5m").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_behind_neither_loses_nor_keeps_leadership() -> anyhow::Result<()> {
    clocks("-5m", "+5m", "-5m").await
}
