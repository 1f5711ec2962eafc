//! What the machine can do at best: the same bytes, without anything around them.

use async_nats::jetstream::{context::ContextBuilder, message::PublishMessage, stream};
use bytes::Bytes;
use common::{
    outbox::reader::{entries::Entry, rounds::Position},
    reference::{Reference, Target},
};
use futures::{StreamExt as _, TryStreamExt as _};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Bench, SEED_WITH_TIMELINE};
use crate::{environment::Environment, meter::Meter, results::Sample, verify};

const STREAM: &str = "BENCH_RAW";
const SUBJECT: &str = "bench.raw";

/// Publishes in flight, as the publisher's default settings have it.
const WINDOW: usize = 1_000;

/// Publishes the references of these ids with the publisher's client and headers, pipelined.
pub(super) async fn publish(
    environment: &Environment,
    ids: &[Uuid],
    variant: &str,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let client = async_nats::connect(environment.sandbox.nats.url()).await?;
    let context = ContextBuilder::new().max_ack_inflight(WINDOW * 2).build(client);
    context
        .create_stream(stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            storage: stream::StorageType::File,
            ..stream::Config::default()
        })
        .await?;
    let messages: Vec<(String, Bytes)> =
        ids.iter().map(|id| anyhow::Ok((id.to_string(), body(*id)?))).collect::<Result<_, _>>()?;
    let meter = Meter::begin(environment).await?;
    let stored = futures::stream::iter(messages)
        .map(|(id, body)| {
            let message = PublishMessage::build().payload(body).expected_stream(STREAM).message_id(id);
            let context = &context;
            async move { context.send_publish(SUBJECT, message).await?.await }
        })
        .buffered(WINDOW)
        .try_fold(0, async |stored, acknowledgement| Ok(stored + u64::from(!acknowledgement.duplicate)))
        .await?;
    let mut sample = meter.end("relay", variant, repeat).await?;
    sample.rows = stored;
    environment.delete_stream(STREAM).await;
    Ok(sample)
}

fn body(id: Uuid) -> anyhow::Result<Bytes> {
    let occurred_at = Some("2026-01-02T03:04:05.678901Z".to_owned());
    let entry = Entry {
        position: Position { xid: 0, seq: 0 },
        audit_event_id: Some(id),
        occurred_at: occurred_at.clone(),
        forwarder: None,
    };
    let (audit_event_id, forwarder) = entry.addressed().unwrap_or((id, Target::Every));
    Ok(serde_json::to_vec(&Reference { forwarder, audit_event_id, occurred_at })?.into())
}

/// One statement within one database: no network, no second process, nothing that could be repeated or lost.
pub(super) async fn insert_select(bench: &Bench<'_>, variant: &str, repeat: u32) -> anyhow::Result<Sample> {
    let url = bench.environment.source_like(SEED_WITH_TIMELINE).await?;
    let mut connection = PgConnection::connect(&url).await?;
    let meter = Meter::begin(bench.environment).await?;
    sqlx::query(
        r#"insert into public.audit_actions
             (id, name, actor_ref, status, verb, category, reason, correlation_id, request_id, inserted_at)
         select e.id, e.action,
                case when e.actor_id is null then '{"type": "anonymous"}'::jsonb
                     else jsonb_build_object('type', e.actor_type, 'id', e.actor_id) end,
                case e.outcome when 'success' then 'ok' else 'error' end,
                nullif(substr(e.action, length(split_part(e.action, '.', 1)) + 2), ''),
                split_part(e.action, '.', 1), e.metadata->>'reason', e.id::text, e.metadata->>'request_id',
                e.occurred_at at time zone 'UTC'
         from public.audit_events e"#,
    )
    .execute(&mut connection)
    .await?;
    let mut sample = meter.end("projection", variant, repeat).await?;
    connection.close().await?;
    verify::verify(&mut sample, &url, &url).await?;
    bench.environment.drop(&[&url]).await?;
    Ok(sample)
}
