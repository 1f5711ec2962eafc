//! One settings file, `audit.toml`, for all binaries; the environment and flags over it.
//!
//! Every key has a default in `sections`, `broker` or `publisher`, a row in `docs/configuration.md` (held to this module by a test) and a range in
//! `validate`. Unknown keys are refused. Errors name the key path and the source it came from.

mod bounds;
mod broker;
mod cli;
mod duration;
mod layers;
mod log_filter;
mod nats_names;
mod operator;
mod operator_rules;
mod publisher;
mod renamed;
mod render;
mod secrets;
mod sections;
mod usage_error;
mod validate;

pub use broker::BrokerSettings;
pub use cli::{ConfigCommand, GLOBAL_OPTIONS, SettingsArgs};
pub use connection_url::ConnectionUrl;
pub use layers::{Layers, Provenance, SettingsError, Source};
pub use operator::{
    AuthKind, JwtSettings, NoAuthSettings, OperatorAuthSettings, OperatorLimits, OperatorSettings, Place,
    SignedSettings,
};
pub use publisher::{Packing, PublisherSettings};
pub use render::render;
pub use sections::{
    BackoffSettings, ConsumerSettings, Dispatch, ForwarderSettings, Listen, LogFormat, LogSettings,
    ReconcileSettings, RelaySettings, SourceSettings, ThreadlineSettings, TraceSettings, UnknownEvents,
};
pub use usage_error::{ConfigureError, UsageError};

use serde::{Deserialize, Serialize};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// The database that the application writes its audit rows to.
    pub source: SourceSettings,
    /// The database of the timeline.
    pub threadline: ThreadlineSettings,
    /// NATS JetStream.
    pub broker: BrokerSettings,
    /// Reading the log.
    pub relay: RelaySettings,
    /// From the log to JetStream.
    pub publisher: PublisherSettings,
    /// The durable consumer.
    pub consumer: ConsumerSettings,
    /// The operator surface on its own.
    pub operator: OperatorSettings,
    /// Structured logs.
    pub log: LogSettings,
    /// OpenTelemetry spans.
    pub traces: TraceSettings,
    /// Where events go. Without any `[[forwarder]]` one into the timeline; `forwarder = []` for none.
    pub forwarder: Vec<ForwarderSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            source: SourceSettings::default(),
            threadline: ThreadlineSettings::default(),
            broker: BrokerSettings::default(),
            relay: RelaySettings::default(),
            publisher: PublisherSettings::default(),
            consumer: ConsumerSettings::default(),
            operator: OperatorSettings::default(),
            log: LogSettings::default(),
            traces: TraceSettings::default(),
            forwarder: vec![ForwarderSettings::timeline()],
        }
    }
}

impl Settings {
    /// Reads the text of a settings file, for a program that embeds a service: no file is opened and no environment variable
    /// is read. URLs, which hold passwords, may be set afterwards: `settings.source.url = Some(ConnectionUrl::new(url))`.
    ///
    /// # Errors
    /// Names the first key that is unknown, of the wrong type or outside its range.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let (settings, _) = Layers::default().text(text, "the text of the settings")?.build()?;
        Ok(settings)
    }

    /// Checks ranges, and rules between keys: what is done for files and flags when they are read.
    ///
    /// # Errors
    /// Names the first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), SettingsError> {
        validate::validate(self).map_err(|(key, message)| SettingsError::Key {
            from: Source::Program,
            key,
            message: secrets::masked(&message),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use toml::{Table, Value};

    use super::Settings;

    fn leaves(prefix: &str, table: &Table, into: &mut BTreeMap<String, String>) {
        for (name, value) in table {
            match value {
                Value::Table(table) => leaves(&format!("{prefix}{name}."), table, into),
                // The forwarders; a list of texts is a value.
                Value::Array(_) if prefix.is_empty() => {}
                value => drop(into.insert(format!("{prefix}{name}"), value.to_string())),
            }
        }
    }

    #[test]
    fn settings_of_a_program_are_checked_as_those_of_a_file_are() {
        let mut settings = Settings::from_toml("[relay]\npage_rows = 7").expect("valid");
        assert_eq!(settings.relay.page_rows, 7);
        settings.validate().expect("valid");
        settings.relay.page_rows = 0;
        let error = settings.validate().expect_err("out of range").to_string();
        assert_eq!(error, "relay.page_rows from the program: must be 1 to 10000, is 0");
        let error = Settings::from_toml("[relay]\npage_row = 7").expect_err("unknown").to_string();
        assert!(error.starts_with("relay.page_row from the text of the settings: unknown field"), "{error}");
    }

    #[test]
    fn the_documentation_lists_exactly_these_keys_with_their_defaults() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("docs/configuration.md");
        let documented: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| {
                let (key, rest) = line.strip_prefix("| `")?.split_once("` |")?;
                let default = rest.split('|').next()?.trim().trim_matches('`');
                // Every key has a section; the page has other tables, too.
                key.contains('.').then(|| (key.to_owned(), default.to_owned()))
            })
            .collect();
        let mut defaults = BTreeMap::new();
        leaves("", &Table::try_from(Settings::default()).expect("TOML"), &mut defaults);
        // Optional keys have no default to list.
        for key in [
            "source.url",
            "source.name",
            "source.retention",
            "threadline.url",
            "broker.url",
            "broker.credentials_file",
            "broker.nkey_seed_file",
            "broker.tls_ca_file",
            "broker.tls_cert_file",
            "broker.tls_key_file",
            "broker.jetstream_domain",
            "broker.api_prefix",
            "consumer.reconcile.receipt_key_file",
            "traces.url",
            "operator.writer_url",
            "operator.redrive_url",
            "operator.exports_directory",
            "operator.record_views",
            "operator.purges_every",
            "operator.auth.kind",
            "operator.auth.jwt.jwks_file",
            "operator.auth.jwt.jwks_url",
            "operator.auth.jwt.issuer",
            "operator.auth.jwt.audience",
            "operator.auth.jwt.label_claim",
            "operator.auth.jwt.scope_claim",
            "operator.auth.signed.keys_file",
        ] {
            defaults.insert(key.to_owned(), String::new());
        }
        assert_eq!(documented, defaults);
    }
}
