//! What keeps the broker from being used, as a finding.

use super::super::{BrokerError, BrokerObject};
use crate::doctor::{
    Check, Problem, Report,
    checks::{
        BROKER_REFUSES, BROKER_UNREACHABLE, DURABLE_UNFIT, JETSTREAM_DISABLED, STREAM_FOREIGN, STREAM_UNFIT,
        SUBJECT_TAKEN,
    },
};

/// Records what keeps the broker from being used, as the check that it belongs to.
pub fn record_error(report: &mut Report, error: &BrokerError) {
    let (check, problem) = finding(error);
    report.record(check, [problem]);
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
        // One name for it in both services.
        BrokerError::Refused { code: 10_065, words, remedy, .. } => {
            (SUBJECT_TAKEN, Problem::new(words, remedy))
        }
        BrokerError::Refused { call, words, remedy, .. } => (
            BROKER_REFUSES,
            Problem::new(format!("the broker answers, and refuses to {call}: {words}"), remedy.clone()),
        ),
        BrokerError::Incompatible { object, differences, remedy, .. } => {
            let check = match object {
                BrokerObject::Stream(_) => STREAM_UNFIT,
                BrokerObject::Durable(_) => DURABLE_UNFIT,
            };
            (check, Problem::new(format!("{object} does not fit: {differences}"), remedy.clone()))
        }
        BrokerError::ForeignStream { stream, theirs, ours } => (
            STREAM_FOREIGN,
            Problem::new(
                format!(
                    "stream {stream} holds references of another source ({theirs}; this one is {ours}): two sources \
                     must not share a stream"
                ),
                "set broker.stream and broker.subject to names of their own; or, if this is the same source \
                 restored into another cluster, or under a new source.name, run `publisher rebase`",
            ),
        ),
    }
}
