//! A JSON Web Token: read, its signature verified, and the claims that say whom it is for and when (RFC 7515, 7519, 8725).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::settings::JwtSettings;
use ring::signature;
use serde::Deserialize;
use serde_json::{Map, Value};
use time::{Duration, OffsetDateTime};

use super::keys::{Key, Public};
use crate::serve::refused::Refused;

/// The longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What is asked of every token.
#[derive(Debug)]
pub(super) struct Rules {
    algorithms: Vec<Algorithm>,
    issuer: String,
    audience: String,
    leeway: Duration,
}

/// How a token may be signed. There are no others: neither `none`, nor those with a secret that both sides have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// A token of which nothing is verified.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// Header and claims, as they are signed.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// The claims of a token that counts.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) all: Map<String, Value>,
    /// Until when.
    pub(super) ends_at: OffsetDateTime,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that have to be understood: none is.
    crit: Option<Value>,
}

impl Algorithm {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl Rules {
    pub(super) fn of(settings: &JwtSettings) -> Self {
        Self {
            algorithms: settings.algorithms.iter().filter_map(|name| Algorithm::of(name)).collect(),
            issuer: settings.issuer.clone().unwrap_or_default(),
            audience: settings.audience.clone().unwrap_or_default(),
            leeway: Duration::try_from(settings.leeway).unwrap_or_default(),
        }
    }

    /// Takes a token apart. One that is signed in a way that does not count ends here.
    pub(super) fn read<'a>(&self, text: &'a str) -> Result<Token<'a>, Refused> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refused::Unreadable);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refused::Unreadable)?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Unreadable)?;
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| Refused::Unreadable)?;
        if header.crit.is_some() {
            return Err(Refused::Algorithm);
        }
        let algorithm = Algorithm::of(&header.alg)
            .filter(|algorithm| self.algorithms.contains(algorithm))
            .ok_or(Refused::Algorithm)?;
        Ok(Token { algorithm, kid: header.kid, signed, claims, signature: decoded(signature)? })
    }

    /// Its claims, where one of the keys has signed it, and it counts here and now.
    pub(super) fn verified(
        &self,
        token: &Token<'_>,
        keys: &[Key],
        now: OffsetDateTime,
    ) -> Result<Claims, Refused> {
        let key = chosen(token, keys).ok_or(Refused::Key)?;
        signature_holds(token, key).map_err(|ring::error::Unspecified| Refused::Signature)?;
        let all: Map<String, Value> =
            serde_json::from_slice(&decoded(token.claims)?).map_err(|_| Refused::Unreadable)?;
        if all.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(Refused::Issuer);
        }
        let is_ours = |audience: &Value| audience.as_str() == Some(&self.audience);
        let for_us = match all.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !for_us {
            return Err(Refused::Audience);
        }
        let ends_at = time_of(&all, "exp")?.ok_or(Refused::Expired)?.saturating_add(self.leeway);
        if now >= ends_at {
            return Err(Refused::Expired);
        }
        let latest = now.saturating_add(self.leeway);
        for claim in ["nbf", "iat"] {
            if time_of(&all, claim)?.is_some_and(|begin| begin > latest) {
                return Err(Refused::NotYet);
            }
        }
        Ok(Claims { all, ends_at })
    }
}

/// The key of a token: the one that it names, or, where it names none, the only one that could be.
pub(super) fn chosen<'a>(token: &Token<'_>, keys: &'a [Key]) -> Option<&'a Key> {
    let mut fitting =
        keys.iter().filter(|key| key.fits(token.algorithm) && (token.kid.is_none() || key.kid == token.kid));
    let key = fitting.next()?;
    fitting.next().is_none().then_some(key)
}

fn signature_holds(token: &Token<'_>, key: &Key) -> Result<(), ring::error::Unspecified> {
    let (message, signed) = (token.signed.as_bytes(), token.signature.as_slice());
    match &key.public {
        Public::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }.verify(
            &signature::RSA_PKCS1_2048_8192_SHA256,
            message,
            signed,
        ),
        Public::P256(point) => signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
            .verify(message, signed),
        Public::Ed25519(point) => {
            signature::UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signed)
        }
    }
}

/// A time in seconds, where the claim is there.
fn time_of(claims: &Map<String, Value>, name: &str) -> Result<Option<OffsetDateTime>, Refused> {
    #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second, or a time that is refused")]
    let seconds = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64));
    claims
        .get(name)
        .map(|value| {
            let seconds = seconds(value).ok_or(Refused::Unreadable)?;
            OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Refused::Unreadable)
        })
        .transpose()
}

pub(super) fn decoded(part: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Unreadable)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
