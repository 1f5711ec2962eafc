//! Durables that somebody makes pass over messages: nothing counts as settled that was not delivered, and what they passed over
//! is delivered once they are fit again.

use async_nats::jetstream::consumer::DeliverPolicy;
use common::{
    broker::{self, FloorMessage, SettledFloor, microseconds},
    outbox::reader::rounds::StreamPosition,
    settings::ConsumerSettings,
};
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{nats::delete_stream, wait, work_dir::free_port};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::{
    broker_settings::{self, create_durable, findings, set},
    operations::get,
};

/// Without the continuous reconciliation, which would deliver what is missing after a while, and for a timeline only.
const ALONE: [&str; 2] = ["--set", "consumer.reconcile.interval=0s"];

fn unready(port: u16, words: &str) -> bool {
    get(port, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains(words))
}

fn ready(port: u16) -> bool {
    get(port, "/readyz").is_some_and(|(status, _)| status == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_filter_passed_over_is_delivered_when_it_is_taken_back_under_running_consumers()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let ports = [free_port()?, free_port()?];
    let _publisher = pipeline.publisher()?;
    let mut consumers = Vec::new();
    for port in ports {
        let listen = format!("consumer.listen=127.0.0.1:{port}");
        consumers.push(pipeline.consumer_with(&[&ALONE[..], &["--set", &listen]].concat())?);
    }
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    // One alone may have delivered them. One that starts later is refused, or recreates the durable without the filter.
    for port in ports {
        wait::until("every consumer to run", DEADLINE, || ready(port))?;
    }
    let durable = pipeline.durable("timeline").await?;
    wait::until_some("every consumer to pull", DEADLINE, async || {
        Ok((durable.get_info().await?.num_waiting == ports.len()).then_some(()))
    })
    .await?;

    let context = pipeline.context().await?;
    let elsewhere = json!({ "filter_subject": format!("{}.other", pipeline.name) });
    let subject = format!("STREAM.UPDATE.{}", pipeline.name);
    // Newer servers take no filter that matches nothing of the stream.
    let widened = json!([format!("{}.events", pipeline.name), format!("{}.other", pipeline.name)]);
    let stream = broker_settings::stream(&pipeline, &json!({ "subjects": widened }));
    let narrow = broker_settings::stream(&pipeline, &json!({}));
    let filtered = create_durable(&context, &pipeline.name, &elsewhere).await;
    if filtered.is_err() {
        set(&context, &subject, &stream).await?;
        create_durable(&context, &pipeline.name, &elsewhere).await?;
    }
    for port in ports {
        wait::until("every consumer to notice", DEADLINE, || unready(port, "filter_subject is "))?;
    }
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(25).await?;
    create_durable(&context, &pipeline.name, &json!({})).await?;
    if filtered.is_err() {
        set(&context, &subject, &narrow).await?;
    }
    pipeline.arrive(&ids).await?;
    for port in ports {
        wait::until("every consumer to be ready", DEADLINE, || ready(port))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_stands_beyond_the_end_of_its_stream_is_named_everywhere_and_settles_nothing()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let name = &pipeline.name;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let arguments = [&ALONE[..], &["--set", &listen]].concat();
    let _publisher = pipeline.publisher_with(&["--set", "publisher.maintenance=200ms"])?;
    let mut consumer = pipeline.consumer_with(&arguments)?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;

    let context = pipeline.context().await?;
    let remove = format!("CONSUMER.DELETE.{name}.forward-timeline");
    let beyond = json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": 100_000 });
    set(&context, &remove, &json!({})).await?;
    create_durable(&context, name, &beyond).await?;
    if pipeline.durable("timeline").await?.cached_info().delivered.stream_sequence < 99_999 {
        // Servers before 2.11 take it back to the end.
        return Ok(());
    }
    let (rows, more) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(10).await?;
    let found = findings(&pipeline, "consumer")?;
    let told = |(name, text): &(String, String)| {
        name == "durable-unfit" && text.contains("its position is 99999, and the stream ends at 10")
    };
    assert!(found.iter().any(told), "{found:?}");
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done && said.contains("durable-unfit: "), "{said}");
    let (_, status) = pipeline.ask("consumer", &["status"])?;
    let forwarder = &status["forwarders"][0];
    assert!(forwarder["settled_up_to"] == 0 && forwarder["skips"] == true, "{status}");

    set(&context, &remove, &json!({})).await?;
    let consumer = pipeline.consumer_with(&arguments)?;
    pipeline.arrive(&more).await?;
    pipeline.settled("timeline").await?;
    wait::until("the consumer to know where it is", DEADLINE, || ready(port))?;

    // Under a running consumer, which recreates it whenever it finds none.
    loop {
        set(&context, &remove, &json!({})).await?;
        if create_durable(&context, name, &beyond).await.is_ok() {
            break;
        }
    }
    wait::until("the consumer to notice", DEADLINE, || unready(port, "the stream ends at 10"))?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(15).await?;
    set(&context, &remove, &json!({})).await?;
    pipeline.arrive(&ids).await?;
    wait::until("the consumer to be ready", DEADLINE, || ready(port))?;
    assert!(!consumer.log().contains("not_written"), "{}", consumer.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_continues_behind_its_floor_only_where_the_stream_still_holds_the_same_message()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let _publisher = pipeline.publisher()?;
    let (rows, _) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(5).await?;
    let (context, stream) = (pipeline.context().await?, pipeline.stream().await?);
    let created = microseconds(stream.cached_info().created);
    let at = async |sequence, floor_message_of| {
        let message = FloorMessage::at(&stream, floor_message_of).await?;
        anyhow::Ok(SettledFloor { position: StreamPosition { created, sequence }, message })
    };
    let id = "timeline".parse()?;
    let begins = async |floor: SettledFloor| {
        let settings = ConsumerSettings::default();
        let durable = broker::ensure_durable(&context, &stream, &id, &settings, Some(&floor)).await?;
        let begins = durable.cached_info().config.deliver_policy;
        broker::remove_durable(&stream, "forward-timeline").await?;
        anyhow::Ok(begins)
    };
    let third = at(3, 3).await?;
    assert_eq!(begins(third.clone()).await?, DeliverPolicy::ByStartSequence { start_sequence: 4 });
    assert_eq!(begins(at(3, 2).await?).await?, DeliverPolicy::All, "another message stands there");
    assert_eq!(begins(at(9, 9).await?).await?, DeliverPolicy::All, "the stream ends before it");
    stream.delete_message(3).await?;
    assert_eq!(begins(third).await?, DeliverPolicy::All, "it is not there any more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_lives_through_the_loss_of_its_stream_knows_when_the_new_one_was_created()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "publisher.maintenance=200ms"])?;
    let _consumer = pipeline.consumer_with(&ALONE)?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let context = pipeline.context().await?;
    delete_stream(&context, &pipeline.name).await?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let created = microseconds(pipeline.stream().await?.cached_info().created).format(&Rfc3339)?;
    context.publish(format!("{}.events", pipeline.name), "no reference".into()).await?.await?;
    let reference = wait::until_some("the dead letter", DEADLINE, async || {
        let found = "select f.ref from outbox.failures f where f.ref like 'stream:%'";
        Ok(sqlx::query_scalar::<_, String>(found)
            .fetch_optional(&mut pipeline.source.connect().await?)
            .await?)
    })
    .await?;
    assert!(reference.starts_with(&format!("stream:{created}:")), "{reference}, the stream: {created}");
    Ok(())
}
