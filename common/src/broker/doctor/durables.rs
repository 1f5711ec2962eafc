//! What a doctor finds in the durables of the stream.

use humantime::format_duration;

use super::{
    super::{durable, stored::Stored},
    record_error,
};
use crate::{
    doctor::{
        Problem, Report, Service,
        checks::{DURABLE_DIFFERS, DURABLE_PAUSED, DURABLE_UNFIT, DURABLE_UNUSED, DURABLE_UNUSUAL},
    },
    identifier::ForwarderId,
    settings::{ConsumerSettings, ForwarderSettings, Settings},
};

/// Durables that bear the name of a forwarder; other people's consumers are their own affair.
pub(super) fn check(
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
                "the durable {} belongs to a forwarder that is not configured ({} messages wait for it): it holds back \
                 the trimming of the stream, the pruning of the log and outbox.safe_before() permanently",
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
                let remedy = format!("run `nats consumer edit {stream} {name}` if it is not needed");
                Problem::new(format!("the durable {name}: {told}"), remedy)
            })),
            Err(error) => record_error(report, &error),
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
        "to keep it, add it to the settings of a consumer: [[forwarder]] id = \"{id}\" kind = \"{kind}\" (the \
         forwarder timeline is there by itself only while no [[forwarder]] is written); what waits is then delivered. If it is \
         not to be, see `consumer drop-durable --help`"
    )
}

fn paused(found: &Stored) -> Option<Problem> {
    let until = found.paused_until()?;
    Some(Problem::new(
        format!(
            "the durable {} is paused until {until}: nothing is delivered to its forwarder before ({} messages wait)",
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
