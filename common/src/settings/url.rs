//! Connection URLs hold passwords: shown masked, exposed by name only.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A URL that may hold credentials. `Debug`, `Display` and `Serialize` mask the password.
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

    fn masked(&self) -> String {
        self.expose().split(',').map(mask).collect::<Vec<_>>().join(",")
    }
}

fn mask(url: &str) -> String {
    let Some(mut url) = url::Url::parse(url).ok().filter(|url| !url.cannot_be_a_base()) else {
        return "***".to_owned();
    };
    // A NATS token stands where the user name stands: without a password beside it, it is the secret.
    let masked = if url.password().is_some() {
        url.set_password(Some("***"))
    } else if url.scheme() != "postgres" && url.scheme() != "postgresql" && !url.username().is_empty() {
        url.set_username("***")
    } else {
        Ok(())
    };
    // libpq-style parameters can hold one too.
    if url.query_pairs().any(|(key, _)| key == "password") {
        let pairs: Vec<_> = url
            .query_pairs()
            .map(|(key, value)| {
                let value = if key == "password" { "***".into() } else { value };
                (key.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    masked.map_or_else(|()| "***".to_owned(), |()| url.to_string())
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.masked())
    }
}

impl Serialize for ConnectionUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for ConnectionUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.split(',').all(|url| url::Url::parse(url).is_ok_and(|url| !url.cannot_be_a_base())) {
            Ok(Self::new(text))
        } else {
            // The text itself may be a secret with a typing error around it.
            Err(serde::de::Error::custom(
                "not a URL such as postgres://user@host/database or nats://host:4222",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rendering_shows_a_secret() {
        for url in [
            "postgres://app:hunter2@db/prod?sslmode=verify-full",
            "postgres://app@db/prod?password=hunter2",
            "nats://hunter2@broker:4222",
            "nats://app:hunter2@one:4222,nats://app:hunter2@two:4222",
            "hunter2",
            "app:hunter2 at db",
        ] {
            let url = ConnectionUrl::new(url);
            let renderings =
                [url.to_string(), format!("{url:?}"), serde_json::to_string(&url).expect("serialises")];
            for rendering in renderings {
                assert!(!rendering.contains("hunter2"), "{rendering}");
            }
        }
    }

    #[test]
    fn what_is_no_secret_stays_readable() {
        assert_eq!(
            ConnectionUrl::new("postgres://app:hunter2@db:5433/prod").to_string(),
            "postgres://app:***@db:5433/prod"
        );
        assert_eq!(ConnectionUrl::new("nats://broker:4222").to_string(), "nats://broker:4222");
    }
}
