//! Who may see what: the host says it, for every request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::http::request::Parts;
use futures::future::{BoxFuture, FutureExt as _};
use threadline::{ActorRef, query::Scope};
use time::OffsetDateTime;

use crate::Surface;

/// Decides about every request. There is no implementation that lets everybody in.
///
/// A panic and an answer that takes longer than [`Limits::authorize`](crate::Limits::authorize) count as a denial.
pub trait OperatorAuth: Send + Sync + 'static {
    /// What whoever asks may see, or why they may not. `parts` have what layers of the host's have put into their extensions.
    fn authorize(&self, parts: &Parts, ask: Ask) -> impl Future<Output = Result<Grant, Denied>> + Send;
}

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Ask {
    /// Where it leads.
    pub surface: Surface,
    /// What the grant has to allow, so that it is answered.
    pub capability: Capability,
}

/// What a grant can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// The timeline, as far as the scope shows it. Every grant allows it.
    Read,
    /// Own saved views.
    Views,
    /// Exports of one's own, within the scope.
    Export,
    /// Which tables are captured. It is about all of the database: the scope has to be everything.
    Coverage,
    /// What is redacted, and for how long what is kept; the same.
    Policies,
    /// What was recorded of the audit itself; the same.
    Evidence,
    /// The pipeline, its failures, and the way of an event; the same.
    Pipeline,
    /// To have failed events delivered again. It changes no row, and is off in every grant that does not name it.
    Redrive,
    /// To compare the timeline with its source, and receipts with the timeline.
    Verify,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Views,
        Self::Export,
        Self::Coverage,
        Self::Policies,
        Self::Evidence,
        Self::Pipeline,
        Self::Redrive,
        Self::Verify,
    ];

    /// Its name, in settings and in what a page that is closed says.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Views => "views",
            Self::Export => "export",
            Self::Coverage => "coverage",
            Self::Policies => "policies",
            Self::Evidence => "evidence",
            Self::Pipeline => "pipeline",
            Self::Redrive => "redrive",
            Self::Verify => "verify",
        }
    }

    /// Whether what it opens belongs to no tenant, so that only who sees everything may see it.
    #[must_use]
    pub fn needs_everything(self) -> bool {
        !matches!(self, Self::Read | Self::Views | Self::Export)
    }
}

/// What somebody may see and do.
#[derive(Debug, Clone)]
pub struct Grant {
    actor: ActorRef,
    label: String,
    scope: Scope,
    capabilities: BTreeSet<Capability>,
    valid_until: Option<OffsetDateTime>,
}

impl Grant {
    /// To read the timeline as far as `scope` shows it, and nothing else. What `actor` does is recorded under that name.
    #[must_use]
    pub fn new(actor: ActorRef, scope: Scope) -> Self {
        let label = actor.to_string();
        Self { actor, label, scope, capabilities: BTreeSet::from([Capability::Read]), valid_until: None }
    }

    /// What the surface calls whoever asks; without it, the actor.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Allows more.
    #[must_use]
    pub fn allow(mut self, capability: Capability) -> Self {
        self.capabilities.insert(capability);
        self
    }

    /// Until when it is good: what streams ends then.
    #[must_use]
    pub fn valid_until(self, time: OffsetDateTime) -> Self {
        Self { valid_until: Some(time), ..self }
    }

    /// Whether it allows this: where it is about everything, only together with a scope that is everything.
    #[must_use]
    pub fn allows(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
            && (!capability.needs_everything() || self.scope.is_everything())
            && self.valid_until.is_none_or(|until| until > OffsetDateTime::now_utc())
    }

    /// Who it is for.
    #[must_use]
    pub fn actor(&self) -> &ActorRef {
        &self.actor
    }

    /// What the surface calls whoever it is for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.label
    }

    /// What of the timeline it shows.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How long what streams may go on that begins at this time: as long as it is good, and `at_most`.
    pub(crate) fn lasts(&self, now: OffsetDateTime, at_most: Duration) -> Duration {
        let left = |end| Duration::try_from(end - now).unwrap_or_default();
        self.ends_at().map_or(at_most, |end| left(end).min(at_most))
    }

    pub(crate) fn ends_at(&self) -> Option<OffsetDateTime> {
        self.valid_until
    }
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub(crate) text: String,
    pub(crate) login: Option<String>,
}

impl Denied {
    /// What the page says: what is missing, and who can be asked for it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), login: None }
    }

    /// Leads whoever opens a page there instead, such as to the host's login. The place is the host's, and no part of a request.
    #[must_use]
    pub fn redirect(self, login: impl Into<String>) -> Self {
        Self { login: Some(login.into()), ..self }
    }
}

/// [`OperatorAuth`] as an object.
pub(crate) trait Authorize: Send + Sync {
    fn authorize<'a>(&'a self, parts: &'a Parts, ask: Ask) -> BoxFuture<'a, Result<Grant, Denied>>;
}

impl<A: OperatorAuth> Authorize for A {
    fn authorize<'a>(&'a self, parts: &'a Parts, ask: Ask) -> BoxFuture<'a, Result<Grant, Denied>> {
        OperatorAuth::authorize(self, parts, ask).boxed()
    }
}

pub(crate) type Auth = Arc<dyn Authorize>;
