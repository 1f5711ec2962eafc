//! What a test sees of a pipeline: its stream, its failures, and whether everything has arrived.

use async_nats::jetstream::{self, consumer::PullConsumer, stream::Stream};
use common::broker;
use sandbox::{fixture::audit_events, verdict::Verdict, wait};
use serde_json::Value;
use threadline::StorageSchema;

use crate::{DEADLINE, Pipeline, sandbox};

impl Pipeline {
    /// The durable of a forwarder, once a consumer has created it.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn durable(&self, forwarder: &str) -> anyhow::Result<PullConsumer> {
        let stream = self.stream().await?;
        let name = format!("forward-{forwarder}");
        wait::until_some("the durable", DEADLINE, async || Ok(stream.get_consumer(&name).await.ok())).await
    }

    /// Waits until nothing is pending for a forwarder, delivered or not.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn settled(&self, forwarder: &str) -> anyhow::Result<()> {
        let durable = self.durable(forwarder).await?;
        let last = self.stream().await?.cached_info().state.last_sequence;
        wait::until_some("everything to be settled", DEADLINE, async || {
            let info = durable.get_info().await?;
            let reached = info.ack_floor.stream_sequence >= last;
            Ok((info.num_ack_pending == 0 && info.num_pending == 0 && reached).then_some(()))
        })
        .await
    }

    /// Waits until no event has a failure. One whose forwarding has begun is on record until it has ended; one that has used an
    /// attempt is an error at once.
    ///
    /// # Errors
    /// With the failures; or after [`DEADLINE`].
    pub async fn charges_nobody(&self) -> anyhow::Result<()> {
        wait::until_some("no event to be in hand", DEADLINE, async || {
            let failures = self.failures().await?;
            let charged: Vec<&Value> = failures.iter().filter(|failure| failure["attempts"] != 0).collect();
            anyhow::ensure!(charged.is_empty(), "charged: {charged:?}");
            Ok(failures.is_empty().then_some(()))
        })
        .await
    }

    /// Waits until the stream has been given so many references. A message that is not there any more counts as one.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn references(&self, count: usize) -> anyhow::Result<()> {
        let stream = self.stream().await?;
        let (mut read, mut given) = (0, 0);
        wait::until_some(&format!("{count} references in the stream"), DEADLINE, async || {
            let last = stream.get_info().await?.state.last_sequence;
            for sequence in read + 1..=last {
                let message = stream.get_raw_message(sequence).await.ok();
                given += broker::references(message.as_ref().map(|message| &message.headers));
            }
            read = last;
            Ok((given >= count).then_some(()))
        })
        .await
    }

    /// JetStream of the broker, without a proxy that a test may have put before it.
    ///
    /// # Errors
    /// When it is away.
    pub async fn context(&self) -> anyhow::Result<jetstream::Context> {
        let server = self.own_nats.as_ref().map_or(&sandbox().nats, |own| &own.server);
        Ok(jetstream::new(async_nats::connect(server.url()).await?))
    }

    /// The stream, once the publisher or a consumer has created it.
    ///
    /// # Errors
    /// After [`DEADLINE`].
    pub async fn stream(&self) -> anyhow::Result<Stream> {
        let context = self.context().await?;
        wait::until_some("the stream", DEADLINE, async || Ok(context.get_stream(&self.name).await.ok())).await
    }

    /// Source against timeline.
    ///
    /// # Errors
    /// When a server refuses.
    pub async fn verdict(&self) -> anyhow::Result<Verdict> {
        let schema = StorageSchema::default();
        Verdict::compute(&self.source.url, &audit_events(), &self.timeline.url, &schema).await
    }

    /// How often the publisher has begun again from the start of the log; `None` before it has begun at all.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn generation(&self) -> anyhow::Result<Option<i32>> {
        let generation = "select max(generation) from outbox.rounds where reader = 'jetstream'";
        Ok(sqlx::query_scalar(generation).fetch_one(&mut self.source.connect().await?).await?)
    }

    /// Rows of `outbox.failures`, as JSON.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn failures(&self) -> anyhow::Result<Vec<Value>> {
        let mut connection = self.source.connect().await?;
        let rows = sqlx::query_scalar("select to_jsonb(f) from outbox.failures f order by forwarder, ref");
        Ok(rows.fetch_all(&mut connection).await?)
    }
}
