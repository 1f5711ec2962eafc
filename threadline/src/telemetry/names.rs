//! Every figure: those of a host's process, and those of the timeline's state that `threadline metrics` reads. `docs/metrics.md` lists the
//! same; a test compares.

use std::fmt::Write as _;

/// What kind of figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A level.
    Gauge,
    /// A distribution, with its own count and sum.
    Histogram,
}

/// A label, and its values; none are listed where they are names of checks or of the timeline's own tables.
pub type Label = (&'static str, &'static [&'static str]);

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in the exposition.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, with the unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($(#[$about:meta])* $all:ident: $($constant:ident = $kind:ident $name:literal [$($label:expr),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        $(#[$about])*
        pub const $all: &[Metric] =
            &[$(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help },)*];
    };
}

/// Of an action: how it ended.
const STATUS: Label = ("status", &["ok", "error"]);
/// Of an audited transaction: whether there is a row of it.
const CAPTURED: Label = ("captured", &["true", "false"]);
/// Of an export.
const FORMAT: Label = ("format", &["csv", "json", "ndjson", "ocsf", "parquet"]);
/// Of what ends well or not.
const RESULT: Label = ("result", &["completed", "failed"]);
/// Of a purge, which may be left to another process.
const PURGE_RESULT: Label = ("result", &["completed", "failed", "skipped"]);

/// What became of a request of the operator surface, in the label `result`.
pub const AUTHORIZATIONS: [&str; 3] = ["granted", "denied", "error"];
const AUTHORIZATION: Label = ("result", &AUTHORIZATIONS);

/// What the operator surface does a few of at a time, in the label `kind`.
pub const TURNS: [&str; 3] = ["request", "tail", "download"];
const TURN: Label = ("kind", &TURNS);

/// How a table of a host's stands, in the label `state`.
pub const TABLE_STATES: [&str; 3] = ["covered", "uncovered", "expected_uncovered"];
const TABLE_STATE: Label = ("state", &TABLE_STATES);
/// What findings are worth, in the label `severity`.
pub const SEVERITIES: [&str; 2] = ["error", "warning"];
const SEVERITY: Label = ("severity", &SEVERITIES);
/// How a check of the doctor stands, in the label `state`.
pub const CHECK_STATES: [&str; 5] = ["ok", "attention", "failed", "not_applicable", "unknown"];
const CHECK_STATE: Label = ("state", &CHECK_STATES);
/// How a job stands, in the label `status`.
pub const JOB_STATUSES: [&str; 7] =
    ["pending", "running", "completed", "failed", "cancelled", "expired", "other"];
const JOB_STATUS: Label = ("status", &JOB_STATUSES);
/// A check of the doctor.
const CHECK: Label = ("check", &[]);
/// A table of the timeline's own.
const TABLE: Label = ("table", &[]);

metrics! {
    /// Those of a process that records, reads, exports or purges, in the order of the documentation.
    HOST:
    ACTIONS_RECORDED = Counter "threadline_actions_recorded_total" [STATUS]
        "Actions that were recorded and committed; those that exports and purges make of themselves are not counted.";
    TRANSACTIONS_COMMITTED = Counter "threadline_transactions_committed_total" [CAPTURED]
        "Audited transactions that were committed; captured: they have left something in the timeline.";
    EXPORTS = Counter "threadline_exports_total" [FORMAT, RESULT]
        "Exports that have ended.";
    EXPORTED_ROWS = Counter "threadline_exported_rows_total" [FORMAT]
        "Entries that exports have written, those of failed ones too.";
    EXPORT_SECONDS = Histogram "threadline_export_seconds" [FORMAT]
        "Time from the beginning of an export to its end, in seconds.";
    PURGES = Counter "threadline_purges_total" [PURGE_RESULT]
        "Purges that have ended, dry runs left out; skipped: another process purges.";
    PURGED_CHANGES = Counter "threadline_purged_changes_total" []
        "Changes that purges have deleted.";
    PURGED_TRANSACTIONS = Counter "threadline_purged_transactions_total" []
        "Captured transactions that purges have deleted.";
    PURGE_BATCH_SECONDS = Histogram "threadline_purge_batch_seconds" []
        "Time of one batch of a purge, in seconds.";
    HEALTH_CHECKS = Counter "threadline_health_checks_total" [RESULT]
        "Times that coverage was looked at.";
    OPERATOR_AUTHORIZATIONS = Counter "threadline_operator_authorizations_total" [AUTHORIZATION]
        "Requests of the operator surface about which was decided; error: the host's decision panicked or took too long, which denies.";
    OPERATOR_OPEN = Gauge "threadline_operator_open" [TURN]
        "Requests that the operator surface answers now, pages that follow the timeline, and files that are handed out.";
    OPERATOR_BUSY = Counter "threadline_operator_busy_total" [TURN]
        "The same that were told to try again, because as many are there as may be at a time.";
    HISTORIES_TRUNCATED = Counter "threadline_row_histories_truncated_total" []
        "Histories of a row that were cut at their newest changes.";
}

metrics! {
    /// Those of the timeline's state, in the order of the documentation. A process that looks at the coverage of all schemas shows the first two as well.
    STATE:
    TABLES = Gauge "threadline_tables" [TABLE_STATE]
        "Tables of which every change is captured, of which not every one is, and of which that is so on purpose.";
    FINDINGS = Gauge "threadline_findings" [SEVERITY]
        "What coverage has found about captured tables.";
    CHECK_STANDS = Gauge "threadline_check" [CHECK, CHECK_STATE]
        "1 for the state that a check of threadline doctor is in, 0 for every other state.";
    NEWEST_CHANGE = Gauge "threadline_newest_change_timestamp_seconds" []
        "When the newest change was captured, in seconds since 1970.";
    OLDEST_CHANGE = Gauge "threadline_oldest_change_timestamp_seconds" []
        "When the oldest change was captured, in seconds since 1970.";
    ROWS_ESTIMATE = Gauge "threadline_rows_estimate" [TABLE]
        "Rows of a table of the timeline, as vacuum has estimated them last.";
    TABLE_BYTES = Gauge "threadline_table_bytes" [TABLE]
        "Bytes of a table of the timeline, with its indexes.";
    RETENTION_COMPLETED = Gauge "threadline_retention_last_completed_timestamp_seconds" []
        "When the last of the newest 1,000 purges that ended well did so, in seconds since 1970.";
    RETENTION_OPEN = Gauge "threadline_retention_open_runs" []
        "Purges of the newest 1,000 that say that they run.";
    SEALED_UNTIL = Gauge "threadline_receipts_sealed_until_timestamp_seconds" []
        "Up to when the newest receipt seals the timeline, in seconds since 1970.";
    EXPORT_JOBS = Gauge "threadline_export_jobs" [JOB_STATUS]
        "Of the newest 1,000 jobs of exports, how many are in each status.";
    SCHEMA_VERSION = Gauge "threadline_schema_version" []
        "The number of the newest migration of the timeline.";
    COLLECTED = Gauge "threadline_collected_timestamp_seconds" []
        "When these figures were read, by the clock of this machine, in seconds since 1970.";
}

/// Every figure by its name.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    HOST.iter().chain(STATE)
}

