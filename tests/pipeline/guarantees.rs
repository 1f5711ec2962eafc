//! Nothing lost, nothing twice, nothing foreign.

use std::collections::HashSet;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use end_to_end::{DEADLINE, Pipeline, samples};
use futures::TryStreamExt as _;
use sandbox::{
    audit::{self, AuditRow},
    fixture::audit_events,
    load::LoadCounter,
    proxy::{Flow, Proxy},
    wait,
};
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Every message of the stream: message id and body.
async fn messages(pipeline: &Pipeline) -> anyhow::Result<Vec<(String, String)>> {
    let stream = pipeline.stream().await?;
    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(config).await?;
    let count = usize::try_from(stream.get_info().await?.state.messages)?;
    let messages = consumer.batch().max_messages(count).expires(DEADLINE).messages().await?;
    let messages = messages.map_ok(|message| {
        let headers = message.headers.clone().unwrap_or_default();
        let id = headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default();
        (id, String::from_utf8_lossy(&message.payload).into_owned())
    });
    messages.try_collect().await.map_err(|error| anyhow::anyhow!(error))
}

#[tokio::test]
async fn a_rolled_back_transaction_never_reaches_the_broker() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let mut application = pipeline.source.connect().await?;
    let (rows, ids) = samples(6);
    application.execute("begin").await?;
    audit::insert(&mut application, &audit_events(), &rows[..2]).await?;
    application.execute("rollback").await?;
    application.execute("begin").await?;
    audit::insert(&mut application, &audit_events(), &rows[2..3]).await?;
    application.execute("savepoint undone").await?;
    audit::insert(&mut application, &audit_events(), &rows[3..5]).await?;
    application.execute("rollback to savepoint undone").await?;
    application.execute("commit").await?;
    // Committed last: when it is in the stream, everything before it had its chance.
    audit::insert(&mut application, &audit_events(), &rows[5..]).await?;
    let stream = pipeline.stream().await?;
    wait::until_some("the last row in the stream", DEADLINE, async || {
        Ok((stream.get_info().await?.state.messages >= 2).then_some(()))
    })
    .await?;
    let published: HashSet<String> = messages(&pipeline).await?.into_iter().map(|(id, _)| id).collect();
    assert_eq!(published, HashSet::from([ids[2].to_string(), ids[5].to_string()]));
    Ok(())
}

#[tokio::test]
async fn the_message_on_the_wire_is_exactly_the_three_keys() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let row = AuditRow {
        occurred_at: time::macros::datetime!(2026-05-15 12:00:00.000001 UTC),
        ip_address: Some("203.0.113.7".into()),
        ..AuditRow::sample("auth.login.success")
    };
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let _publisher = pipeline.publisher()?;
    let stream = pipeline.stream().await?;
    wait::until_some("the message", DEADLINE, async || {
        Ok((stream.get_info().await?.state.messages == 1).then_some(()))
    })
    .await?;
    let body = format!(
        r#"{{"forwarder":"*","audit_event_id":"{}","occurred_at":"2026-05-15T12:00:00.000001Z"}}"#,
        row.id
    );
    assert_eq!(messages(&pipeline).await?, [(row.id.to_string(), body)]);
    Ok(())
}

#[tokio::test]
async fn copy_raw_sql_and_multi_row_inserts_arrive() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let mut application = pipeline.source.connect().await?;
    let columns = "(id, occurred_at, action, outcome, inserted_at)";
    let mut ids: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    let mut copy = application.copy_in_raw(&format!("copy audit_events {columns} from stdin")).await?;
    for id in &ids {
        copy.send(format!("{id}\t2026-01-01 00:00:00\tcopy.row\tsuccess\t2026-01-01 00:00:00\n").as_bytes())
            .await?;
    }
    copy.finish().await?;
    let statement = format!(
        "insert into audit_events {columns}
         select gen_random_uuid(), now(), 'raw.sql', 'success', now() from generate_series(1, 20) returning id"
    );
    let more: Vec<Uuid> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&mut application).await?;
    ids.extend(more);
    pipeline.arrive(&ids).await
}

#[tokio::test]
async fn commit_order_that_differs_from_id_order_loses_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(40);
    let mut open = Vec::new();
    for row in &rows {
        let mut application = pipeline.source.connect().await?;
        application.execute("begin").await?;
        audit::insert(&mut application, &audit_events(), std::slice::from_ref(row)).await?;
        open.push((application, row.id));
    }
    // The last to begin commits first, and each has arrived before the next one commits.
    while let Some((mut application, id)) = open.pop() {
        application.execute("commit").await?;
        if open.len().is_multiple_of(8) {
            pipeline.arrive(&[id]).await?;
        }
    }
    pipeline.arrive(&ids).await?;
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

