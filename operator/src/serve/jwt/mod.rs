//! Who asks stands in a token that a proxy passes on: signed by an issuer, for this application.

mod claims;
mod keys;
mod token;

use axum::http::{HeaderName, header, request::Parts};
use common::{service::ServiceError, settings::JwtSettings};
use time::OffsetDateTime;

use self::{claims::Mapping, keys::Keys, token::Rules};
use super::{
    auth::{misused, only},
    refused::Refused,
};
use crate::Grant;

/// The token, the keys, and what its claims mean.
#[derive(Debug)]
pub(super) struct Jwt {
    header: HeaderName,
    rules: Rules,
    keys: Keys,
    mapping: Mapping,
}

impl Jwt {
    pub(super) fn of(settings: &JwtSettings) -> Result<Self, ServiceError> {
        let header = HeaderName::try_from(settings.header.as_str())
            .map_err(|_| misused("operator.auth.jwt.header is no name of a header"))?;
        Ok(Self {
            header,
            rules: Rules::of(settings),
            keys: Keys::of(settings)?,
            mapping: Mapping::of(settings)?,
        })
    }

    pub(super) async fn grant(&self, parts: &Parts) -> Result<Grant, Refused> {
        let value = only(&parts.headers, &self.header)?;
        let text = if self.header == header::AUTHORIZATION {
            let (scheme, token) = value.split_once(' ').ok_or(Refused::Missing)?;
            Some(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer")).ok_or(Refused::Missing)?
        } else {
            value
        };
        let token = self.rules.read(text)?;
        let keys = self.keys.for_token(&token).await?;
        let now = OffsetDateTime::now_utc();
        let claims = self.rules.verified(&token, &keys, now)?;
        let grant = self.mapping.grant(&claims)?;
        Ok(grant.valid_until(claims.ends_at))
    }
}
