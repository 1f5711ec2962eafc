//! A request whose sender may be answered, as the pages see it.

use std::sync::Arc;

use futures::future::BoxFuture;
use maud::Markup;
use serde::Serialize;
use threadline::{
    ActorType, Timeline,
    query::{Cursor, From, Reader},
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Capability, Grant,
    answer::Answer,
    failure::Failure,
    kept::{FRESH, FRESH_AT_LEAST},
    links::Links,
    pairs::Pairs,
    preferences::Preferences,
    shared::Shared,
    view::View,
};

/// A request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) shared: Arc<Shared>,
    pub(crate) grant: Grant,
    pub(crate) links: Links,
    pub(crate) preferences: Preferences,
    /// The query of its URL.
    pub(crate) query: Pairs,
    /// The path within the surface, without the slash at its beginning.
    pub(crate) path: String,
    /// What was sent with it.
    pub(crate) form: Pairs,
    /// The last event of a stream that a browser has had.
    pub(crate) last_event: Option<String>,
    /// When it came.
    pub(crate) now: OffsetDateTime,
    /// Whether it came over TLS, as far as a browser says.
    pub(crate) is_secure: bool,
}

/// What becomes of a request.
pub(crate) type Answered = Result<Answer, Failure>;

/// Answers one request.
pub(crate) type Handler = fn(Asked) -> BoxFuture<'static, Answered>;

impl Asked {
    /// The timeline, as far as the grant shows it.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.shared.pool.clone(), self.shared.schema.clone(), self.grant.scope().clone())
    }

    /// The same over connections of their own: whoever follows keeps nobody waiting who reads.
    pub(crate) fn follower(&self) -> Reader {
        Reader::new(self.shared.following.clone(), self.shared.schema.clone(), self.grant.scope().clone())
    }

    /// The timeline whatever the scope, for what belongs to no tenant: where the grant allows something that needs everything.
    pub(crate) fn whole(&self, capability: Capability) -> Option<Timeline> {
        let is_open = capability.needs_everything() && self.grant.allows(capability);
        is_open.then(|| self.timeline())
    }

    /// The timeline, to do something to it.
    pub(crate) fn writer(&self) -> Result<Timeline, Failure> {
        let pool = self.shared.writer.clone().ok_or_else(|| {
            Failure::unusable(
                "read_only",
                "Nothing can be done here: this surface was given no connection that may write (`Operator::writing`).",
            )
        })?;
        Ok(Timeline::new(pool, self.shared.schema.clone()))
    }

    /// Whether something can be done that needs this.
    pub(crate) fn may_do(&self, capability: Capability) -> bool {
        self.shared.writer.is_some() && self.grant.allows(capability)
    }

    /// Whose views are shown, and saved: of nobody who is anonymous.
    pub(crate) fn has_views(&self) -> bool {
        self.may_do(Capability::Views) && self.grant.actor().kind() != ActorType::Anonymous
    }

    /// How new something has to be that somebody else has read.
    pub(crate) fn fresh(&self) -> Duration {
        if self.query.is("refresh", "1") { FRESH_AT_LEAST } else { FRESH }
    }

    /// The timeline for what a reader's functions do not read. What belongs to no tenant is read with it, or what was compared with the scope before.
    pub(crate) fn timeline(&self) -> Timeline {
        Timeline::new(self.shared.pool.clone(), self.shared.schema.clone())
    }

    /// Answers with a page, or with what it is made of as JSON.
    pub(crate) fn answer(
        &self,
        title: &str,
        data: &impl Serialize,
        body: impl FnOnce(&View<'_>) -> Markup,
    ) -> Answered {
        if self.query.is("format", "json") {
            return Ok(Answer::Json(serde_json::to_string(data).map_err(|error| {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Failure::Broken
            })?));
        }
        Ok(Answer::Page { title: title.to_owned(), body: body(&self.view()) })
    }

    /// Whether there is something behind a capability that this grant allows.
    pub(crate) fn may(&self, capability: Capability) -> bool {
        self.grant.allows(capability) && self.shared.offers(capability)
    }

    /// What pages are written with.
    pub(crate) fn view(&self) -> View<'_> {
        View { links: &self.links, preferences: &self.preferences, now: self.now }
    }

    /// The last part of the path, where it is an id.
    pub(crate) fn id(&self) -> Result<Uuid, Failure> {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        Uuid::try_parse(last).map_err(|_| Failure::NotFound)
    }

    /// Which page of several.
    pub(crate) fn from(&self) -> Result<From, Failure> {
        let cursor = |text: &str| {
            text.parse::<Cursor>().map_err(|error| Failure::unusable("invalid_cursor", error.to_string()))
        };
        Ok(match (self.query.get("older"), self.query.get("newer")) {
            (Some(older), _) => From::OlderThan(cursor(older)?),
            (None, Some(newer)) => From::NewerThan(cursor(newer)?),
            (None, None) => From::Newest,
        })
    }
}
