//! Every metric and every event name. `docs/metrics.md` lists the same; a test compares.

use std::fmt::Write as _;

use metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram};

/// What kind of metric a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A level.
    Gauge,
    /// A distribution, with its own count and sum.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name in the exposition.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Label names, separated by commas.
    pub labels: &'static str,
    /// What it says, with the unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All of them, in the order of the documentation.
        pub const ALL: &[Metric] =
            &[$(Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help },)*];
    };
}

metrics! {
    RELAY_LEADER = Gauge "audit_relay_leader" ["reader"]
        "1 while this process holds the lease and reads the log, else 0.";
    RELAY_ROUNDS = Counter "audit_relay_rounds_total" ["reader"]
        "Rounds begun.";
    RELAY_ENTRIES = Counter "audit_relay_entries_total" ["reader"]
        "Entries handed to the sink and acknowledged by it.";
    RELAY_FENCED = Counter "audit_relay_fenced_total" ["reader"]
        "Rounds that another relay took first; harmless, but more than a few mean two leaders.";
    PUBLISH_SENT = Counter "audit_publish_sent_total" [""]
        "References sent to the broker, repeats included.";
    PUBLISH_MESSAGES = Counter "audit_publish_messages_total" [""]
        "Messages sent to the broker, repeats included; one holds up to 256 references.";
    PUBLISH_DUPLICATES = Counter "audit_publish_duplicates_total" [""]
        "References that the broker had stored already.";
    PUBLISH_UNKNOWN = Counter "audit_publish_unknown_total" [""]
        "References whose publish has an unknown outcome and was sent again under the same id.";
    PUBLISH_FOREIGN = Counter "audit_publish_foreign_total" [""]
        "Messages in the stream between this leader's own that it did not publish: another process does.";
    CAPTURE_ATTACHED = Gauge "audit_capture_attached" [""]
        "1 while every inserted row is captured once and no missed row is missing from the log, else 0.";
    CAPTURE_MISSED = Gauge "audit_capture_missed_rows" [""]
        "Rows that were missed while the columns of their table did not fit, and have not been entered by a backfill since; counted up to 10,000.";
    RETENTION_AT_RISK = Gauge "audit_retention_at_risk_rows" [""]
        "Audit rows not delivered everywhere that the application is about to delete, by the settings of its retention.";
    OUTBOX_PRUNED = Counter "audit_outbox_pruned_total" [""]
        "Entries removed from the log behind every forwarder.";
    STREAM_TRIMMED = Counter "audit_stream_trimmed_total" [""]
        "Messages purged from the stream behind every forwarder.";
    STREAM_BYTES = Gauge "audit_stream_bytes" [""]
        "Bytes the stream holds.";
    STREAM_FULL_RATIO = Gauge "audit_stream_full_ratio" [""]
        "Bytes the stream holds over its limit, 0 to 1.";
    FORWARD_EVENTS = Counter "audit_forward_events_total" ["forwarder,verdict"]
        "Events and messages settled: delivered, retry, dead, discarded; left: those that have their dead letter already, and those without a row that all forwarders had settled or that are older than the forwarder.";
    FORWARD_PENDING = Gauge "audit_forward_pending" ["forwarder"]
        "Messages in the stream that have not been delivered to this forwarder yet, read every five seconds; one holds up to 256 references.";
    FORWARD_UNSETTLED = Gauge "audit_forward_unsettled" ["forwarder"]
        "Messages delivered to some process of this forwarder and not settled yet, read every five seconds.";
    FORWARD_ERRORS = Counter "audit_forward_errors_total" ["forwarder,kind"]
        "Failed attempts by kind: error, panic, timeout, crash.";
    FORWARD_SECONDS = Histogram "audit_forward_seconds" ["forwarder"]
        "Time a forwarder took for one batch.";
    FORWARD_BATCH_ROWS = Histogram "audit_forward_batch_rows" ["forwarder"]
        "References in one batch.";
    FORWARD_LAG_SECONDS = Histogram "audit_forward_lag_seconds" ["forwarder"]
        "From the broker's storing of a batch's oldest message to its delivery. Two clocks: clipped at 0.";
    FORWARD_REDELIVERED = Counter "audit_forward_redelivered_total" ["forwarder"]
        "References that the broker delivered more than once.";
    FORWARD_ALREADY = Counter "audit_forward_already_delivered_total" ["forwarder"]
        "Events that the target held already: redelivery without effect.";
    FORWARD_UNKNOWN_OUTCOMES = Counter "audit_forward_unknown_outcomes_total" [""]
        "Events whose outcome is none of success, failure, error; the profile decides their status.";
    RECONCILE_CHECKED = Counter "audit_reconcile_checked_total" ["forwarder"]
        "Settled entries of the log that the continuous reconciliation has looked for in the timeline.";
    RECONCILE_MISSING = Gauge "audit_reconcile_missing_rows" ["forwarder"]
        "Settled events that the last look found neither in the timeline nor among the failures, and did not repair.";
    RECONCILE_REPAIRED = Counter "audit_reconcile_repaired_total" ["forwarder"]
        "Settled events that were found missing and entered the log again.";
    OPERATOR_REQUESTS = Counter "audit_operator_requests_total" ["status"]
        "Requests to the operator surface, by the class of their answer: 2xx to 5xx.";
    OPERATOR_SECONDS = Histogram "audit_operator_request_seconds" ["page"]
        "Time to the answer of a request to the operator surface, by the route; of what is streamed, to its beginning.";
    OPERATOR_REFUSED = Counter "audit_operator_refused_total" ["reason"]
        "Requests to threadline-serve of whose sender nothing could be verified, or too little, by the reason.";
    OLDEST_WORK_SECONDS = Gauge "audit_oldest_work_seconds" ["component"]
        "Age of a component's oldest unfinished page or batch; 0 when everything is done.";
    DEPENDENCY_WAITING = Gauge "audit_dependency_waiting" ["component"]
        "1 while this component waits for a server that is away, else 0; /readyz says which.";
}

