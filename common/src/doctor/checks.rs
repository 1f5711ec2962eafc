//! Every check. `docs/doctor.md` lists the same; a test compares.

use std::fmt::{self, Write as _};

use super::Severity;

/// One check. Its finding has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Kebab case. Never changed: programs know it.
    pub name: &'static str,
    /// Of its findings.
    pub severity: Severity,
    /// What it checks.
    pub part: Part,
    /// Whose doctor makes it.
    pub owner: Owner,
    /// When it is made.
    pub when: When,
    /// What is true when nothing is found.
    pub expectation: &'static str,
}

/// What a check is about, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Settings alone.
    Settings,
    /// The source database.
    Source,
    /// NATS JetStream.
    Broker,
    /// Where forwarders write to.
    Targets,
    /// The checks themselves.
    Checks,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings => "settings",
            Self::Source => "source",
            Self::Broker => "broker",
            Self::Targets => "targets",
            Self::Checks => "checks",
        })
    }
}

/// Whose doctor makes a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Both.
    Both,
    /// `publisher doctor`.
    Publisher,
    /// `consumer doctor`.
    Consumer,
}

/// When a check is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// By the command, and when a service starts.
    Always,
    /// By the command only: a service that starts looks by itself, or a start is no occasion for it.
    Asked,
}

impl Check {
    /// A check of a target, for a forwarder of a host's own: made by `consumer doctor`, and when the service starts.
    #[must_use]
    pub const fn of_target(name: &'static str, severity: Severity, expectation: &'static str) -> Self {
        Self { name, severity, part: Part::Targets, owner: Owner::Consumer, when: When::Always, expectation }
    }

    /// What becomes of its finding when a service starts.
    #[must_use]
    pub fn at_boot(&self) -> &'static str {
        match (self.when, self.severity) {
            (When::Always, Severity::Error) => "refuses",
            (When::Always, Severity::Warning) => "logged",
            _ => "",
        }
    }
}

macro_rules! checks {
    ($($part:ident {
        $($constant:ident = $severity:ident $name:literal [$owner:ident $when:ident] $expectation:literal;)*
    })*) => {
        $($(
            #[doc = $expectation]
            pub const $constant: &Check = &Check {
                name: $name,
                severity: Severity::$severity,
                part: Part::$part,
                owner: Owner::$owner,
                when: When::$when,
                expectation: $expectation,
            };
        )*)*

        /// All of them, in the order of the documentation.
        pub const ALL: &[&Check] = &[$($($constant,)*)*];
    };
}

