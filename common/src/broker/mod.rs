//! NATS JetStream: connection, stream and durables, compared with the settings.
//!
//! Servers up to 2.10 ignore configuration fields they do not know instead of refusing them, so every set-up call is
//! followed by a comparison with the server's echo. The default path uses NATS 2.9 features only.

mod access;
mod connection_epoch;
pub mod doctor;
mod durable;
mod floor;
mod limits;
mod overview;
mod packs;
pub mod preflight;
mod reachable_subjects;
mod rules;
mod stored;
mod stream;
mod tables;
mod throttle;

pub use crate::{outbox::SourceIdentity, time_arg::microseconds};
pub use connection_epoch::{ConnectionEpoch, connected};
pub use durable::{
    AckFloor, DurableState, SkippingDurable, ack_floors, durable_name, durable_state, ensure_durable,
    is_same_creation, remove_durable, replace_skipping_durable, reset_durables_ahead,
};
pub use floor::{FloorMessage, SettledFloor};
pub use overview::{BrokerState, DurableOverview, Overview, StreamOverview, overview};
pub use packs::references;
pub use reachable_subjects::check_acknowledgements;
pub use stream::{
    adopt_stream, check_stream, ensure_stream, find_stream, is_not_found, mark_packed, smaller,
};
pub use tables::PULL_EXPIRES;
pub use throttle::{LiveTrafficThrottle, ThrottleError};

use std::{fmt, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, jetstream};
use connection_url::Server;

use crate::settings::BrokerSettings;

/// A connection that the network forgot is noticed after three of these; the client's own default takes three minutes.
const PING_INTERVAL: Duration = Duration::from_millis(800);

/// Longest pause between attempts to reconnect. The client's own doubles to 4 s and stays there.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);

/// Why the broker cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// No URL is set.
    #[error("no broker is configured: set broker.url in the settings file, or NATS_URL")]
    NotConfigured,
    /// The server cannot be reached, or refuses.
    #[error(
        "cannot connect to NATS at {url}: {error}. Is the server running with JetStream (nats-server -js), and do \
         its credentials match?"
    )]
    Connect {
        /// Masked.
        url: String,
        /// The client's own message.
        error: String,
    },
    /// It is no address of a server.
    #[error(
        "broker.url ({0}) cannot be parsed: expected nats://host:4222, or several of these separated by commas"
    )]
    Url(String),
    /// A file of the settings cannot be used.
    #[error("{key}: {path}: {error}")]
    File {
        /// The setting.
        key: &'static str,
        /// As it is set.
        path: String,
        /// Why; never what stands in it.
        error: String,
    },
    /// It answers, but not for JetStream: because it is switched off, or not ready yet.
    #[error("the NATS server has no JetStream for this client: {error}. Remedy: {remedy}")]
    NoJetStream {
        /// The client's own message.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// A JetStream call failed; trying again may help.
    #[error("JetStream {call}: {error}")]
    Call {
        /// What was requested.
        call: &'static str,
        /// The server's answer.
        error: String,
    },
    /// The broker responds, and refuses the request.
    #[error("the broker refuses ({call}): {words}. Remedy: {remedy}")]
    Refused {
        /// What was requested.
        call: &'static str,
        /// Of JetStream's API.
        code: u64,
        /// The server's own message.
        words: String,
        /// The setting or the limit that it is about.
        remedy: String,
    },
    /// Stream or durable exist, and are not what the pipeline needs.
    #[error("{object} does not fit: {differences}. {remedy}")]
    Incompatible {
        /// Which it is.
        object: BrokerObject,
        /// Each field with what is wanted and what is there.
        differences: String,
        /// What to do.
        remedy: String,
        /// It is a durable that passes over messages.
        skipping: Option<SkippingDurable>,
    },
    /// The stream belongs to another source database.
    #[error(
        "stream {stream} holds references of another source ({theirs}; this one is {ours}): two sources must not \
         share a stream. Set broker.stream and broker.subject to names of their own; or, if this is the same source \
         restored into another cluster, or under a new source.name, run `publisher rebase`"
    )]
    ForeignStream {
        /// Its name.
        stream: String,
        /// From its description.
        theirs: String,
        /// This source.
        ours: String,
    },
}

/// What of the pipeline's a broker stores, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerObject {
    /// A stream.
    Stream(String),
    /// A durable consumer.
    Durable(String),
}

impl fmt::Display for BrokerObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Durable(name) => write!(f, "consumer {name}"),
        }
    }
}