/// Tracing event of a delivery, at level debug.
pub const FORWARD_OK: &str = "sigra.audit.forward.ok";
/// Tracing event of a failed attempt at one event.
pub const FORWARD_ERROR: &str = "sigra.audit.forward.error";

/// Tells the recorder what each metric means.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

/// What becomes of an event, in the label `verdict`.
pub const VERDICTS: [&str; 5] = ["delivered", "retry", "dead", "discarded", "left"];

/// Shows the counters whose names begin like this at zero, for all values of their labels that are known: what looks at an
/// increase sees the first.
pub fn begin(prefixes: &[&str], known: &[(&str, &[&str])]) {
    let counters = ALL.iter().filter(|metric| metric.kind == Kind::Counter);
    for metric in counters.filter(|metric| prefixes.iter().any(|prefix| metric.name.starts_with(prefix))) {
        let labels: Vec<&'static str> = metric.labels.split(',').filter(|label| !label.is_empty()).collect();
        let values = |label: &str| known.iter().find(|(name, _)| *name == label).map(|(_, values)| *values);
        let mut combinations = vec![Vec::new()];
        for label in labels {
            let values = values(label).unwrap_or_default();
            combinations = combinations
                .iter()
                .flat_map(|before: &Vec<Label>| {
                    values.iter().map(|value| {
                        before.iter().cloned().chain([Label::new(label, (*value).to_owned())]).collect()
                    })
                })
                .collect();
        }
        for labels in combinations {
            counter!(metric.name, labels).increment(0);
        }
    }
}

/// The table of `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, help } in ALL {
        let kind = format!("{kind:?}").to_lowercase();
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_lists_exactly_these_metrics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let documented = std::fs::read_to_string(path).expect("docs/metrics.md");
        let table = super::markdown();
        assert!(documented.contains(&table), "docs/metrics.md should hold this table:\n{table}");
    }

    /// A label with as many values as there are events would be a leak, here and in whatever collects them.
    #[test]
    fn no_label_grows_with_the_data() {
        let bounded = ["", "reader", "forwarder", "verdict", "kind", "component", "reason", "status", "page"];
        for label in super::ALL.iter().flat_map(|metric| metric.labels.split(',')) {
            assert!(bounded.contains(&label), "{label}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = super::ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), super::ALL.len());
    }
}
