//! `consumer drop-durable`: removes a forwarder's durable.

use anyhow::{Context as _, ensure};
use common::{
    broker,
    identifier::ForwarderId,
    outbox::{self, forwarders},
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    settings::{Settings, UsageError},
};

use crate::APPLICATION;

/// Removes the durable of a forwarder that is out of use, and records why.
///
/// # Errors
/// When a process may still pull from it, there is no such durable, or a server is away; nothing is half done.
pub(crate) async fn drop(
    settings: &Settings,
    id: &ForwarderId,
    lose_work: bool,
    reason: &str,
) -> anyhow::Result<()> {
    ensure!(
        !settings.forwarder.iter().any(|forwarder| forwarder.id == *id),
        UsageError(format!(
            "forwarder {id} is in use by these settings: remove it from those of every consumer first. A durable that is made \
             again begins with what the stream still holds"
        ))
    );
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let client = broker::connect(&settings.broker, APPLICATION).await?;
    let stream = broker::find_stream(&broker::context(&client, &settings.broker), &settings.broker)
        .await?
        .with_context(|| format!("there is no stream {}", settings.broker.stream))?;
    let durable = broker::durable_name(id);
    ensure!(
        broker::ack_floors(&stream).await?.iter().any(|floor| floor.durable == durable),
        "there is no durable {durable}: `consumer doctor` names those that are out of use"
    );
    let info = stream.consumer_info(&durable).await.with_context(|| format!("cannot read {durable}"))?;
    ensure!(info.num_waiting == 0, "some process pulls from {durable} now: stop it first");
    let filter = format!("durable {durable} of stream {}", settings.broker.stream);
    let count = info.num_pending + info.num_ack_pending as u64;
    ensure!(
        lose_work || count == 0,
        "{count} message(s) wait for forwarder {id}: write its [[forwarder]] into the settings again, so that they are \
         delivered; or, if they are not to be, repeat this with --lose-work"
    );
    let mut transaction = connection.begin().await?;
    let action = OperatorAction {
        actor: &operator_log::operator(),
        kind: ActionKind::DropDurable,
        filter: &filter,
        count,
        reason: Some(reason),
    };
    operator_log::record(&mut transaction, &action).await?;
    forwarders::drop(&mut transaction, id.as_str()).await?;
    // Between the record and its commit: without the one there is not to be the other.
    broker::remove_durable(&stream, &durable).await?;
    transaction.commit().await?;
    console::print(&format!("the durable {durable} was removed, {count} message(s) had not been settled\n"));
    Ok(())
}
