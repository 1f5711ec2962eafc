//! The section `[broker]`.

use std::time::Duration;

use connection_url::ConnectionUrl;
use serde::{Deserialize, Serialize};

use super::duration;

/// `[broker]`: NATS JetStream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// One server or several, separated by commas. Also `NATS_URL`. Without it dispatch `auto` means `sync`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<ConnectionUrl>,
    /// A `.creds` file with JWT and key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<String>,
    /// A file with the seed of an nkey, as `nk -gen user` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_seed_file: Option<String>,
    /// The authorities (PEM) that may vouch for the servers, instead of those of the operating system. Insists on TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<String>,
    /// A client certificate (PEM). Insists on TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<String>,
    /// Its key (PEM), without a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<String>,
    /// The domain of JetStream, where it is not the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jetstream_domain: Option<String>,
    /// The prefix of JetStream's API, where another account shares it; without one `$JS.API`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_prefix: Option<String>,
    /// The stream; created when missing, compared when present.
    pub stream: String,
    /// The subject that references are published to.
    pub subject: String,
    /// Copies of the stream in a NATS cluster.
    pub replicas: usize,
    /// Size limit of the stream. A full stream refuses, which is back-pressure, not loss: 1 GiB is about 3 million
    /// references.
    pub max_bytes: i64,
    /// How long the broker remembers message ids, at about 195 bytes each. An optimisation, never the guarantee.
    #[serde(with = "duration")]
    pub duplicate_window: Duration,
}

impl BrokerSettings {
    /// Whether a connection without TLS is refused whatever the URL says.
    #[must_use]
    pub fn insists_on_tls(&self) -> bool {
        self.tls_ca_file.is_some() || self.tls_cert_file.is_some()
    }
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            url: None,
            credentials_file: None,
            nkey_seed_file: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            jetstream_domain: None,
            api_prefix: None,
            stream: "SIGRA_AUDIT".to_owned(),
            subject: "sigra.audit.events".to_owned(),
            replicas: 1,
            max_bytes: 1 << 30,
            duplicate_window: Duration::from_secs(120),
        }
    }
}
