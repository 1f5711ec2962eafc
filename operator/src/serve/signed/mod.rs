//! Who asks stands in a header that an application signs for each request that it passes on.
//!
//! `v1.PAYLOAD.MAC`: the payload is JSON in base64url without padding, the MAC that of `v1.PAYLOAD` by HMAC-SHA-256, in hexadecimal digits. It is
//! good for one method, path and query, and for a minute at most; what is sent (POST) carries a nonce, which is accepted once.

mod nonces;
mod secrets;

use std::collections::BTreeMap;

use axum::http::{HeaderName, Method, request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{service::ServiceError, settings::SignedSettings};
use ring::digest;
use serde::Deserialize;
use threadline::query::Scope;
use time::OffsetDateTime;

use self::{nonces::Nonces, secrets::Secrets};
use super::{
    auth::{actor, capability, misused, only, scope},
    refused::Refused,
};
use crate::Grant;

/// The longest header.
const BYTES_MAX: usize = 8 * 1024;

/// For how long from now a header may be good, in seconds.
const EXPIRES_MAX: i64 = 60;

/// How many characters a nonce has.
const NONCE: std::ops::RangeInclusive<usize> = 16..=128;

#[derive(Debug)]
pub(super) struct Signed {
    header: HeaderName,
    secrets: Secrets,
    nonces: Nonces,
}

/// What is signed. A key that is not known is refused: it may say less than somebody believes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// The id of the key.
    kid: String,
    method: String,
    /// As it arrives here, behind everything that a proxy cuts.
    path: String,
    /// The SHA-256 of what stands behind the question mark, as it arrives here, in hexadecimal digits; of nothing where there is none.
    query: String,
    /// `type:id`.
    actor: String,
    label: Option<String>,
    scope: ScopeText,
    #[serde(default)]
    capabilities: Vec<String>,
    /// Seconds since 1970.
    expires: i64,
    nonce: Option<String>,
}

/// `"everything"`, or one key of the context and its value.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ScopeText {
    Word(String),
    Context(BTreeMap<String, String>),
}

impl Signed {
    pub(super) fn of(settings: &SignedSettings) -> Result<Self, ServiceError> {
        let header = HeaderName::try_from(settings.header.as_str())
            .map_err(|_| misused("operator.auth.signed.header is no name of a header"))?;
        Ok(Self { header, secrets: Secrets::of(settings)?, nonces: Nonces::default() })
    }

    pub(super) fn grant(&self, parts: &Parts) -> Result<Grant, Refused> {
        self.grant_at(parts, OffsetDateTime::now_utc())
    }

    fn grant_at(&self, parts: &Parts, now: OffsetDateTime) -> Result<Grant, Refused> {
        let text = only(&parts.headers, &self.header)?;
        if text.len() > BYTES_MAX {
            return Err(Refused::Unreadable);
        }
        let (signed, mac) = text.rsplit_once('.').ok_or(Refused::Unreadable)?;
        let encoded = signed.strip_prefix("v1.").ok_or(Refused::Algorithm)?;
        let mac = hex::decode(mac).map_err(|_| Refused::Unreadable)?;
        // Nothing is read of what is signed by nobody.
        let key = self.secrets.signer(signed.as_bytes(), &mac).ok_or(Refused::Signature)?;
        let payload = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Refused::Unreadable)?;
        let payload: Payload = serde_json::from_slice(&payload).map_err(|_| Refused::Unreadable)?;
        if payload.kid != key {
            return Err(Refused::Key);
        }
        let now = now.unix_timestamp();
        if payload.expires <= now {
            return Err(Refused::Expired);
        }
        if payload.expires > now.saturating_add(EXPIRES_MAX) {
            return Err(Refused::NotYet);
        }
        payload.is_for(parts)?;
        let grant = payload.grant()?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let nonce = payload.nonce.as_deref().filter(|nonce| NONCE.contains(&nonce.len()));
            let nonce = nonce.ok_or(Refused::Unreadable)?;
            self.nonces.accept(nonce, payload.expires, now)?;
        }
        Ok(grant)
    }
}

impl Payload {
    fn is_for(&self, parts: &Parts) -> Result<(), Refused> {
        let query = parts.uri.query().unwrap_or_default();
        let query = hex::encode(digest::digest(&digest::SHA256, query.as_bytes()));
        let is_for =
            self.method == parts.method.as_str() && self.path == parts.uri.path() && self.query == query;
        if is_for { Ok(()) } else { Err(Refused::OtherRequest) }
    }

    fn grant(&self) -> Result<Grant, Refused> {
        let seen = match &self.scope {
            ScopeText::Word(word) if word == "everything" => Scope::everything(),
            ScopeText::Context(context) if context.len() == 1 => {
                let (key, value) = context.first_key_value().ok_or(Refused::Scope)?;
                scope(key, value)?
            }
            ScopeText::Word(_) | ScopeText::Context(_) => return Err(Refused::Scope),
        };
        let mut grant = Grant::new(actor(&self.actor).ok_or(Refused::Actor)?, seen);
        for name in &self.capabilities {
            grant = grant.allow(capability(name).ok_or(Refused::Capability)?);
        }
        if let Some(label) = &self.label {
            grant = grant.label(label);
        }
        let ends_at = OffsetDateTime::from_unix_timestamp(self.expires).map_err(|_| Refused::Unreadable)?;
        Ok(grant.valid_until(ends_at))
    }
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
