//! What a host has configured and no table of the timeline holds.

use std::time::Duration;

use threadline::{coverage::Expectations, retention};

/// What a host has configured: which tables it expects to be captured and how, and how long what is kept. Pages compare it with what is deployed, and
/// change nothing.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    pub(crate) expectations: Expectations,
    pub(crate) retention: Option<retention::Policy>,
    pub(crate) purges_every: Option<Duration>,
}

impl Policies {
    /// What is expected of tables, and what is captured of them.
    #[must_use]
    pub fn new(expectations: Expectations) -> Self {
        Self { expectations, ..Self::default() }
    }

    /// How long what is kept.
    #[must_use]
    pub fn retention(self, policy: retention::Policy) -> Self {
        Self { retention: Some(policy), ..self }
    }

    /// The time from the end of one purge to the beginning of the next.
    #[must_use]
    pub fn purges_every(self, interval: Duration) -> Self {
        Self { purges_every: Some(interval), ..self }
    }
}
