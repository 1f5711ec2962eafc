//! `publisher prune`: removes what every forwarder has settled from the log.

use anyhow::Context as _;
use common::{
    broker,
    outbox::{self, maintenance, reader::rounds::StreamPosition},
    process::console,
    settings::Settings,
};

use crate::{commands::APPLICATION, maintenance::lowest_ack_floor};

/// Removes what every forwarder is past.
///
/// # Errors
/// When a server is away.
pub(crate) async fn run(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let floor = floor(settings).await?;
    let pruned = maintenance::prune(&mut connection, floor, settings.relay.retention).await?;
    console::print(&if json {
        format!("{}\n", serde_json::json!({"pruned": pruned}))
    } else {
        format!("removed {pruned} entries\n")
    });
    Ok(())
}

/// The lowest floor on the stream; `None` without a broker, a stream or a forwarder on it.
async fn floor(settings: &Settings) -> anyhow::Result<Option<StreamPosition>> {
    if settings.broker.url.is_none() {
        return Ok(None);
    }
    let client = broker::connect(&settings.broker, APPLICATION).await?;
    let stream = broker::context(&client, &settings.broker)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot read the stream {}", settings.broker.stream))?;
    Ok(lowest_ack_floor(&broker::ack_floors(&stream).await?, stream.cached_info().created))
}
