//! An event's trace, as a collector sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use end_to_end::{DEADLINE, Pipeline, samples, sandbox};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
};
use prost::Message as _;
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

/// One span, as far as these tests look at it.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    event: Uuid,
    id: Option<u64>,
    parent: Option<u64>,
    times: (u64, u64),
    known: BTreeMap<String, String>,
    /// The whole of it, for what must not be there.
    text: String,
}

/// Takes spans as any collector does: OTLP over HTTP, in protobuf.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

impl Collector {
    /// Serves; answers with the settings that lead to it.
    async fn serve(&self) -> anyhow::Result<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let settings = format!("[traces]\nurl = \"http://{}\"", listener.local_addr()?);
        let routes = Router::new().route("/v1/traces", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(settings)
    }

    fn of(&self, event: Uuid) -> Vec<Seen> {
        self.0.lock().unwrap().iter().filter(|seen| seen.event == event).cloned().collect()
    }

    /// The spans of an event, in the order in which they began, once there are so many.
    async fn spans(&self, event: Uuid, count: usize) -> anyhow::Result<Vec<Seen>> {
        wait::until_some(&format!("{count} spans"), DEADLINE, async || {
            let mut spans = self.of(event);
            spans.sort_by_key(|seen| seen.times);
            Ok((spans.len() >= count).then_some(spans))
        })
        .await
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let service = known(&resource.resource.unwrap().attributes).remove("service.name").unwrap();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let text = format!("{span:?}");
            collector.0.lock().unwrap().push(Seen {
                service: service.clone(),
                name: span.name,
                event: Uuid::from_slice(&span.trace_id).unwrap(),
                id: id(&span.span_id),
                parent: id(&span.parent_span_id),
                times: (span.start_time_unix_nano, span.end_time_unix_nano),
                known: known(&span.attributes),
                text,
            });
        }
    }
}

