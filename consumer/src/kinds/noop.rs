//! Acknowledges without effect: to measure the pipeline without a target, or to switch a forwarder off and keep its place.

use std::sync::Arc;

use common::{
    event::AuditEvent,
    settings::{ForwarderSettings, Settings},
};
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::forwarder::{
    self, ConfigureError, ForwardError, Forwarder, ForwarderFactory, ForwarderKind, Verdict,
};

/// The kind `noop`.
#[derive(Debug, Clone, Copy)]
pub struct Noop;

/// It has no options; unknown ones are mistakes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {}

impl ForwarderKind for Noop {
    fn configure(
        &self,
        forwarder: &ForwarderSettings,
        _: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        forwarder::options::<Options>(forwarder)?;
        Ok(Arc::new(Self))
    }
}

impl ForwarderFactory for Noop {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(Self)
    }

    /// It reads nothing, so its role need not be allowed to read anything for it.
    fn columns(&self) -> &[&str] {
        &[]
    }
}

impl Forwarder for Noop {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        let verdicts = vec![Verdict::Delivered; events.len()];
        Box::pin(async { Ok(verdicts) })
    }
}
