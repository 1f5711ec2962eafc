//! Connection URLs of PostgreSQL and NATS. They hold passwords: shown masked, exposed by name only. What a driver would
//! misread or ignore without a word is refused here, by name.
//!
//! ```
//! use connection_url::ConnectionUrl;
//!
//! let url = ConnectionUrl::new("postgres://app:secret@db:6432/prod");
//! assert_eq!(url.to_string(), "postgres://app:***@db:6432/prod");
//! let options = url.postgres()?;
//! assert_eq!((options.get_host(), options.get_port()), ("db", 6432));
//!
//! // A driver would connect without TLS.
//! assert!(ConnectionUrl::new("postgres://app@db/prod?sslmod=require").postgres().is_err());
//!
//! let brokers = ConnectionUrl::new("nats://one,tls://two:4443").nats()?;
//! assert_eq!(brokers[1].address, "tls://two:4443");
//! # Ok::<(), connection_url::UrlError>(())
//! ```

#![forbid(unsafe_code)]

mod environment;
mod mask;
mod nats;
mod parameters;
mod parts;
mod postgres;
mod tls_files;

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use nats::Server;
pub use tls_files::{TlsFile, TlsFileError, TlsFiles};

/// Why a URL cannot be used. Never holds anything that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl UrlError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A URL that may hold credentials. `Debug`, `Display` and `Serialize` mask them.
///
/// NATS accepts several servers, separated by commas; each is masked.
#[derive(Clone)]
pub struct ConnectionUrl(SecretString);

impl ConnectionUrl {
    /// Wraps a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(SecretString::from(url.into()))
    }

    /// The URL with its credentials. For the driver only; never for a log, an error or a command line.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What PostgreSQL's driver is to do: as libpq would understand the URL, or not at all.
    ///
    /// # Errors
    /// Names what is wrong or not supported.
    pub fn postgres(&self) -> Result<sqlx::postgres::PgConnectOptions, UrlError> {
        postgres::options(self.expose())
    }

    /// What PostgreSQL's driver is to do, when it can read the certificates and keys that the URL names.
    ///
    /// # Errors
    /// Names what is wrong or not supported, or the file that cannot be used.
    pub fn postgres_with_files(&self) -> Result<sqlx::postgres::PgConnectOptions, UrlError> {
        let options = self.postgres()?;
        tls_files::of_postgres(&options)?;
        Ok(options)
    }

    /// The NATS servers that it names.
    ///
    /// # Errors
    /// Names what is wrong or not supported.
    pub fn nats(&self) -> Result<Vec<Server>, UrlError> {
        nats::servers(self.expose())
    }

    /// Each address of a list, as it can be parsed; with its credentials.
    #[must_use]
    pub fn addresses(&self) -> Vec<url::Url> {
        parts::addresses(self.expose()).iter().filter_map(|part| url::Url::parse(part).ok()).collect()
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::mask(self.expose()))
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", mask::mask(self.expose()))
    }
}

impl Serialize for ConnectionUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&mask::mask(self.expose()))
    }
}

impl<'de> Deserialize<'de> for ConnectionUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What it is for is not known here, so this is no more than its form. The text itself may be a secret with a typing
        // error around it.
        if parts::Parts::of(&text).is_some() {
            Ok(Self::new(text))
        } else if text.starts_with(char::is_whitespace) {
            Err(serde::de::Error::custom("it begins with a blank"))
        } else {
            Err(serde::de::Error::custom(
                "not a URL such as postgres://user@host/database or nats://host:4222",
            ))
        }
    }
}
