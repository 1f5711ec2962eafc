//! The keys of the issuer: a JSON Web Key Set (RFC 7517), read from a file or an address, and kept.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use common::{
    service::ServiceError,
    settings::{ConnectionUrl, JwtSettings},
};
use reqwest::Client;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::token::{Algorithm, Token, chosen, decoded};
use crate::serve::{
    auth::{misused, read},
    refused::Refused,
};

/// Between two times that the keys are asked for: so many tokens with an unknown key make no more requests.
const PAUSE: Duration = Duration::from_secs(10);

/// After this time the keys are asked for again, so that one that was withdrawn does not count for long.
const AGE_MAX: Duration = Duration::from_secs(600);

/// How long an answer with keys may take. It is less than a request may wait for who asks.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The largest set of keys.
const BYTES_MAX: usize = 256 * 1024;

/// A key that signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) public: Public,
    /// The only algorithm it is for, where the set says so.
    algorithm: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Key {
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match self.public {
            Public::Rsa { .. } => Algorithm::Rs256,
            Public::P256(_) => Algorithm::Es256,
            Public::Ed25519(_) => Algorithm::EdDsa,
        };
        kind == algorithm
            && self.algorithm.as_deref().is_none_or(|name| Algorithm::of(name) == Some(algorithm))
    }
}

/// Where the keys are, and those that were there last.
#[derive(Debug)]
pub(super) struct Keys {
    origin: Origin,
    known: RwLock<Arc<Vec<Key>>>,
    /// When they were asked for last, and when they came last. Whoever holds it asks, and all others wait for that.
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    at: Option<Instant>,
    answered_at: Option<Instant>,
}

#[derive(Debug)]
enum Origin {
    File(String),
    Address { client: Client, url: ConnectionUrl },
}

impl Keys {
    /// A file is read now; an address is asked at the first token.
    pub(super) fn of(settings: &JwtSettings) -> Result<Self, ServiceError> {
        let (origin, keys) = match (&settings.jwks_file, &settings.jwks_url) {
            (Some(path), _) => {
                let keys = parsed(&read("operator.auth.jwt.jwks_file", path)?)
                    .map_err(|error| misused(format!("operator.auth.jwt.jwks_file: {path} {error}")))?;
                (Origin::File(path.clone()), keys)
            }
            (None, Some(url)) => {
                let client = Client::builder()
                    .redirect(reqwest::redirect::Policy::none())
                    .timeout(ANSWER_MAX)
                    .build()
                    .map_err(ServiceError::new)?;
                (Origin::Address { client, url: url.clone() }, Vec::new())
            }
            (None, None) => return Err(misused("neither operator.auth.jwt.jwks_file nor jwks_url is set")),
        };
        Ok(Self { origin, known: RwLock::new(Arc::new(keys)), asked: Mutex::default() })
    }

    /// The keys, with that of the token where the issuer has it.
    pub(super) async fn for_token(&self, token: &Token<'_>) -> Result<Arc<Vec<Key>>, Refused> {
        let has_it = |keys: &[Key]| chosen(token, keys).is_some();
        let known = self.known();
        let mut asked = match self.asked.try_lock() {
            // Somebody asks for them at this moment; whoever needs none of the answer does not wait for it.
            Err(_) if has_it(&known) => return Ok(known),
            Err(_) => self.asked.lock().await,
            Ok(asked) => asked,
        };
        let known = self.known();
        let is_old = asked.answered_at.is_none_or(|at| at.elapsed() > AGE_MAX);
        let may_ask = asked.at.is_none_or(|at| at.elapsed() > PAUSE);
        if may_ask && (is_old || !has_it(&known)) {
            asked.at = Some(Instant::now());
            match self.ask().await {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "the keys of the issuer were read");
                    asked.answered_at = Some(Instant::now());
                    *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
                }
                // Those that are known go on to count: an issuer that is away locks out nobody.
                Err(error) => tracing::warn!(%error, "the keys of the issuer could not be read"),
            }
        }
        let known = self.known();
        if known.is_empty() { Err(Refused::NoKeys) } else { Ok(known) }
    }

    fn known(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self) -> Result<Vec<Key>, String> {
        match &self.origin {
            Origin::File(path) => {
                parsed(&std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?)
            }
            Origin::Address { client, url } => {
                let asked =
                    client.get(url.expose()).send().await.and_then(reqwest::Response::error_for_status);
                let mut response = asked.map_err(|error| errors::line(&error.without_url()))?;
                let mut body = Vec::new();
                while let Some(part) =
                    response.chunk().await.map_err(|error| errors::line(&error.without_url()))?
                {
                    body.extend_from_slice(&part);
                    if body.len() > BYTES_MAX {
                        return Err(format!("the answer has more than {BYTES_MAX} bytes"));
                    }
                }
                parsed(&String::from_utf8_lossy(&body))
            }
        }
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that can sign tokens. Others, such as those for encryption and of other kinds, are left out.
pub(super) fn parsed(text: &str) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON Web Key Set (an object with a list `keys`): {error}"))?;
    let keys: Vec<Key> = set.keys.into_iter().filter_map(key).collect();
    if keys.is_empty() {
        return Err("has no key that RS256, ES256 or EdDSA could be verified with".to_owned());
    }
    Ok(keys)
}

fn key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let bytes = |part: &Option<String>| decoded(part.as_deref()?).ok();
    let of_32 = |part: &Option<String>| bytes(part).filter(|bytes| bytes.len() == 32);
    let public = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Public::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? },
        ("EC", Some("P-256")) => {
            // An uncompressed point.
            Public::P256([vec![4], of_32(&jwk.x)?, of_32(&jwk.y)?].concat())
        }
        ("OKP", Some("Ed25519")) => Public::Ed25519(of_32(&jwk.x)?),
        _ => return None,
    };
    Some(Key { kid: jwk.kid, public, algorithm: jwk.alg })
}