/// Every combination of the values of its labels; of a figure without labels, the one that there is.
#[cfg(any(test, feature = "metrics"))]
pub(super) fn known(metric: &Metric) -> Vec<Vec<(&'static str, &'static str)>> {
    metric.labels.iter().fold(vec![Vec::new()], |combinations, (label, values)| {
        let with = |value: &&'static str| {
            combinations
                .iter()
                .map(|before| [before.as_slice(), &[(*label, *value)]].concat())
                .collect::<Vec<_>>()
        };
        values.iter().flat_map(with).collect()
    })
}

/// A table of `docs/metrics.md`.
#[must_use]
pub fn markdown(metrics: &[Metric]) -> String {
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, help } in metrics {
        let kind = format!("{kind:?}").to_lowercase();
        let label = |(label, values): &Label| match values {
            [] => (*label).to_owned(),
            values => format!("{label}: {}", values.join(", ")),
        };
        let labels = labels.iter().map(label).collect::<Vec<_>>().join("; ");
        let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {help} |");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Status, coverage::Severity, doctor::State, export::Format};

    #[test]
    fn the_documentation_lists_exactly_these_figures() {
        let documented = include_str!("../../../docs/metrics.md");
        for metrics in [HOST, STATE] {
            let table = markdown(metrics);
            assert!(documented.contains(&table), "docs/metrics.md should hold this table:\n{table}");
        }
        let listed = documented.lines().filter(|line| line.starts_with("| `threadline_")).count();
        assert_eq!(listed, all().count());
    }

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let names: BTreeSet<&str> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count());
        for Metric { name, kind, help, .. } in all() {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!name.ends_with("_seconds") || help.contains("seconds"), "{name}: {help}");
            // It stands in the exposition as it is.
            assert!(!help.contains(['\\', '\n']), "{help}");
        }
    }

    /// A label with as many values as there are rows would be a leak, here and in whatever collects them.
    #[test]
    fn labels_have_the_values_that_the_code_knows() {
        let statuses = [Status::Ok, Status::Error].map(Status::as_str);
        assert_eq!(STATUS.1, statuses);
        assert_eq!(CHECK_STATES, State::ALL.map(State::as_str));
        assert_eq!(SEVERITIES, [Severity::Error, Severity::Warning].map(Severity::as_str));
        assert!(
            FORMAT.1.iter().all(|format| format.parse::<Format>().is_ok_and(|one| one.as_str() == *format))
        );
        for (label, values) in all().flat_map(|metric| metric.labels) {
            assert_eq!(values.is_empty(), ["check", "table"].contains(label), "{label}");
        }
    }

    #[test]
    fn the_state_is_gauges_alone() {
        assert!(STATE.iter().all(|metric| metric.kind == Kind::Gauge));
    }

    #[test]
    fn every_combination_of_labels_is_known() {
        let exports = HOST.iter().find(|metric| metric.name == EXPORTS).expect("a figure");
        assert_eq!(known(exports).len(), 10);
        let changes = HOST.iter().find(|metric| metric.name == PURGED_CHANGES).expect("a figure");
        assert_eq!(known(changes), [Vec::new()]);
    }
}
