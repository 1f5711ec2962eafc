//! What a doctor finds in the stream itself.

use async_nats::{
    Client,
    jetstream::{Context, context::GetStreamByNameErrorKind, stream::Info},
};

use super::super::stream;
use crate::{
    doctor::Problem,
    settings::{BrokerSettings, Settings},
};

/// Above this share of its size limit a stream is trimmed to the floor, replay window or not.
pub const NEARLY_FULL: f64 = 0.8;

/// Whether another stream takes our subject, so that ours could not be created.
pub(super) async fn taken(context: &Context, settings: &BrokerSettings) -> Result<Option<Problem>, String> {
    match context.stream_by_subject(&settings.subject).await {
        Ok(other) => Ok(Some(Problem::new(
            format!(
                "the stream {other} takes the subject {}: {} cannot be created",
                settings.subject, settings.stream
            ),
            "set broker.subject to a subject that no stream takes, or broker.stream to that stream if it is meant",
        ))),
        Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn single_copy(client: &Client, replicas: usize, stream: &str) -> Option<Problem> {
    let cluster = client.server_info().cluster.filter(|name| !name.is_empty())?;
    (replicas == 1).then(|| {
        Problem::new(
            format!(
                "the stream {stream} has one copy in the cluster {cluster}: when its server is away, nothing is \
                 delivered, and when its disk is lost, the stream is filled again from the log"
            ),
            format!("run `nats stream edit {stream} --replicas 3`, and set broker.replicas = 3"),
        )
    })
}

pub(super) fn smaller(settings: &Settings, info: &Info) -> Option<Problem> {
    let differences = stream::smaller(&settings.broker, &info.config)?;
    Some(Problem::new(
        format!("the stream {} is smaller than the settings: {differences}", info.config.name),
        "change the stream with `nats stream edit`, or the [broker] settings to match it",
    ))
}

pub(super) fn nearly_full(info: &Info) -> Option<Problem> {
    #[expect(clippy::cast_precision_loss, reason = "a share, for people and a threshold")]
    let full = info.state.bytes as f64 / info.config.max_bytes.max(1) as f64;
    (info.config.max_bytes > 0 && full > NEARLY_FULL).then(|| {
        Problem::new(
            format!(
                "the stream {} holds {} of {} bytes ({:.0} %): once it is full, the log waits",
                info.config.name,
                info.state.bytes,
                info.config.max_bytes,
                full * 100.0
            ),
            "see which forwarder is behind (`consumer status`), or raise broker.max_bytes and the stream's with `nats \
             stream edit`",
        )
    })
}

/// The server is requested to purge, or to delete one by one.
pub(super) fn untrimmable(info: &Info, purges: bool) -> Option<Problem> {
    let denied = if purges { info.config.deny_purge } else { info.config.deny_delete };
    denied.then(|| {
        Problem::new(
            format!(
                "the stream {} forbids it (deny_delete {}, deny_purge {}): what is delivered stays in it until it is full",
                info.config.name, info.config.deny_delete, info.config.deny_purge
            ),
            "recreate the stream without these two, which cannot be taken back: `nats stream rm`, and `publisher run` \
             fills it again",
        )
    })
}