#[tokio::test]
async fn a_transaction_held_open_delays_only_its_own_rows() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (held, held_ids) = samples(2);
    let mut holder = pipeline.source.connect().await?;
    holder.execute("begin").await?;
    audit::insert(&mut holder, &audit_events(), &held).await?;
    for _ in 0..10 {
        let (rows, ids) = samples(5);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
    }
    assert_eq!(pipeline.projected().await?, 50, "the others arrived, the held ones did not");
    holder.execute("commit").await?;
    pipeline.arrive(&held_ids).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_consumer_processes_share_one_durable_and_every_event_lands_once() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let consumers = (0..4).map(|_| pipeline.consumer()).collect::<anyhow::Result<Vec<_>>>()?;
    let load = pipeline.load(None, 11);
    let written = load.run(6_000, &LoadCounter::default(), &CancellationToken::new()).await?;
    pipeline.arrive(&written.committed).await?;
    drop(consumers);
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    assert_eq!(verdict.projected, written.committed.len());
    let stream = pipeline.stream().await?;
    let durables: Vec<String> = stream.consumer_names().try_collect().await?;
    assert_eq!(durables, ["forward-timeline"]);
    Ok(())
}

#[tokio::test]
async fn a_standby_publisher_takes_over_after_kill_9() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _consumer = pipeline.consumer()?;
    let mut leader = pipeline.publisher()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let standby = pipeline.publisher()?;
    wait::until("the second one to stand by", DEADLINE, || standby.log().contains("standing by"))?;
    leader.kill()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stops_gracefully_hands_over_at_once_and_repeats_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let mut sequence = 0;
    for _ in 0..3 {
        let mut publisher = pipeline.publisher()?;
        let (rows, _) = samples(10);
        pipeline.commit(&rows).await?;
        sequence += 10;
        let stream = pipeline.stream().await?;
        wait::until_some("ten more messages", DEADLINE, async || {
            Ok((stream.get_info().await?.state.last_sequence == sequence).then_some(()))
        })
        .await?;
        assert!(publisher.terminate(DEADLINE)?.success(), "{}", publisher.log());
    }
    let mut connection = pipeline.source.connect().await?;
    let (closed, leases): (bool, i64) = sqlx::query_as(
        "select (select s::text = t::text from outbox.rounds order by n desc limit 1),
                (select count(*) from outbox.leases)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert!(closed, "the position was closed");
    assert_eq!(leases, 0, "the lease was given back");
    Ok(())
}

#[tokio::test]
async fn a_consumer_killed_between_commit_and_ack_leaves_one_row() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let direct = pipeline.nats_url.clone();
    let server = direct.trim_start_matches("nats://").parse()?;
    let proxy = Proxy::start(server).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.nats_url = format!("nats://{}", proxy.address());
    let mut consumer = pipeline.consumer()?;
    let (first, first_ids) = samples(1);
    pipeline.commit(&first).await?;
    pipeline.arrive(&first_ids).await?;

    // The next pull request is out. From here on nothing of this consumer reaches the broker: neither do acks.
    let stream = pipeline.stream().await?;
    let mut durable: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("forward-timeline").await.map_err(|error| anyhow::anyhow!(error))?;
    let mut committed = 1;
    loop {
        wait::until_some("a pull to wait at the broker", DEADLINE, async || {
            let info = durable.info().await?;
            Ok((info.num_waiting > 0 && info.num_ack_pending == 0).then_some(()))
        })
        .await?;
        proxy.set(Flow::HoldToServer);
        let (rows, ids) = samples(1);
        pipeline.commit(&rows).await?;
        committed += 1;
        if pipeline.arrive_within(&ids, DEADLINE / 12).await.is_ok() {
            break;
        }
        // That pull had just expired, and the next one is held back: let it through and wait for another.
        anyhow::ensure!(committed < 10, "no pull was waiting in any attempt");
        proxy.set(Flow::Open);
        pipeline.arrive(&ids).await?;
    }
    consumer.kill()?;
    assert_eq!(durable.info().await?.num_ack_pending, 1, "committed, and never acknowledged");

    pipeline.nats_url = direct;
    let _second = pipeline.consumer()?;
    pipeline.settled("timeline").await?;
    assert_eq!(pipeline.projected().await?, committed);
    assert!(pipeline.verdict().await?.holds());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_killed_at_random_under_load_lose_and_repeat_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publishers = [pipeline.publisher()?, pipeline.publisher()?];
    let mut consumers = [pipeline.consumer()?, pipeline.consumer()?];
    let writing = pipeline.play(4_000, 800, 12);
    let mut projected = 0;
    for turn in 0..6 {
        // Not at a fixed time, but whenever some more has arrived.
        projected = pipeline.progress(projected, 100, &writing).await?;
        if turn % 2 == 0 {
            publishers[turn / 2 % 2].kill()?;
            publishers[turn / 2 % 2] = pipeline.publisher()?;
        } else {
            consumers[turn / 2 % 2].kill()?;
            consumers[turn / 2 % 2] = pipeline.consumer()?;
        }
    }
    let written = writing.await??;
    pipeline.arrive(&written.committed).await?;
    // Redeliveries of what the killed consumers held must have had their time too.
    pipeline.settled("timeline").await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}
