//! Who asks: in the way that the settings say.

use std::{collections::BTreeSet, fs};

use axum::http::{HeaderMap, HeaderName, request::Parts};
use common::{
    service::{ServiceError, ServiceErrorKind},
    settings::{AuthKind, OperatorSettings, UsageError},
};
use threadline::{ActorRef, ActorType, query::Scope};

use super::{jwt::Jwt, open::Open, refused::Refused, signed::Signed};
use crate::{Ask, Capability, Denied, Grant, OperatorAuth};

/// One of the three ways.
#[derive(Debug)]
pub(super) enum Auth {
    Open(Open),
    Jwt(Box<Jwt>),
    Signed(Signed),
}

impl Auth {
    /// By the settings, which have been checked. Files that they name are read; no server is asked.
    pub(super) fn of(operator: &OperatorSettings) -> Result<Self, ServiceError> {
        let auth = &operator.auth;
        match auth.kind {
            None => Err(misused(
                "operator.auth.kind is not set, and without it nobody may see anything: \"none\" lets in whoever reaches this machine's own \
                 address (--set operator.auth.kind=none), \"jwt\" whom a proxy's token names, \"signed\" whom an application's signed header names",
            )),
            Some(AuthKind::None) => Open::of(operator).map(Self::Open),
            Some(AuthKind::Jwt) => Jwt::of(&auth.jwt).map(|jwt| Self::Jwt(Box::new(jwt))),
            Some(AuthKind::Signed) => Signed::of(&auth.signed).map(Self::Signed),
        }
    }
}

impl OperatorAuth for Auth {
    async fn authorize(&self, parts: &Parts, _ask: Ask) -> Result<Grant, Denied> {
        let granted = match self {
            Self::Open(open) => open.grant(parts),
            Self::Jwt(jwt) => jwt.grant(parts).await,
            Self::Signed(signed) => signed.grant(parts),
        };
        granted.map_err(Refused::denied)
    }
}

/// Settings that cannot be used.
pub(super) fn misused(text: impl Into<String>) -> ServiceError {
    let error = ServiceError::new(UsageError(text.into()));
    debug_assert_eq!(error.kind(), ServiceErrorKind::Misconfigured);
    error
}

/// The text of a file that a key of the settings names.
pub(super) fn read(key: &str, path: &str) -> Result<String, ServiceError> {
    fs::read_to_string(path).map_err(|error| misused(format!("{key}: cannot read {path}: {error}")))
}

/// A header that has to be there once.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Refused::Missing)?;
    if values.next().is_some() {
        return Err(Refused::Twice);
    }
    value.to_str().map_err(|_| Refused::Unreadable)
}

/// The capability of this name.
pub(super) fn capability(name: &str) -> Option<Capability> {
    Capability::ALL.into_iter().find(|capability| capability.as_str() == name)
}

/// Capabilities that a key of the settings names.
pub(super) fn capabilities<'a>(
    key: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<BTreeSet<Capability>, ServiceError> {
    let known = || Capability::ALL.map(Capability::as_str).join(", ");
    let read = |name: &String| {
        capability(name).ok_or_else(|| misused(format!("{key}: {name:?} is none of {}", known())))
    };
    names.into_iter().map(read).collect()
}

/// An actor as `type:id`, or `anonymous`.
pub(super) fn actor(text: &str) -> Option<ActorRef> {
    if text == ActorType::Anonymous.as_str() {
        return Some(ActorRef::anonymous());
    }
    let (kind, id) = text.split_once(':')?;
    ActorRef::new(kind.parse().ok()?, Some(id)).ok().filter(is_storable)
}

/// Whether PostgreSQL can hold it.
pub(super) fn is_storable(actor: &ActorRef) -> bool {
    !actor.id().is_some_and(|id| id.contains('\0'))
}

/// What has this text under this key of its context. What is empty is no tenant: it would be shared by all who have none.
pub(super) fn scope(key: &str, value: &str) -> Result<Scope, Refused> {
    let is_one = |text: &str| !text.trim().is_empty() && !text.contains('\0');
    if is_one(key) && is_one(value) { Ok(Scope::of_context(key, value)) } else { Err(Refused::Scope) }
}
