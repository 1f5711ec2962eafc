//! Checks of the broker. They look, and neither create nor adjust anything.

mod durables;
mod refusals;
mod streams;

use async_nats::{Client, jetstream::stream::Stream};

pub use self::{refusals::record_error, streams::NEARLY_FULL};
use super::{BrokerError, connect, limits, reachable_subjects, stored, stream};
use crate::{
    doctor::{
        Problem, Report, Service,
        checks::{
            BROKER_REFUSES, BROKER_TOO_OLD, BROKER_TRIMS_SLOWLY, BROKER_UNREACHABLE, DURABLE_UNUSED,
            JETSTREAM_DISABLED, STREAM_FOREIGN, STREAM_MISSING, STREAM_NEARLY_FULL, STREAM_SINGLE_COPY,
            STREAM_SMALLER, STREAM_UNFIT, STREAM_UNTRIMMABLE, STREAM_UNUSUAL, SUBJECT_TAKEN,
        },
    },
    outbox::SourceIdentity,
    settings::{BrokerSettings, Settings},
};

/// The first server that may be requested to purge a stream behind its consumers: those before lose the record of every
/// delivered and unsettled message by it, and never deliver them again (nats-server, pull request 3892).
pub const PURGES: (i64, i64, i64) = (2, 9, 15);

/// The first server whose JetStream has what the pipeline uses.
const OLDEST: (i64, i64, i64) = (2, 9, 0);

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
        Err(error) => return record_error(report, &error),
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
            record_error(report, &error);
        }
        Ok(Some(stream)) => {
            report.record(STREAM_MISSING, None);
            if source.is_some() {
                report.record(STREAM_FOREIGN, None);
            }
            report.record(STREAM_UNFIT, None);
            if let Err(error) = stream::check_stream(&context, &settings.broker, source).await {
                record_error(report, &error);
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
                    "`publisher run` creates it on {subject}, if the server has {} bytes for it, which it does not report",
                    settings.broker.max_bytes
                ),
                (Some(_), Some(_)) => "fix what broker-refuses says first".to_owned(),
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
            report.record_result(SUBJECT_TAKEN, streams::taken(&context, &settings.broker).await);
            let copies = streams::single_copy(client, settings.broker.replicas, stream);
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
    report.record(
        STREAM_SINGLE_COPY,
        streams::single_copy(client, info.config.num_replicas, &info.config.name),
    );
    report.record(STREAM_SMALLER, streams::smaller(settings, info));
    report.record(STREAM_NEARLY_FULL, streams::nearly_full(info));
    report.record(STREAM_UNTRIMMABLE, streams::untrimmable(info, compatible(client, PURGES)));
    let context = super::context(client, &settings.broker);
    let name = &info.config.name;
    // What is unfit has been reported before.
    let unusual = stream::check_stream(&context, &settings.broker, None).await.ok().flatten();
    report.record(
        STREAM_UNUSUAL,
        unusual.unwrap_or_default().into_iter().map(|told| {
            Problem::new(
                format!("the stream {name}: {told}"),
                format!("run `nats stream edit {name}` if it is not needed"),
            )
        }),
    );
    let found = async {
        let found = stored::durables(&context, name).await?;
        Ok::<_, BrokerError>((found, stored::last_sequence(&context, name).await?))
    };
    match found.await {
        Ok((found, last_sequence)) => {
            durables::check(report, settings, service, &found, last_sequence);
            if !report.is_at_boot() {
                let purges = compatible(client, PURGES);
                reachable_subjects::check(report, settings, service, client, purges, &found).await;
            }
        }
        Err(error) => report.record_result(DURABLE_UNUSED, Err::<Option<Problem>, _>(error.to_string())),
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
                     forget what consumers have not settled"
                ),
                "install nats-server 2.9.15 or later",
            )
        });
        report.record(BROKER_TRIMS_SLOWLY, slow);
    }
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
