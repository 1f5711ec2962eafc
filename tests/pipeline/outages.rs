//! Servers that go away, come back, and lose what they held.

use std::time::{Duration, Instant};

use end_to_end::{DEADLINE, Pipeline, address, samples};
use sandbox::{
    fixture::{self},
    nats::delete_stream,
    postgres::{Postgres, Stop},
    proxy::{Flow, Proxy},
    wait,
    work_dir::{WorkDir, free_port},
};

use crate::operations::get;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_again_and_again_under_load_loses_and_repeats_nothing() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let writing = pipeline.play(4_000, 500, 21);
    let mut projected = 0;
    for _ in 0..3 {
        projected = pipeline.progress(projected, 200, &writing).await?;
        let nats = &mut pipeline.own_nats.as_mut().unwrap().server;
        nats.kill()?;
        nats.restart()?;
    }
    let written = writing.await??;
    pipeline.arrive(&written.committed).await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_crash_under_the_pipeline_lose_and_repeat_nothing() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_postgres().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    // At boot they insist on their servers; from the first arrival on they wait for them.
    let (rows, mut ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    for how in [Stop::Kill, Stop::Fast, Stop::Immediate] {
        let (rows, mut some) = samples(300);
        for part in rows.chunks(50) {
            pipeline.commit(part).await?;
        }
        ids.append(&mut some);
        // Committed, and somewhere on its way.
        let postgres = &mut pipeline.own_postgres.as_mut().unwrap().server;
        postgres.stop(how)?;
        postgres.restart()?;
    }
    pipeline.arrive(&ids).await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds() && verdict.committed == 901, "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_on_a_lost_connection_is_sent_again_without_waiting_for_its_time_out()
-> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let server = address(&pipeline.nats_url)?;
    let proxy = Proxy::start(server).await?;
    let direct = pipeline.nats_url.clone();
    pipeline.nats_url = direct.replace(&server.to_string(), &proxy.address().to_string());
    let limit = DEADLINE.as_secs();
    let _publisher = pipeline.publisher_with(&["--set", &format!("publisher.ack_timeout={limit}s")])?;
    let (rows, first) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.references(1).await?;
    proxy.set(Flow::HoldBoth);
    let (rows, held) = samples(100);
    pipeline.commit(&rows).await?;
    let mut source = pipeline.source.connect().await?;
    wait::until_some("the rows to be taken from the log", DEADLINE, async || {
        let open =
            "select s::text <> t::text from outbox.rounds where reader = 'jetstream' order by n desc limit 1";
        Ok(sqlx::query_scalar::<_, bool>(open).fetch_one(&mut source).await?.then_some(()))
    })
    .await?;

    let began = Instant::now();
    proxy.cut();
    proxy.set(Flow::Open);
    pipeline.references(101).await?;
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    pipeline.nats_url = direct;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&[first, held].concat()).await?;
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

/// Five times, because what is waited for without it is at least two seconds each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_asks_again_at_once_when_its_request_is_lost_with_its_connection() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let server = address(&pipeline.nats_url)?;
    let proxy = Proxy::start(server).await?;
    pipeline.nats_url = pipeline.nats_url.replace(&server.to_string(), &proxy.address().to_string());
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(6);
    pipeline.commit(&rows[..1]).await?;
    pipeline.arrive(&ids[..1]).await?;
    pipeline.settled("timeline").await?;
    let began = Instant::now();
    for number in 1..6 {
        proxy.cut();
        pipeline.commit(&rows[number..=number]).await?;
        pipeline.arrive(&ids[number..=number]).await?;
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    Ok(())
}

