//! Checks of the broker. They look, and neither create nor adjust anything.

use async_nats::{
    Client,
    jetstream::{
        Context,
        context::GetStreamByNameErrorKind,
        stream::{Info, Stream},
    },
};
use humantime::format_duration;

use super::{
    BrokerError, connect, durable, hearing, limits,
    stored::{self, Stored},
    stream,
};
use crate::{
    doctor::{
        Check, Problem, Report, Service,
        checks::{
            BROKER_REFUSES, BROKER_TOO_OLD, BROKER_TRIMS_SLOWLY, BROKER_UNREACHABLE, DURABLE_DIFFERS,
            DURABLE_PAUSED, DURABLE_UNFIT, DURABLE_UNUSED, DURABLE_UNUSUAL, JETSTREAM_DISABLED,
            STREAM_FOREIGN, STREAM_MISSING, STREAM_NEARLY_FULL, STREAM_SINGLE_COPY, STREAM_SMALLER,
            STREAM_UNFIT, STREAM_UNTRIMMABLE, STREAM_UNUSUAL, SUBJECT_TAKEN,
        },
    },
    identifier::ForwarderId,
    outbox::SourceIdentity,
    settings::{BrokerSettings, ConsumerSettings, ForwarderSettings, Settings},
};

/// The first server that may be told to purge a stream behind its consumers: those before lose the record of every
/// delivered and unsettled message by it, and never deliver them again (nats-server, pull request 3892).
pub const PURGES: (i64, i64, i64) = (2, 9, 15);

/// The first server whose JetStream has what the pipeline uses.
const OLDEST: (i64, i64, i64) = (2, 9, 0);

/// Above this share of its size limit a stream is trimmed to the floor, replay window or not.
pub const NEARLY_FULL: f64 = 0.8;

/// Connects and makes all checks of the broker, for a doctor's command.
pub async fn connect_and_check(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    name: &str,
    source: Option<&SourceIdentity>,
) {
    let client = match connect(&settings.broker, name).await {
        Ok(client) => client,
        Err(error) => return refuse(report, &error),
    };
    report.record(BROKER_UNREACHABLE, None);
    connect_and_read(report, settings, service, &client, source).await;
}

/// Makes all checks that a connected client can, without creating anything.
pub async fn connect_and_read(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    client: &Client,
    source: Option<&SourceIdentity>,
) {
    let context = super::context(client, &settings.broker);
    match stream::find_stream(&context, &settings.broker).await {
        Err(error) => {
            version(report, service, &client.server_info().version, |oldest| compatible(client, oldest));
            refuse(report, &error);
        }
        Ok(Some(stream)) => {
            report.record(STREAM_MISSING, None);
            if source.is_some() {
                report.record(STREAM_FOREIGN, None);
            }
            report.record(STREAM_UNFIT, None);
            if let Err(error) = stream::check_stream(&context, &settings.broker, source).await {
                refuse(report, &error);
            }
            check(report, settings, service, client, &stream).await;
        }
        Ok(None) => {
            version(report, service, &client.server_info().version, |oldest| compatible(client, oldest));
            report.record(JETSTREAM_DISABLED, None);
            if report.is_at_boot() {
                return;
            }
            let BrokerSettings { stream, subject, .. } = &settings.broker;
            let account = limits::account(&context).await;
            let refused = account.as_ref().map(|account| limits::foreseen(client, &settings.broker, account));
            let creates = match (&account, refused.as_deref()) {
                (Some(account), Some([])) if account.storage_max().is_some() => {
                    format!("`publisher run` creates it on {subject}; nothing else is to be done")
                }
                (Some(_), Some([])) => format!(
                    "`publisher run` creates it on {subject}, if the server has {} bytes for it, which it does not tell",
                    settings.broker.max_bytes
                ),
                (Some(_), Some(_)) => "mend what broker-refuses says first".to_owned(),
                _ => format!(
                    "`publisher run` creates it on {subject}; this user may not ask for the limits of its account"
                ),
            };
            report.record(STREAM_MISSING, [Problem::new(format!("there is no stream {stream}"), creates)]);
            if let Some(refused) = refused {
                report.record(
                    BROKER_REFUSES,
                    refused.into_iter().map(|(what, remedy)| Problem::new(what, remedy)),
                );
            }
            report.record_result(SUBJECT_TAKEN, taken(&context, &settings.broker).await);
            let copies = single_copy(client, settings.broker.replicas, stream);
            report.record(STREAM_SINGLE_COPY, copies);
        }
    }
}

