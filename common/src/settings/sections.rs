//! The keys, their meaning and their defaults.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use connection_url::ConnectionUrl;

use super::{broker::BrokerSettings, duration};
use crate::{
    backoff::Backoff,
    identifier::{ForwarderId, TableName},
};

/// `[source]`: the database that the application writes its audit rows to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SourceSettings {
    /// Required by every command that reads the source. Also `SOURCE_DATABASE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<ConnectionUrl>,
    /// The audit table, `schema.table`.
    pub table: TableName,
    /// What this source is called, where a copy of its database must not be taken for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Set when the URL leads to a transaction-mode pooler: no session settings, no prepared statements.
    pub pooler: bool,
    /// Longest time one of our statements may take.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// After how long the application deletes its audit rows, by `inserted_at`; absent when it keeps them permanently.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// How long before that a row that has not been delivered counts as at risk.
    #[serde(with = "duration")]
    pub retention_margin: Duration,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            url: None,
            table: "public.audit_events".parse().expect("a valid constant"),
            name: None,
            pooler: false,
            statement_timeout: Duration::from_secs(30),
            retention: None,
            retention_margin: Duration::from_secs(24 * 3_600),
        }
    }
}

/// `[threadline]`: the database of the timeline.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ThreadlineSettings {
    /// Required by forwarders of kind `threadline` without a `url` of their own. Also `THREADLINE_DATABASE_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<ConnectionUrl>,
    /// The storage schema of Threadline's tables.
    pub schema: String,
}

impl Default for ThreadlineSettings {
    fn default() -> Self {
        Self { url: None, schema: "public".to_owned() }
    }
}

/// `[relay]`: reading the log, in the publisher and, with dispatch `sync`, in the consumer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RelaySettings {
    /// Entries read and published at a time; nothing advances until all of them are acknowledged. Dispatch `sync` reads
    /// `consumer.batch_rows` at a time.
    pub page_rows: usize,
    /// The shortest pause between looks at the log, used while rows arrive.
    #[serde(with = "duration")]
    pub poll_min: Duration,
    /// The longest pause, reached after a while without rows.
    #[serde(with = "duration")]
    pub poll_max: Duration,
    /// The leader's lease. A standby takes over this long after the leader died.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How long entries stay after every forwarder is past them.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// How often the leader prunes, thins, trims and checks the trigger.
    #[serde(with = "duration")]
    pub maintenance_interval: Duration,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            page_rows: 1_000,
            poll_min: Duration::from_millis(1),
            poll_max: Duration::from_millis(50),
            lease: Duration::from_secs(15),
            retention: Duration::from_secs(24 * 3_600),
            maintenance_interval: Duration::from_secs(60),
        }
    }
}

/// `[consumer]`: from JetStream to the forwarders.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConsumerSettings {
    /// Batches in work at a time, for each forwarder. Each holds one connection to the source and one to its target.
    pub workers: usize,
    /// Most references in one batch.
    pub batch_rows: usize,
    /// Most bytes of reloaded rows handed to a forwarder at a time.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for the next of the references that the broker says are on their way.
    #[serde(with = "duration")]
    pub linger: Duration,
    /// How long the broker waits for a verdict before it delivers again; held batches renew it at a quarter of this.
    #[serde(with = "duration")]
    pub ack_wait: Duration,
    /// Most messages delivered and not settled, over all processes. Above batch × (workers + 2) × processes, or some processes
    /// have less to do.
    pub max_ack_pending: i64,
    /// How long a forwarder may take for one batch.
    #[serde(with = "duration")]
    pub forward_timeout: Duration,
    /// Failed attempts after which an event is dead.
    pub max_attempts: u32,
    /// Waits between attempts.
    pub backoff: BackoffSettings,
    /// How many events of one reason may become dead letters within a minute before the circuit breaker opens and the
    /// forwarder is held; 0 for any number.
    pub max_dead_letters_per_minute: usize,
    /// What becomes of a message whose event neither the audit table nor the log has ever held.
    pub unknown_events: UnknownEvents,
    /// The continuous reconciliation of log and timeline.
    pub reconcile: ReconcileSettings,
    /// Unready once the oldest batch has been in work this long, a server away, or nothing delivered while events fail and use no attempt.
    #[serde(with = "duration")]
    pub unready_after: Duration,
    /// Address of /healthz, /readyz and /metrics, or "off".
    pub listen: Listen,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            workers: 2,
            batch_rows: 1_000,
            batch_bytes: 4 << 20,
            linger: Duration::from_millis(2),
            ack_wait: Duration::from_secs(60),
            max_ack_pending: 20_000,
            forward_timeout: Duration::from_secs(30),
            max_attempts: 5,
            backoff: BackoffSettings::default(),
            max_dead_letters_per_minute: 50,
            unknown_events: UnknownEvents::Hold,
            reconcile: ReconcileSettings::default(),
            unready_after: Duration::from_secs(60),
            listen: Listen::local(9_465),
        }
    }
}

