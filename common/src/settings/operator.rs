//! `[operator]`: the operator surface as a service of its own.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use connection_url::ConnectionUrl;

use super::{Listen, duration};

/// `[operator]`: what `threadline-serve` listens on, and who may see what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OperatorSettings {
    /// Where the pages are: an address, or `unix:` and the path of a socket.
    pub listen: Place,
    /// Address of /healthz, /readyz and /metrics, or "off".
    pub metrics_listen: Listen,
    /// What the pages are called.
    pub title: String,
    /// Origins besides the request's own whose forms are accepted: of a proxy that changes the header `Host`.
    pub trusted_origins: Vec<String>,
    /// The timeline by a role that may write what the pages do. Without it they only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_url: Option<ConnectionUrl>,
    /// The source by a role that may deliver failed events again. Without it nobody can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrive_url: Option<ConnectionUrl>,
    /// The folder of exports that were made in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exports_directory: Option<String>,
    /// An action when somebody looks: one for each actor and place in this time. Without it looking leaves nothing behind.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub record_views: Option<Duration>,
    /// From the end of one purge to the beginning of the next, for the page that says when that is.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub purges_every: Option<Duration>,
    /// Unready once the timeline could not be reached for so long.
    #[serde(with = "duration")]
    pub unready_after: Duration,
    /// What everything takes at most.
    pub limits: OperatorLimits,
    /// Who may see what.
    pub auth: OperatorAuthSettings,
}

impl Default for OperatorSettings {
    fn default() -> Self {
        Self {
            listen: Place::Address(SocketAddr::from(([127, 0, 0, 1], 4180))),
            metrics_listen: Listen::local(9_466),
            title: "Threadline".to_owned(),
            trusted_origins: Vec::new(),
            writer_url: None,
            redrive_url: None,
            exports_directory: None,
            record_views: None,
            purges_every: None,
            unready_after: Duration::from_secs(60),
            limits: OperatorLimits::default(),
            auth: OperatorAuthSettings::default(),
        }
    }
}

/// `[operator.limits]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OperatorLimits {
    /// Connections for reading.
    pub connections: u32,
    /// Requests of one actor that are answered at a time.
    pub requests_per_actor: usize,
    /// Pages that follow the timeline at a time.
    pub tails: usize,
    /// Longest time of a statement.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// Longest time of a request.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
}

impl Default for OperatorLimits {
    fn default() -> Self {
        Self {
            connections: 8,
            requests_per_actor: 4,
            tails: 20,
            statement_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(15),
        }
    }
}

/// `[operator.auth]`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OperatorAuthSettings {
    /// Which of the three. There is no default: whoever runs it decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuthKind>,
    /// Of `none`.
    pub none: NoAuthSettings,
    /// Of `jwt`.
    pub jwt: JwtSettings,
    /// Of `signed`.
    pub signed: SignedSettings,
}

/// How it is found out who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// It is not: whoever reaches the address or the socket is let in.
    None,
    /// A token that a proxy in front passes on, signed by an issuer.
    Jwt,
    /// A header that an application in front signs.
    Signed,
}

/// `[operator.auth.none]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NoAuthSettings {
    /// Who everybody is, `type:id`.
    pub actor: String,
    /// What everybody may do besides reading.
    pub capabilities: Vec<String>,
}

impl Default for NoAuthSettings {
    fn default() -> Self {
        let reading = ["coverage", "policies", "evidence", "pipeline"];
        Self { actor: "anonymous".to_owned(), capabilities: reading.map(str::to_owned).to_vec() }
    }
}

/// `[operator.auth.jwt]`. A claim is its name, or a JSON pointer (`/realm_access/roles`) where it begins with a slash.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JwtSettings {
    /// The header with the token; of `Authorization` behind the word `Bearer`.
    pub header: String,
    /// The issuer's keys, as a file (a JSON Web Key Set).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<String>,
    /// The same at an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<ConnectionUrl>,
    /// What the claim `iss` has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the claim `aud` has to be or to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Which signatures count.
    pub algorithms: Vec<String>,
    /// By how much the issuer's clock may differ.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Whose id the actor has.
    pub actor_claim: String,
    /// The type of all actors.
    pub actor_type: String,
    /// What the pages call whoever asks; without it, the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_claim: Option<String>,
    /// A text of words or a list: what whoever asks may do.
    pub roles_claim: String,
    /// The roles that allow a capability, by its name; without an entry, the role of the same name.
    pub capabilities: BTreeMap<String, Vec<String>>,
    /// The roles that see everything; `*` for every token.
    pub everything: Vec<String>,
    /// Which tenant all others see; without it, they see nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_claim: Option<String>,
    /// Under which key the context of a transaction has the tenant.
    pub scope_key: String,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            header: "Authorization".to_owned(),
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            audience: None,
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            leeway: Duration::from_secs(60),
            actor_claim: "sub".to_owned(),
            actor_type: "user".to_owned(),
            label_claim: None,
            roles_claim: "roles".to_owned(),
            capabilities: BTreeMap::new(),
            everything: Vec::new(),
            scope_claim: None,
            scope_key: "tenant".to_owned(),
        }
    }
}

/// `[operator.auth.signed]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SignedSettings {
    /// The header that the application signs.
    pub header: String,
    /// A file with one or two lines, each an id and a secret of at least 32 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<String>,
}

impl Default for SignedSettings {
    fn default() -> Self {
        Self { header: "X-Threadline-Grant".to_owned(), keys_file: None }
    }
}

/// Where pages are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// At this address; port 0 takes a free one and logs it.
    Address(SocketAddr),
    /// On a socket of the file system.
    Socket(PathBuf),
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Socket(PathBuf::from(path)));
        }
        text.parse().map(Self::Address).map_err(|_| {
            format!(
                "{text:?} is not an address such as 127.0.0.1:4180, and not unix: with an absolute path behind it"
            )
        })
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Place {
    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().is_loopback(),
            Self::Socket(_) => true,
        }
    }
}