/// Eight bytes; none where there is no such span.
fn id(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn known(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    attributes.iter().map(|one| (one.key.clone(), value(one).unwrap_or_default())).collect()
}

async fn header(pipeline: &Pipeline, sequence: u64) -> anyhow::Result<Option<String>> {
    let message = pipeline.stream().await?.get_raw_message(sequence).await?;
    Ok(message.headers.get("traceparent").map(ToString::to_string))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_one_trace_from_its_publish_to_its_projection() -> anyhow::Result<()> {
    let collector = Collector::default();
    let pipeline = Pipeline::with_settings(&collector.serve().await?).await?;
    let row = AuditRow { ip_address: Some("203.0.113.7".into()), ..AuditRow::sample("test.row") };
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let (_publisher, _consumer) = (pipeline.publisher()?, pipeline.consumer()?);

    let spans = collector.spans(row.id, 3).await?;
    let [send, process, forward] = &spans[..] else { panic!("{spans:?}") };
    let subject = format!("{}.events", pipeline.name);
    assert_eq!((&*send.service, &*send.name), ("audit-publisher", &*format!("send {subject}")));
    assert_eq!((&*process.service, &*process.name), ("audit-consumer", &*format!("process {subject}")));
    assert_eq!((&*forward.service, &*forward.name), ("audit-consumer", "forward timeline"));
    assert_eq!((send.parent, process.parent, forward.parent), (None, send.id, process.id));
    assert!(forward.times.1 <= process.times.1, "{spans:?}");
    assert_eq!(send.known["messaging.message.id"], row.id.to_string());
    assert_eq!(send.known["audit.stream_sequence"], "1");
    for known in ["messaging.message.id", "audit.event_id", "audit.stream_sequence"] {
        assert_eq!(send.known[known], process.known[known]);
    }
    assert_eq!(process.known["audit.verdict"], "delivered");
    assert!(spans.iter().all(|seen| !seen.text.contains("203.0.113.7")), "{spans:?}");
    let carried = format!("00-{}-{:016x}-01", row.id.simple(), send.id.unwrap());
    assert_eq!(header(&pipeline, 1).await?, Some(carried));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_says_why_an_event_was_not_delivered_and_not_in_the_words_of_its_row() -> anyhow::Result<()> {
    let collector = Collector::default();
    let pipeline = Pipeline::with_settings(&collector.serve().await?).await?;
    let rule = "alter table audit_actions add constraint host_rule check (name <> 'test.refused')";
    pipeline.timeline.connect().await?.execute(rule).await?;
    let (refused, deleted) = (AuditRow::sample("test.refused"), AuditRow::sample("test.deleted"));
    pipeline.commit(&[refused.clone(), deleted.clone()]).await?;
    pipeline
        .source
        .connect()
        .await?
        .execute("delete from audit_events where action = 'test.deleted'")
        .await?;
    let (_publisher, _consumer) = (pipeline.publisher()?, pipeline.consumer()?);

    for (event, count, why, words) in [
        (refused.id, 3, "schema_mismatch", "host_rule"),
        (deleted.id, 2, "audit_event_not_found", "does not exist"),
    ] {
        let spans = collector.spans(event, count).await?;
        let process = &spans[1];
        assert_eq!(process.known["audit.verdict"], "dead", "{spans:?}");
        assert_eq!(process.known["error.type"], why, "{spans:?}");
        assert!(spans.iter().all(|seen| !seen.text.contains(words)), "{spans:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_share_that_is_sampled_is_traced_and_carries_a_header() -> anyhow::Result<()> {
    let collector = Collector::default();
    let settings = format!("{}\nsample = 0.5", collector.serve().await?);
    let pipeline = Pipeline::with_settings(&settings).await?.sending_one_by_one()?;
    let (rows, ids) = samples(64);
    pipeline.commit(&rows).await?;
    let (mut publisher, mut consumer) = (pipeline.publisher()?, pipeline.consumer()?);
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    // They send what they have before they go.
    publisher.terminate(DEADLINE)?;
    consumer.terminate(DEADLINE)?;

    let mut traced = 0;
    for sequence in 1..=64 {
        let message = pipeline.stream().await?.get_raw_message(sequence).await?;
        let body: Value = serde_json::from_slice(&message.payload)?;
        let event: Uuid = body["audit_event_id"].as_str().unwrap_or_default().parse()?;
        let sampled = message.headers.get("traceparent").is_some();
        let operations: BTreeSet<String> = collector
            .of(event)
            .iter()
            .filter_map(|seen| Some(seen.name.split_once(' ')?.0.to_owned()))
            .collect();
        let expected = if sampled { &["forward", "process", "send"][..] } else { &[] };
        assert!(operations.iter().eq(expected), "{event}: {operations:?}");
        traced += usize::from(sampled);
    }
    assert!((1..64).contains(&traced), "{traced} of 64");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_a_trace_begins_at_the_delivery() -> anyhow::Result<()> {
    let collector = Collector::default();
    let pipeline = Pipeline::with_settings(&format!(
        "{}\n[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"sync\"",
        collector.serve().await?
    ))
    .await?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    let _consumer = pipeline.consumer()?;
    let spans = collector.spans(ids[0], 2).await?;
    assert_eq!((&*spans[0].name, spans[0].parent), ("process outbox.entries", None));
    assert_eq!((&*spans[1].name, spans[1].parent), ("forward timeline", spans[0].id));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_hangs_costs_no_event_and_no_time() -> anyhow::Result<()> {
    // It takes connections and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let away = {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        gone.local_addr()?
    };
    for collector in [silent.local_addr()?, away] {
        let pipeline = Pipeline::with_settings(&format!("[traces]\nurl = \"http://{collector}\"")).await?;
        let (rows, ids) = samples(1_000);
        pipeline.commit(&rows).await?;
        let (mut publisher, mut consumer) = (pipeline.publisher()?, pipeline.consumer()?);
        pipeline.arrive(&ids).await?;
        pipeline.settled("timeline").await?;
        // Each waits two seconds for its last spans, and the library would wait longer.
        for process in [&mut publisher, &mut consumer] {
            let stopping = Instant::now();
            process.terminate(DEADLINE)?;
            assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_trace_context_is_as_good_as_none() -> anyhow::Result<()> {
    let collector = Collector::default();
    let pipeline = Pipeline::with_settings(&collector.serve().await?).await?;
    let (rows, ids) = samples(1);
    pipeline
        .source
        .connect()
        .await?
        .execute("alter table audit_events disable trigger outbox_capture")
        .await?;
    pipeline.commit(&rows).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.durable("timeline").await?;
    let context = async_nats::jetstream::new(async_nats::connect(sandbox().nats.url()).await?);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("traceparent", "00-not-a-context");
    let body = format!(r#"{{"forwarder":"*","audit_event_id":"{}","occurred_at":null}}"#, ids[0]);
    let subject = format!("{}.events", pipeline.name);
    context.publish_with_headers(subject, headers, body.into()).await?.await?;
    let spans = collector.spans(ids[0], 2).await?;
    assert!(spans[0].name.starts_with("process ") && spans[0].parent.is_none(), "{spans:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_was_given_up_and_the_next_one_are_in_one_trace() -> anyhow::Result<()> {
    let collector = Collector::default();
    let pipeline = Pipeline::with_settings(&collector.serve().await?).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    timeline.execute("begin; lock audit_actions in access exclusive mode").await?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    let (_publisher, mut consumer) = (pipeline.publisher()?, pipeline.consumer()?);
    // Not only delivered: what nobody has begun to process has no span.
    let waits = "select from pg_locks where relation = 'audit_actions'::regclass and not granted";
    wait::until_some("the delivery to wait for the table", DEADLINE, async || {
        Ok(timeline.fetch_optional(waits).await?.map(drop))
    })
    .await?;
    consumer.terminate(DEADLINE)?;
    let spans = collector.spans(ids[0], 2).await?;
    assert_eq!(spans[1].known["error.type"], "given_up", "{spans:?}");

    timeline.execute("rollback").await?;
    let _consumer = pipeline.consumer()?;
    let spans = collector.spans(ids[0], 4).await?;
    let [send, given_up, process, forward] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((given_up.parent, process.parent, forward.parent), (send.id, send.id, process.id));
    assert_eq!(process.known["audit.verdict"], "delivered");
    assert_eq!(process.known["audit.delivery"], "2");
    Ok(())
}