/// What becomes of a message whose event neither the audit table nor the log has ever held: it is another source's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEvents {
    /// Nothing is settled, and the process is unready.
    #[default]
    Hold,
    /// It is a dead letter: this is the source, and it has lost its last rows.
    DeadLetter,
}

/// `[consumer.reconcile]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReconcileSettings {
    /// How often what has been settled is looked for in the timeline, by one of all processes; zero for never.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Whether what is missing enters the log again. Otherwise the process is unready until an operator repairs it.
    pub repair: bool,
    /// An Ed25519 key (PKCS#8, PEM) that receipts are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_key_file: Option<String>,
}

impl Default for ReconcileSettings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(60), repair: true, receipt_key_file: None }
    }
}

/// `[consumer.backoff]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BackoffSettings {
    /// `sigra` (17 s to 5 min over five attempts) or `exponential`.
    pub profile: String,
    /// First wait of the exponential profile.
    #[serde(with = "duration")]
    pub first: Duration,
    /// Longest wait of the exponential profile.
    #[serde(with = "duration")]
    pub max: Duration,
}

impl Default for BackoffSettings {
    fn default() -> Self {
        Self { profile: "sigra".to_owned(), first: Duration::from_secs(1), max: Duration::from_secs(300) }
    }
}

impl BackoffSettings {
    /// The profile chosen; `None` when it has no such name.
    #[must_use]
    pub fn backoff(&self) -> Option<Backoff> {
        match self.profile.as_str() {
            "sigra" => Some(Backoff::Sigra),
            "exponential" => Some(Backoff::Exponential { first: self.first, max: self.max }),
            _ => None,
        }
    }
}

/// `[log]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LogSettings {
    /// `auto` (human on a terminal, JSON elsewhere), `human` or `json`.
    pub format: LogFormat,
    /// A `tracing` filter, such as `info` or `info,common::outbox=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

/// `[traces]`: OpenTelemetry spans, in binaries with the cargo feature `traces`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TraceSettings {
    /// A collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; without one nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<ConnectionUrl>,
    /// The share of events that is traced, 0 to 1.
    pub sample: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { url: None, sample: 1.0 }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// One `[[forwarder]]`. Keys beyond these belong to its kind, which refuses those it does not know.
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForwarderSettings {
    /// Its name everywhere; unique.
    pub id: ForwarderId,
    /// `threadline`, `webhook`, `noop`, or a kind of the host's own binary.
    pub kind: String,
    /// How events reach it.
    #[serde(default)]
    pub dispatch: Dispatch,
    /// Options of the kind.
    #[serde(flatten)]
    pub options: toml::Table,
}

/// Options may be secrets: only their names are shown.
impl fmt::Debug for ForwarderSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderSettings")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("dispatch", &self.dispatch)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl ForwarderSettings {
    /// Whether it reads the log itself, or goes through the broker's stream.
    #[must_use]
    pub fn reads_log(&self, broker: &BrokerSettings) -> bool {
        match self.dispatch {
            Dispatch::Sync => true,
            Dispatch::Auto => broker.url.is_none(),
            Dispatch::Async => false,
        }
    }

    /// What is configured when nothing is: everything into the timeline.
    #[must_use]
    pub fn timeline() -> Self {
        Self {
            id: "timeline".parse().expect("a valid constant"),
            kind: "threadline".to_owned(),
            dispatch: Dispatch::Auto,
            options: toml::Table::new(),
        }
    }
}

/// How events reach a forwarder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dispatch {
    /// `async` when a broker is configured, else `sync`; decided once at boot.
    #[default]
    Auto,
    /// Through JetStream.
    Async,
    /// Straight from the log, without a broker.
    Sync,
}

/// Where the operational endpoints listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address; port 0 takes a free one and logs it.
    At(SocketAddr),
}

impl Listen {
    pub(super) fn local(port: u16) -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        SocketAddr::from_str(&text)
            .map(Self::At)
            .map_err(|_| format!("{text:?} is not an address such as 127.0.0.1:9464, and not \"off\""))
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) => address.to_string(),
        }
    }
}
