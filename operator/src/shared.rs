//! What all requests share.

use std::{fmt, sync::Mutex, time::Instant};

use futures::future::{self, BoxFuture};
use sqlx::PgPool;
use threadline::{StorageSchema, coverage::Expectations, doctor, storage::Location};

#[cfg(feature = "pipeline")]
use crate::source::Source;
use crate::{
    Capability, Limits, Policies,
    auth::Auth,
    feeds::Feeds,
    kept::{Kept, Seen},
    limits::Turns,
    viewings::Viewings,
};

/// The end of the service.
pub(crate) type Ended = future::Shared<BoxFuture<'static, ()>>;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) pool: PgPool,
    /// Connections of pages that follow the timeline.
    pub(crate) following: PgPool,
    /// Connections for what is done; none where nothing can be.
    pub(crate) writer: Option<PgPool>,
    pub(crate) schema: StorageSchema,
    pub(crate) limits: Limits,
    pub(crate) turns: Turns,
    /// Streams that are open.
    pub(crate) tails: Turns,
    /// What they follow.
    pub(crate) feeds: Feeds,
    /// When they end, whatever they have.
    pub(crate) ended: Ended,
    pub(crate) title: String,
    pub(crate) csp_report: Option<String>,
    /// The pipeline's database; none where the host has not said which.
    #[cfg(feature = "pipeline")]
    pub(crate) source: Option<Source>,
    /// What the host has configured.
    pub(crate) policies: Option<Policies>,
    /// The folder that exports are stored in.
    pub(crate) exports: Option<Location>,
    /// Records who has looked.
    pub(crate) viewings: Option<Viewings>,
    /// Coverage as it was read last.
    pub(crate) coverage: Kept<Seen>,
    /// The checks, the same.
    pub(crate) checks: Kept<doctor::Report>,
    /// When receipts were verified last.
    pub(crate) verifying: Mutex<Option<Instant>>,
    /// Files and exports that are being handed out.
    pub(crate) downloads: Turns,
    pub(crate) auth: Auth,
}

impl Shared {
    /// What the host expects of its tables; nothing where it has not said so.
    pub(crate) fn expectations(&self) -> Expectations {
        self.policies.as_ref().map_or_else(Expectations::default, |host| host.expectations.clone())
    }

    /// Whether there is anything to show behind this capability.
    pub(crate) fn offers(&self, capability: Capability) -> bool {
        match capability {
            #[cfg(feature = "pipeline")]
            Capability::Pipeline => self.source.is_some(),
            #[cfg(feature = "pipeline")]
            Capability::Redrive => self.source.as_ref().is_some_and(Source::can_redrive),
            #[cfg(not(feature = "pipeline"))]
            Capability::Pipeline | Capability::Redrive => false,
            _ => true,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("schema", &self.schema)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