/// Checks a stream that has been found and compared.
pub async fn check(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    client: &Client,
    stream: &Stream,
) {
    version(report, service, &client.server_info().version, |oldest| compatible(client, oldest));
    report.record(JETSTREAM_DISABLED, None);
    let info = stream.cached_info();
    report.record(STREAM_SINGLE_COPY, single_copy(client, info.config.num_replicas, &info.config.name));
    report.record(STREAM_SMALLER, smaller(settings, info));
    report.record(STREAM_NEARLY_FULL, nearly_full(info));
    report.record(STREAM_UNTRIMMABLE, untrimmable(info, compatible(client, PURGES)));
    let context = super::context(client, &settings.broker);
    let name = &info.config.name;
    // What is unfit has been told of before.
    let unusual = stream::check_stream(&context, &settings.broker, None).await.ok().flatten();
    report.record(
        STREAM_UNUSUAL,
        unusual.unwrap_or_default().into_iter().map(|told| {
            Problem::new(
                format!("the stream {name}: {told}"),
                format!("run `nats stream edit {name}` if nobody needs it"),
            )
        }),
    );
    let found = async {
        let found = stored::durables(&context, name).await?;
        Ok::<_, BrokerError>((found, stored::last_sequence(&context, name).await?))
    };
    match found.await {
        Ok((found, last_sequence)) => {
            durables(report, settings, service, &found, last_sequence);
            if !report.is_at_boot() {
                let purges = compatible(client, PURGES);
                hearing::check(report, settings, service, client, purges, &found).await;
            }
        }
        Err(error) => report.record_result(DURABLE_UNUSED, Err::<Option<Problem>, _>(error.to_string())),
    }
}

/// Enters what keeps the broker from being used, under its own name.
pub fn refuse(report: &mut Report, error: &BrokerError) {
    let (check, trouble) = finding(error);
    report.record(check, [trouble]);
}

fn finding(error: &BrokerError) -> (&'static Check, Problem) {
    match error {
        BrokerError::NotConfigured => (
            BROKER_UNREACHABLE,
            Problem::new("no broker is configured", "set broker.url in the settings file, or NATS_URL"),
        ),
        BrokerError::Connect { url, error } => (
            BROKER_UNREACHABLE,
            Problem::new(
                format!("cannot connect to NATS at {url}: {error}"),
                "set broker.url or NATS_URL to where the server runs, start it, and see that its credentials match",
            ),
        ),
        BrokerError::Url(_) => (
            BROKER_UNREACHABLE,
            Problem::new(error.to_string(), "set broker.url or NATS_URL to where the server runs"),
        ),
        BrokerError::File { key, path, error } => (
            BROKER_UNREACHABLE,
            Problem::new(
                format!("{key} cannot be used: {path}: {error}"),
                format!("set {key} to such a file that this user may read"),
            ),
        ),
        BrokerError::NoJetStream { error, remedy } => (
            JETSTREAM_DISABLED,
            Problem::new(
                format!("the NATS server has no JetStream for this client: {error}"),
                remedy.clone(),
            ),
        ),
        BrokerError::Call { call, error } => (
            BROKER_UNREACHABLE,
            Problem::new(
                format!("the broker does not answer as it should: JetStream {call}: {error}"),
                "see what the server's own log says; who may not ask is not answered either (deploy/nats)",
            ),
        ),
        // One name for it, whoever finds it.
        BrokerError::Refused { code: 10_065, words, remedy, .. } => {
            (SUBJECT_TAKEN, Problem::new(words, remedy))
        }
        BrokerError::Refused { call, words, remedy, .. } => (
            BROKER_REFUSES,
            Problem::new(format!("the broker answers, and refuses to {call}: {words}"), remedy.clone()),
        ),
        BrokerError::Incompatible { what, differences, remedy, .. } => {
            let check = if what.starts_with("stream ") { STREAM_UNFIT } else { DURABLE_UNFIT };
            (check, Problem::new(format!("{what} does not fit: {differences}"), remedy.clone()))
        }
        BrokerError::ForeignStream { stream, theirs, ours } => (
            STREAM_FOREIGN,
            Problem::new(
                format!(
                    "stream {stream} carries references of another source ({theirs}; this one is {ours}): two sources \
                     must not share a stream"
                ),
                "set broker.stream and broker.subject to names of their own; or, if this is the same source \
                 restored into another cluster, or under a new source.name, run `publisher rebase`",
            ),
        ),
    }
}