/// Acknowledged, not yet delivered, and gone with the broker's disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_loses_its_disk_is_given_everything_again() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let mut publisher = pipeline.publisher()?;
    let (rows, ids) = samples(500);
    pipeline.commit(&rows).await?;
    pipeline.references(500).await?;
    // With its position closed: nothing in the log says "unread".
    publisher.terminate(DEADLINE)?;
    let nats = &mut pipeline.own_nats.as_mut().unwrap().server;
    nats.kill()?;
    nats.lose_disk()?;
    nats.restart()?;
    let _consumer = pipeline.consumer()?;
    let publisher = pipeline.publisher()?;
    pipeline.arrive(&ids).await?;
    assert!(pipeline.verdict().await?.holds());
    assert!(publisher.log().contains("everything that the log still holds is published again"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_deleted_under_a_running_publisher_is_made_and_filled_again() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let (rows, mut ids) = samples(100);
    pipeline.commit(&rows).await?;
    pipeline.references(100).await?;
    let client = async_nats::connect(&pipeline.nats_url).await?;
    delete_stream(&async_nats::jetstream::new(client), &pipeline.name).await?;
    let (rows, mut more) = samples(100);
    pipeline.commit(&rows).await?;
    ids.append(&mut more);
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_is_locked_for_longer_than_every_time_out_charges_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("forward_timeout = \"1s\"").await?;
    let mut holder = pipeline.timeline.connect().await?;
    sqlx::raw_sql("begin; lock table audit_actions in exclusive mode").execute(&mut holder).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    wait::until("the consumer to wait for the timeline", DEADLINE, || {
        consumer.log().matches("waiting for timeline database").count() >= 2
    })?;
    pipeline.charges_nobody().await?;
    sqlx::raw_sql("rollback").execute(&mut holder).await?;
    pipeline.arrive(&ids).await?;
    Ok(())
}

/// Sigra's own forwarder gives up after 8.6 minutes. The waits here are a 600th of its own, and the outage is longer than
/// twelve minutes are then.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_whole_retry_span_loses_nothing_and_uses_no_attempt() -> anyhow::Result<()>
{
    let work_dir = WorkDir::create()?;
    let mut server = Postgres::start(&work_dir, false)?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
    // Four waits of 50, 100, 200 and 400 ms: everything would be dead after 0.9 s.
    pipeline.configure(
        "max_attempts = 5\n[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"50ms\"\nmax = \"400ms\"",
    )?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, mut ids) = samples(50);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    server.stop(Stop::Fast)?;
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(6) {
        let (rows, mut more) = samples(20);
        pipeline.commit(&rows).await?;
        ids.append(&mut more);
        let probes = consumer.log().matches("waiting for timeline database").count();
        wait::until("another probe", DEADLINE, || {
            consumer.log().matches("waiting for timeline database").count() > probes
        })?;
        pipeline.charges_nobody().await?;
    }
    server.restart()?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_go_on_saying_that_the_broker_is_away() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let (publisher, consumer) = (pipeline.publisher()?, pipeline.consumer()?);
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.own_nats.as_mut().unwrap().server.kill()?;
    // Without anything to do it would not notice.
    pipeline.commit(&samples(1).0).await?;
    for service in [&publisher, &consumer] {
        wait::until("it to be said three times", DEADLINE, || {
            service
                .log()
                .lines()
                .filter(|line| line.contains("WARN") && line.contains("waiting for the broker"))
                .count()
                >= 3
        })?;
    }
    pipeline.own_nats.as_mut().unwrap().server.restart()?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await
}

/// In dispatch `async` or `sync`.
async fn refuse_every_event_of_a_trickle(more: &str) -> anyhow::Result<()> {
    let backoff = "[consumer.backoff]\nprofile = \"exponential\"\nfirst = \"100ms\"\nmax = \"200ms\"\n";
    let pipeline = Pipeline::with_settings(&(backoff.to_owned() + more)).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;
                  create trigger refuse before insert on audit_actions for each row execute function refuse()";
    sqlx::raw_sql(refuse).execute(&mut timeline).await?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let _publisher = more.is_empty().then(|| pipeline.publisher()).transpose()?;
    let _consumer = pipeline.consumer_with(&["--set", &listen, "--set", "consumer.unready_after=2s"])?;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (rows, mut some) = samples(1);
        pipeline.commit(&rows).await?;
        ids.append(&mut some);
        wait::until("the consumer to be unready", DEADLINE, || {
            get(port, "/readyz").is_some_and(|(status, body)| {
                status == 503 && body.contains("nothing was delivered") && body.contains("not today")
            })
        })?;
    }
    let attempts = pipeline.failures().await?.into_iter().map(|failure| failure["attempts"].as_i64());
    assert_eq!(attempts.max().flatten().unwrap_or_default(), 0, "nobody is charged");
    sqlx::raw_sql("drop trigger refuse on audit_actions").execute(&mut timeline).await?;
    pipeline.arrive(&ids).await?;
    // Without any new entry.
    wait::until("the consumer to be ready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    })?;
    pipeline.charges_nobody().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_refuses_every_event_of_a_trickle_makes_unready_though_nobody_is_charged()
-> anyhow::Result<()> {
    refuse_every_event_of_a_trickle("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_timeline_that_refuses_every_event_makes_unready_until_it_takes_them()
-> anyhow::Result<()> {
    refuse_every_event_of_a_trickle(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"sync\"",
    )
    .await
}
