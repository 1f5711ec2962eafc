//! How far a forwarder has certainly come: what lies behind must have arrived, what lies ahead is on its way.

use anyhow::Context as _;
use async_nats::jetstream::Context as JetStream;
use common::{
    broker::{self, microseconds},
    identifier::ForwarderId,
    outbox::{
        maintenance::retention,
        reader::{
            readers,
            rounds::{STREAM_READER, StreamPosition},
            snapshot::Snapshot,
        },
        reconcile_cursor,
    },
    session::Session,
    settings::{ForwarderSettings, Settings},
};

use crate::{APPLICATION, dispatch_mode::DispatchMode};

/// How far one forwarder has settled, by its durable or its own reader.
#[derive(Debug, Clone)]
pub(crate) struct SettledWatermark {
    reader: String,
    stream: Option<DurableRef>,
}

/// The forwarder's durable on the stream.
#[derive(Debug, Clone)]
struct DurableRef {
    context: JetStream,
    stream: String,
    durable: String,
}

impl SettledWatermark {
    /// Of a forwarder whose dispatch mode the settings decide.
    ///
    /// # Errors
    /// When it leads through a broker that is away.
    pub(crate) async fn of(forwarder: &ForwarderSettings, settings: &Settings) -> anyhow::Result<Self> {
        match DispatchMode::choose(forwarder, &settings.broker) {
            Some(DispatchMode::Direct) => Ok(Self::direct(&forwarder.id)),
            None | Some(DispatchMode::JetStream) => {
                let client = broker::connect(&settings.broker, APPLICATION).await?;
                Ok(Self::jetstream(
                    &forwarder.id,
                    broker::context(&client, &settings.broker),
                    &settings.broker.stream,
                ))
            }
        }
    }

    /// Straight from the log.
    pub(crate) fn direct(id: &ForwarderId) -> Self {
        Self { reader: readers::reader_name(id), stream: None }
    }

    /// Through the stream.
    pub(crate) fn jetstream(id: &ForwarderId, context: JetStream, stream: &str) -> Self {
        let durable = DurableRef { context, stream: stream.to_owned(), durable: broker::durable_name(id) };
        Self { reader: STREAM_READER.to_owned(), stream: Some(durable) }
    }

    /// Everything visible in the answer has been settled; `None` when nothing is known to be.
    ///
    /// # Errors
    /// When a server is away.
    pub(crate) async fn settled(&self, connection: &mut Session) -> anyhow::Result<Option<Snapshot>> {
        // Read first: a rewind between the two statements gives sequences another meaning.
        let generation = retention::generation(connection, &self.reader).await?;
        let floor = match &self.stream {
            None => None,
            Some(durable) => match durable.floor().await? {
                Some(floor) => Some(floor),
                None => return Ok(None),
            },
        };
        Ok(reconcile_cursor::settled(connection, &self.reader, generation, floor).await?)
    }
}

impl DurableRef {
    async fn floor(&self) -> anyhow::Result<Option<StreamPosition>> {
        let stream = match self.context.get_stream(&self.stream).await {
            Ok(stream) => stream,
            Err(error) if broker::is_not_found(&error.kind()) => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the stream {}", self.stream));
            }
        };
        let created = microseconds(stream.cached_info().created);
        let floors = broker::ack_floors(&stream).await?;
        let floor = floors.into_iter().find(|floor| floor.durable == self.durable);
        Ok(floor.map(|floor| StreamPosition { created, sequence: floor.sequence }))
    }
}