checks! {
    Settings {
        CONNECTION_UNENCRYPTED = Warning "connection-unencrypted" [Both Always]
            "Connections beyond loopback require TLS.";
        ENDPOINT_EXPOSED = Hint "endpoint-exposed" [Both Asked]
            "Health and metrics, which ask for no password, are served on loopback only.";
        TRACES_NOT_BUILT = Warning "traces-not-built" [Both Always]
            "Where `traces.url` is set, this binary was built with the cargo feature `traces`.";
        DUPLICATE_WINDOW_SHORT = Warning "duplicate-window-short" [Publisher Always]
            "The broker remembers message ids for as long as a publish may be repeated.";
        LOG_RETENTION_SHORT = Warning "log-retention-short" [Publisher Always]
            "Entries stay in the log until the broker has written to its disk what it acknowledged.";
        LOG_RETENTION_LONG = Warning "log-retention-long" [Publisher Always]
            "The log forgets an entry before the application deletes its row.";
        REPLAY_WINDOW_LONG = Warning "replay-window-long" [Publisher Always]
            "The stream forgets a reference before the application deletes its row.";
        PENDING_LIMIT_LOW = Warning "pending-limit-low" [Consumer Always]
            "Every worker of a process may process a full batch and have two waiting.";
        FORWARD_TIMEOUT_LONG = Warning "forward-timeout-long" [Consumer Always]
            "A batch that takes as long as it may does not make the process unready.";
    }
    Source {
        SOURCE_UNREACHABLE = Error "source-unreachable" [Both Always]
            "The source database accepts connections of this role.";
        SOURCE_STANDBY = Error "source-standby" [Both Always]
            "The source is a primary server.";
        CLOCK_OFFSET = Warning "clock-offset" [Both Always]
            "The clocks of this machine and of the source agree to two seconds.";
        SOURCE_ENCODING = Warning "source-encoding" [Both Always]
            "The source database has a defined encoding.";
        SOURCE_READ_ONLY = Error "source-read-only" [Both Always]
            "Sessions at the source may write.";
        GRANT_MISSING = Error "grant-missing" [Both Always]
            "This role may do what this service does.";
        OUTBOX_MISSING = Error "outbox-missing" [Both Always]
            "The schema outbox is there, and of this version.";
        OUTBOX_NEWER = Error "outbox-newer" [Both Always]
            "The schema outbox is of no newer version than this binary.";
        OUTBOX_INCOMPLETE = Error "outbox-incomplete" [Both Always]
            "Nothing of the schema outbox has been dropped.";
        OUTBOX_ALTERED = Error "outbox-altered" [Both Asked]
            "The tables and functions of the schema outbox are what `publisher attach` made.";
        OUTBOX_OTHER_TABLE = Error "outbox-other-table" [Both Always]
            "The outbox captures the table of the settings.";
        CAPTURE_OFF = Error "capture-off" [Both Asked]
            "Every row that is inserted is captured once, and none was missed since the last backfill.";
        SOURCE_TABLE_MISSING = Error "source-table-missing" [Both Asked]
            "The audit table is there.";
        SOURCE_UNFIT = Warning "source-unfit" [Both Always]
            "The table keeps each row once and on its disk, in columns that can be read.";
        ROWS_HIDDEN = Error "rows-hidden" [Consumer Asked]
            "No policy hides audit rows from this role.";
        FORWARDER_COLUMN_MISSING = Error "forwarder-column-missing" [Consumer Always]
            "The table has the columns without which a forwarder can deliver nothing.";
        FORWARDER_COLUMN_ABSENT = Hint "forwarder-column-absent" [Consumer Asked]
            "The table has every column that a forwarder reads.";
        REBASE_NEEDED = Error "rebase-needed" [Both Always]
            "Every stored position belongs to this cluster.";
        READER_UNUSED = Warning "reader-unused" [Both Always]
            "Every reader of the log belongs to something that is configured.";
        READER_STALLED = Warning "reader-stalled" [Both Always]
            "Every reader that has something to read has moved within a day.";
        TRANSACTION_OLD = Warning "transaction-old" [Both Always]
            "No transaction has run for longer than an hour.";
        TRANSACTION_PREPARED = Warning "transaction-prepared" [Both Always]
            "No transaction has been prepared for longer than an hour.";
        TRANSACTIONS_HIDDEN = Hint "transactions-hidden" [Both Asked]
            "This role sees how old the transactions of others are.";
        SAFE_BEFORE_UNPRIVILEGED = Warning "safe-before-unprivileged" [Both Always]
            "The owner of `outbox.safe_before()` sees all rows, and how old transactions are.";
        AUTOVACUUM_OFF = Warning "autovacuum-off" [Both Always]
            "Autovacuum tidies up behind the log.";
        ID_INDEX_MISSING = Warning "id-index-missing" [Consumer Always]
            "Audit rows are found by their id through an index.";
        INSERTED_AT_INDEX_MISSING = Hint "inserted-at-index-missing" [Both Asked]
            "A clean-up of old audit rows finds them through an index.";
    }
    Broker {
        BROKER_UNREACHABLE = Error "broker-unreachable" [Both Always]
            "The broker accepts connections of this client.";
        BROKER_TOO_OLD = Error "broker-too-old" [Both Always]
            "The broker is NATS 2.9 or later.";
        BROKER_TRIMS_SLOWLY = Hint "broker-trims-slowly" [Publisher Asked]
            "The stream is trimmed with one request.";
        BROKER_REFUSES = Error "broker-refuses" [Both Always]
            "The broker has room for what these settings ask for, and allows it.";
        BROKER_NOT_RECEIVING = Error "broker-not-receiving" [Both Asked]
            "The broker receives what this user sends, on every subject that it uses.";
        JETSTREAM_DISABLED = Error "jetstream-disabled" [Both Always]
            "JetStream is enabled, and open to this account.";
        STREAM_MISSING = Hint "stream-missing" [Both Asked]
            "The stream is there.";
        SUBJECT_TAKEN = Error "subject-taken" [Both Asked]
            "No other stream takes the subject.";
        STREAM_FOREIGN = Error "stream-foreign" [Both Always]
            "The stream holds references of this source.";
        STREAM_UNFIT = Error "stream-unfit" [Both Always]
            "The stream keeps and refuses what it has to.";
        STREAM_SINGLE_COPY = Warning "stream-single-copy" [Both Always]
            "In a cluster the stream outlives the loss of a server.";
        STREAM_SMALLER = Warning "stream-smaller" [Both Always]
            "The stream is as large as the settings say.";
        STREAM_NEARLY_FULL = Warning "stream-nearly-full" [Both Always]
            "The stream is not filled above four fifths.";
        STREAM_UNTRIMMABLE = Warning "stream-untrimmable" [Both Always]
            "The stream may be trimmed.";
        STREAM_UNUSUAL = Warning "stream-unusual" [Both Always]
            "Nothing is set on the stream that costs something or is not known.";
        DURABLE_UNFIT = Error "durable-unfit" [Consumer Always]
            "The durables of configured forwarders deliver everything until it is acknowledged.";
        DURABLE_DIFFERS = Hint "durable-differs" [Consumer Asked]
            "The durables of configured forwarders have the limits of these settings.";
        DURABLE_UNUSUAL = Warning "durable-unusual" [Consumer Always]
            "Nothing is set on the durables of configured forwarders that costs something or is not known.";
        DURABLE_PAUSED = Warning "durable-paused" [Both Always]
            "No durable of a configured forwarder is paused.";
        DURABLE_UNUSED = Warning "durable-unused" [Both Always]
            "Every durable of a forwarder belongs to one that is configured.";
    }
    Targets {
        FORWARDER_OPTIONS = Error "forwarder-options" [Consumer Asked]
            "The options of every forwarder can be used.";
        FORWARDER_KIND_UNKNOWN = Error "forwarder-kind-unknown" [Consumer Asked]
            "Every forwarder is of a kind that there is.";
        FORWARDER_KIND_NOT_BUILT = Warning "forwarder-kind-not-built" [Consumer Asked]
            "This binary has the kind of every forwarder.";
        DISPATCH_WITHOUT_BROKER = Error "dispatch-without-broker" [Consumer Asked]
            "Forwarders that need a broker have one: by their dispatch, or because a publisher reads the log for one.";
        TARGET_UNREACHABLE = Error "target-unreachable" [Consumer Always]
            "The targets of forwarders of other kinds that can tell are there.";
        TARGETS_SHARED = Error "targets-shared" [Consumer Always]
            "No two forwarders write to one place.";
        TIMELINE_UNREACHABLE = Error "timeline-unreachable" [Consumer Always]
            "The timeline's database accepts connections of this role.";
        TIMELINE_STANDBY = Error "timeline-standby" [Consumer Always]
            "The timeline is on a primary server.";
        TIMELINE_MISSING = Error "timeline-missing" [Consumer Always]
            "Threadline's tables are there.";
        TIMELINE_GRANT_MISSING = Error "timeline-grant-missing" [Consumer Always]
            "This role may write and read actions.";
        TIMELINE_READ_ONLY = Error "timeline-read-only" [Consumer Always]
            "Sessions at the timeline may write.";
        TIMELINE_NEWER = Error "timeline-newer" [Consumer Always]
            "Threadline's tables are of no newer version than this binary.";
        TIMELINE_INCOMPLETE = Warning "timeline-incomplete" [Consumer Always]
            "None of Threadline's other tables is missing.";
        TIMELINE_COLUMN_UNFIT = Error "timeline-column-unfit" [Consumer Always]
            "The table of actions has the columns that an action is written to, of types that take it.";
        TIMELINE_ROWS_HIDDEN = Error "timeline-rows-hidden" [Consumer Always]
            "No policy hides or refuses actions of this role.";
        TIMELINE_ENCODING = Warning "timeline-encoding" [Consumer Always]
            "The timeline's database stores any text, as UTF-8.";
        TIMELINE_DOUBLED = Warning "timeline-doubled" [Consumer Asked]
            "No event is in the timeline under two ids.";
        TIMELINE_NAMES_HIDDEN = Hint "timeline-names-hidden" [Consumer Asked]
            "This role may read the names of actions, without which events under two ids are not found.";
        TIMELINE_KEY_MISSING = Error "timeline-key-missing" [Consumer Always]
            "A unique index keeps the timeline from holding an event twice.";
        REBUILD_UNFINISHED = Warning "rebuild-unfinished" [Consumer Asked]
            "A process is at work on every rebuild that was begun.";
        REBUILD_KEPT = Hint "rebuild-kept" [Consumer Asked]
            "The table from before the last rebuild was removed.";
    }
    Checks {
        CHECK_FAILED = Warning "check-failed" [Both Always]
            "Every check was completed.";
    }
}

/// The table of `docs/doctor.md`.
#[must_use]
pub fn markdown() -> String {
    let mut table =
        "| finding | severity | found by | at boot | what should be so |\n|---|---|---|---|---|\n".to_owned();
    for check in ALL {
        let by = match check.owner {
            Owner::Both => "both",
            Owner::Publisher => "publisher",
            Owner::Consumer => "consumer",
        };
        let Check { name, severity, expectation, .. } = check;
        let _ = writeln!(table, "| `{name}` | {severity} | {by} | {} | {expectation} |", check.at_boot());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_findings() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
        let documented = std::fs::read_to_string(path).expect("docs/doctor.md");
        let table = markdown();
        assert!(documented.contains(&table), "docs/doctor.md should hold this table:\n{table}");
    }

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), ALL.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        }
    }
}