fn compatible(client: &Client, (major, minor, patch): (i64, i64, i64)) -> bool {
    client.is_server_compatible(major, minor, patch)
}

fn version(report: &mut Report, service: Service, version: &str, reaches: impl Fn((i64, i64, i64)) -> bool) {
    let old = (!reaches(OLDEST)).then(|| {
        Problem::new(
            format!("nats-server is {version}, whose JetStream lacks what the pipeline uses"),
            "install nats-server 2.9 or later",
        )
    });
    report.record(BROKER_TOO_OLD, old);
    if service == Service::Publisher && !report.is_at_boot() {
        let slow = (!reaches(PURGES)).then(|| {
            Problem::new(
                format!(
                    "nats-server is {version}: the stream is trimmed message by message, because a purge would make it \
                     forget what consumers have in hand"
                ),
                "install nats-server 2.9.15 or later",
            )
        });
        report.record(BROKER_TRIMS_SLOWLY, slow);
    }
}

/// Whether another stream takes our subject, so that ours could not be created.
async fn taken(context: &Context, settings: &BrokerSettings) -> Result<Option<Problem>, String> {
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

fn single_copy(client: &Client, replicas: usize, stream: &str) -> Option<Problem> {
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

fn smaller(settings: &Settings, info: &Info) -> Option<Problem> {
    let differences = stream::smaller(&settings.broker, &info.config)?;
    Some(Problem::new(
        format!("the stream {} is smaller than the settings: {differences}", info.config.name),
        "change the stream with `nats stream edit`, or the [broker] settings to match it",
    ))
}

fn nearly_full(info: &Info) -> Option<Problem> {
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

/// A server is asked to purge, or to delete one by one.
fn untrimmable(info: &Info, purges: bool) -> Option<Problem> {
    let denied = if purges { info.config.deny_purge } else { info.config.deny_delete };
    denied.then(|| {
        Problem::new(
            format!(
                "the stream {} forbids it (deny_delete {}, deny_purge {}): what is delivered stays in it until it is full",
                info.config.name, info.config.deny_delete, info.config.deny_purge
            ),
            "create the stream anew without these two, which cannot be taken back: `nats stream rm`, and `publisher run` \
             fills it again",
        )
    })
}

/// Durables that bear the name of a forwarder; other people's consumers are their own affair.
fn durables(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    found: &[Stored],
    last_sequence: u64,
) {
    let id = |found: &Stored| found.name().strip_prefix(durable::PREFIX)?.parse::<ForwarderId>().ok();
    let ours: Vec<(ForwarderId, &Stored)> =
        found.iter().filter_map(|found| Some((id(found)?, found))).collect();
    let (used, unused): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|(id, _)| settings.forwarder.iter().any(|forwarder| forwarder.id == *id));
    report.record(DURABLE_UNUSED, unused.into_iter().map(|(id, found)| {
        Problem::new(
            format!(
                "the durable {} belongs to a forwarder that is not configured ({} references wait for it): it holds back \
                 the trimming of the stream, the pruning of the log and outbox.safe_before() for ever",
                found.name(),
                found.number("num_pending") + found.number("num_ack_pending")
            ),
            unused_remedy(&id, found.number("num_pending") + found.number("num_ack_pending")),
        )
    }));
    report.record(DURABLE_PAUSED, used.iter().filter_map(|(_, found)| paused(found)));
    if service == Service::Publisher {
        return;
    }
    report.record(DURABLE_UNFIT, None);
    let mut differing = Vec::new();
    let mut unusual = Vec::new();
    for (_, found) in used {
        let name = found.name();
        // What the next start of a consumer sets is no fault.
        differing.extend(differs(name, &settings.consumer, found));
        match durable::compare(name, &settings.consumer, settings.broker.replicas, found, last_sequence) {
            Ok(told) => unusual.extend(told.into_iter().map(|told| {
                let stream = &settings.broker.stream;
                let remedy = format!("run `nats consumer edit {stream} {name}` if nobody needs it");
                Problem::new(format!("the durable {name}: {told}"), remedy)
            })),
            Err(error) => refuse(report, &error),
        }
    }
    report.record(DURABLE_UNUSUAL, unusual);
    if !report.is_at_boot() {
        report.record(DURABLE_DIFFERS, differing);
    }
}

/// Work is not to be lost to a file in which a forwarder was forgotten, above all the one that is there when none is written.
fn unused_remedy(id: &ForwarderId, waiting: u64) -> String {
    let ours = ForwarderSettings::timeline();
    let kind = if *id == ours.id { ours.kind } else { "…".to_owned() };
    if waiting == 0 {
        return format!(
            "if no consumer has it in its settings any more, run `consumer drop-durable {id} --reason …`"
        );
    }
    format!(
        "to keep it, write it into the settings of a consumer beside the others: [[forwarder]] id = \"{id}\" kind = \"{kind}\" (the \
         forwarder timeline is there by itself only while no [[forwarder]] is written); what waits is then delivered. If it is \
         not to be, see `consumer drop-durable --help`"
    )
}

fn paused(found: &Stored) -> Option<Problem> {
    let until = found.paused_until()?;
    Some(Problem::new(
        format!(
            "the durable {} is paused until {until}: nothing is delivered to its forwarder before ({} references wait)",
            found.name(),
            found.number("num_pending")
        ),
        "run `nats consumer resume` once what it was paused for is over",
    ))
}

fn differs(name: &str, settings: &ConsumerSettings, found: &Stored) -> Option<Problem> {
    (!durable::has_limits_of(found, settings)).then(|| {
        Problem::new(
            format!(
                "the durable {name} has ack_wait {} and max_ack_pending {}, the settings {} and {}",
                format_duration(found.duration("ack_wait")),
                found.config.get("max_ack_pending").unwrap_or(&0.into()),
                format_duration(settings.ack_wait),
                settings.max_ack_pending
            ),
            "start every consumer with the same settings: the last one that starts decides",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::RunMode;

    #[test]
    fn servers_that_are_too_old_and_those_that_trim_slowly_are_told_apart() {
        let found = |server: (i64, i64, i64)| {
            let mut report = Report::new(RunMode::Command);
            version(&mut report, Service::Publisher, "2.x", |oldest| server >= oldest);
            report.findings().iter().map(|finding| finding.name).collect::<Vec<_>>()
        };
        assert_eq!(found((2, 8, 4)), ["broker-too-old", "broker-trims-slowly"]);
        assert_eq!(found((2, 9, 10)), ["broker-trims-slowly"]);
        assert!(found((2, 9, 15)).is_empty());
    }
}