impl BrokerError {
    /// Whether settings are at fault, which neither waiting nor a restart fixes.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        matches!(self, Self::NotConfigured | Self::Url(_) | Self::File { .. })
    }

    /// Whether waiting may fix it.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::NoJetStream { .. } | Self::Call { .. } | Self::Refused { .. }
        )
    }

    /// Stream or durable exist, and an operator has to change them.
    #[must_use]
    pub fn is_incompatible(&self) -> bool {
        matches!(self, Self::Incompatible { .. })
    }

    /// The durable that passes over messages, if it is about one.
    #[must_use]
    pub fn skipping(&self) -> Option<SkippingDurable> {
        match self {
            Self::Incompatible { skipping, .. } => *skipping,
            _ => None,
        }
    }

    /// With the setting that decides where JetStream is looked for.
    pub(crate) fn no_jetstream(settings: Option<&BrokerSettings>, error: &impl fmt::Display) -> Self {
        let elsewhere =
            settings.and_then(|settings| match (&settings.jetstream_domain, &settings.api_prefix) {
                (Some(domain), _) => Some(("broker.jetstream_domain", domain)),
                (None, prefix) => Some(("broker.api_prefix", prefix.as_ref()?)),
            });
        let start = "start it with JetStream (nats-server -js), and enable it for the account";
        let remedy = match elsewhere {
            Some((key, value)) => format!(
                "see that {key} = {value:?} is what the server or the import of its account has, or remove it where JetStream is \
                 neither in a domain nor behind a prefix; else {start}"
            ),
            None => start.to_owned(),
        };
        Self::NoJetStream { error: error.to_string(), remedy }
    }

    /// With the remedy that goes with the code.
    pub(crate) fn refused(call: &'static str, error: &jetstream::Error) -> Self {
        let (code, words) = (error.error_code().0, error.to_string());
        Self::Refused { call, code, remedy: limits::remedy(code, &words).to_owned(), words }
    }

    pub(crate) fn call(call: &'static str, error: &impl fmt::Display) -> Self {
        Self::Call { call, error: error.to_string() }
    }
}

/// As the user that the URL names: the client itself does not look there. Of several servers the first that names one
/// counts for all. A user without a password is a token.
fn authenticated(servers: &[Server]) -> ConnectOptions {
    match servers.iter().find_map(|server| server.login.clone()) {
        Some((user, Some(password))) => ConnectOptions::with_user_and_password(user, password),
        Some((token, None)) => ConnectOptions::with_token(token),
        None => ConnectOptions::new(),
    }
}

/// JetStream, in the domain or behind the prefix of the settings.
#[must_use]
pub fn context(client: &Client, settings: &BrokerSettings) -> jetstream::Context {
    match (&settings.jetstream_domain, &settings.api_prefix) {
        (Some(domain), _) => jetstream::with_domain(client.clone(), domain),
        (None, Some(prefix)) => jetstream::with_prefix(client.clone(), prefix),
        (None, None) => jetstream::new(client.clone()),
    }
}

/// Checks what can be checked of the settings without a server.
///
/// # Errors
/// When no URL is set, it cannot be parsed, or a file that is named cannot be used.
pub async fn check(settings: &BrokerSettings) -> Result<(), BrokerError> {
    prepared(settings).await.map(drop)
}

async fn prepared(settings: &BrokerSettings) -> Result<(Vec<ServerAddr>, ConnectOptions), BrokerError> {
    let url = settings.url.as_ref().ok_or(BrokerError::NotConfigured)?;
    let servers = url.nats().map_err(|error| BrokerError::Url(error.to_string()))?;
    let options = access::granted(authenticated(&servers), settings).await?;
    let addresses = servers.iter().map(|server| server.address.parse());
    let addresses = addresses.collect::<Result<_, _>>();
    Ok((addresses.map_err(|_| BrokerError::Url("it cannot be used".to_owned()))?, options))
}

/// Connects, once: a broker that is away at boot is an error with a remedy. After later outages it reconnects without limit.
///
/// # Errors
/// When no URL is set, it cannot be parsed, the server cannot be reached, or takes no messages as large as ours.
pub async fn connect(settings: &BrokerSettings, name: &str) -> Result<Client, BrokerError> {
    let (servers, options) = prepared(settings).await?;
    let options = options
        .name(name)
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempt| {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
            Duration::from_millis(10).saturating_mul(2_u32.saturating_pow(attempt)).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(async |event| match event {
            Event::Connected => tracing::debug!("connected to the broker"),
            // What we do ourselves at the end.
            Event::Draining | Event::Closed => tracing::debug!("closing the connection to the broker"),
            Event::Disconnected => tracing::warn!("lost the connection to the broker; reconnecting"),
            // Expected on every attempt of an outage; the disconnect has been logged.
            Event::ClientError(error) => tracing::debug!(%error, "broker client"),
            event => tracing::warn!(%event, "broker"),
        });
    let client = options.connect(servers).await.map_err(|error| {
        let error = errors::line(&error);
        // What rustls says of an answer that is not TLS.
        let plain = error.contains("InvalidContentType");
        BrokerError::Connect {
            url: settings.url.as_ref().map(ToString::to_string).unwrap_or_default(),
            error: if plain { format!("{error}: the server does not speak TLS at this port") } else { error },
        }
    })?;
    limits::takes_messages(&client)?;
    Ok(client)
}
