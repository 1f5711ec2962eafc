//! Every field that servers up to 2.15 store of a stream and of a durable, and what it must be.

use serde_json::json;

use super::rules::{
    Field,
    Rule::{Absent, Any, AtLeast, Is, OneOf, Room, Unlimited},
    free, must, should,
};
use crate::settings::{BrokerSettings, ConsumerSettings};

/// How long one request for messages waits for them.
pub const PULL_EXPIRES: std::time::Duration = std::time::Duration::from_secs(1);

/// No reference with its headers is larger.
pub(super) const MESSAGE_MAX: i64 = 1_024;

/// Requests that wait at a time, one from each process.
const REQUESTS: i64 = 16;

pub(super) fn stream(settings: &BrokerSettings) -> Vec<Field> {
    let mut fields = vec![
        must("subjects", Is(json!([settings.subject])), "what else is published there is no reference"),
        // Limits with one limit: under work-queue retention the duplicate window forgets what has been acknowledged, and with
        // two limits a full stream may drop instead of refusing.
        must("retention", Is("limits".into()), "others drop what has not been read"),
        must("discard", Is("new".into()), "a full stream drops what has not been read"),
        must("storage", Is("file".into()), "a restart forgets everything"),
        must("max_age", Absent, "it drops what has not been read"),
        // A limit for each subject drops what is old whatever the policy: there is one subject.
        must("max_msgs_per_subject", Unlimited, "it drops what has not been read"),
        must("max_msgs", Unlimited, "with two limits a full stream may drop instead of refusing"),
        must("max_msg_size", Room(MESSAGE_MAX), "it refuses references"),
        must("discard_new_per_subject", Absent, "it refuses references"),
        must("no_ack", Absent, "nothing would be acknowledged"),
        must("sealed", Absent, "it refuses everything"),
        must("mirror", Absent, "it takes no references but another stream's"),
        must("sources", Absent, "it holds what another stream was given"),
        must("subject_transform", Absent, "references are stored under another subject"),
        must("allow_msg_counter", Absent, "it refuses what is no counter"),
        must("persist_mode", OneOf(&["default"]), "it acknowledges what is not on the disk"),
        must("consumer_limits.inactive_threshold", Absent, "durables are removed while their consumers rest"),
        should("republish", Absent, "every reference is published again, under another subject"),
        should("max_consumers", Unlimited, "it limits how many forwarders and replays there may be"),
    ];
    fields.extend(free([
        "name",
        "description",
        // Looked at with the source's identity, or as sizes.
        "max_bytes",
        "duplicate_window",
        "num_replicas",
        "deny_delete",
        "deny_purge",
        // An exceeded limit is reported when the durable is made.
        "consumer_limits",
        "allow_direct",
        "mirror_direct",
        "allow_rollup_hdrs",
        "allow_msg_ttl",
        "subject_delete_marker_ttl",
        "allow_atomic",
        "allow_batched",
        "allow_msg_schedules",
        "compression",
        "first_seq",
        "placement",
        "metadata",
        "template_owner",
    ]));
    fields
}

/// What a stream may have less of than the settings say.
pub(super) fn sizes(settings: &BrokerSettings) -> Vec<Field> {
    let window = i64::try_from(settings.duplicate_window.as_nanos()).unwrap_or(i64::MAX);
    let replicas = i64::try_from(settings.replicas).unwrap_or(i64::MAX);
    vec![
        should("max_bytes", Room(settings.max_bytes), ""),
        should("duplicate_window", AtLeast(window), ""),
        should("num_replicas", AtLeast(replicas), ""),
    ]
}

/// Fields of a durable by which it passes over messages, and settles them in passing: what they have made it skip is not delivered
/// when they are as they should be again.
pub(super) const SKIPPING: [&str; 5] =
    ["deliver_policy", "ack_policy", "max_deliver", "filter_subject", "filter_subjects"];

/// `ack_wait` and `max_ack_pending` are what a start sets again.
pub(super) fn durable(settings: &ConsumerSettings, replicas: usize) -> Vec<Field> {
    const PUSH: &str = "it is no pull consumer";
    const SKIPS: &str = "what it does not match is skipped for good";
    const REFUSES: &str = "it refuses requests for messages";
    let rows = i64::try_from(settings.batch_rows).unwrap_or(i64::MAX);
    let expires = i64::try_from(PULL_EXPIRES.as_nanos()).unwrap_or(i64::MAX);
    let replicas = i64::try_from(replicas).unwrap_or(1);
    let mut fields = vec![
        must("deliver_policy", OneOf(&["all", "by_start_sequence"]), "others skip what is in the stream"),
        must("ack_policy", Is("explicit".into()), "others settle what was not delivered"),
        must("max_deliver", Is((-1).into()), "the broker gives up"),
        must("filter_subject", Absent, SKIPS),
        must("filter_subjects", Absent, SKIPS),
        must("replay_policy", OneOf(&["instant"]), "it delivers as slowly as was published"),
        must("backoff", Absent, "it delivers again what is being processed"),
        must("headers_only", Absent, "it withholds the references"),
        must("max_batch", Room(rows), REFUSES),
        must("max_expires", Room(expires), REFUSES),
        must("max_bytes", Absent, REFUSES),
        must("inactive_threshold", Absent, "it is removed while its consumers rest"),
        must("mem_storage", Absent, "a restart of the server forgets it"),
        must("priority_groups", Absent, REFUSES),
        must("priority_policy", OneOf(&["none"]), REFUSES),
        must("priority_timeout", Absent, REFUSES),
        must("deliver_subject", Absent, PUSH),
        must("deliver_group", Absent, PUSH),
        must("flow_control", Absent, PUSH),
        must("idle_heartbeat", Absent, PUSH),
        must("rate_limit_bps", Absent, PUSH),
        should("max_waiting", AtLeast(REQUESTS), "more processes than that are refused"),
        should("num_replicas", Room(replicas), "it is gone with its server"),
    ];
    fields.extend(free([
        "ack_wait",
        "max_ack_pending",
        "name",
        "durable_name",
        "description",
        "opt_start_seq",
        "sample_freq",
        "metadata",
        "direct",
        // A pause is reported by itself.
        "pause_until",
    ]));
    debug_assert!(fields.iter().all(|field| field.rule != Any || field.why.is_empty()));
    fields
}
