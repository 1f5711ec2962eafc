//! For tests of a host: a forwarder that follows a script, and a [`conformance`] suite for forwarders of its own. With the cargo
//! feature `testing`, as a dev-dependency.

pub mod conformance;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::{
    event::AuditEvent,
    settings::{ForwarderSettings, Settings},
};
use futures::future::BoxFuture;
use uuid::Uuid;

use crate::forwarder::{ConfigureError, ForwardError, Forwarder, ForwarderFactory, ForwarderKind, Verdict};

/// A forwarder without a target: gives the answers of a script in their order, and records what it was called with. All workers
/// and clones share both. It is a kind too, so that a test can register it in place of another one.
///
/// ```
/// use consumer::{prelude::*, testing::Scripted};
///
/// let scripted = Scripted::new([Err(ForwardError::unavailable("the archive is away"))]);
/// let mut registry = Registry::with_built_in();
/// registry.register("archive", scripted.clone());
/// // … a Service with this registry runs, and then:
/// assert!(scripted.calls().is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Scripted {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    answers: VecDeque<Result<Vec<Verdict>, ForwardError>>,
    calls: Vec<Vec<AuditEvent>>,
    delivered: HashSet<Uuid>,
}

impl Scripted {
    /// One answer for each call that is not empty. After the last one every event is delivered.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = Result<Vec<Verdict>, ForwardError>>) -> Self {
        let shared = Shared { answers: answers.into_iter().collect(), ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// The batches that it was called with, the first one first.
    #[must_use]
    pub fn calls(&self) -> Vec<Vec<AuditEvent>> {
        self.lock().calls.clone()
    }

    /// The events that it has said are delivered.
    #[must_use]
    pub fn delivered(&self) -> HashSet<Uuid> {
        self.lock().delivered.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn answer(&mut self, events: &[AuditEvent]) -> Result<Vec<Verdict>, ForwardError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.calls.push(events.to_vec());
        let verdicts = match self.answers.pop_front() {
            Some(scripted) => scripted?,
            None => events
                .iter()
                .map(|event| {
                    let is_known = self.delivered.contains(&event.id);
                    if is_known { Verdict::AlreadyDelivered } else { Verdict::Delivered }
                })
                .collect(),
        };
        for (event, verdict) in events.iter().zip(&verdicts) {
            if verdict.is_delivered() {
                self.delivered.insert(event.id);
            }
        }
        Ok(verdicts)
    }
}

impl ForwarderKind for Scripted {
    /// Takes any options.
    fn configure(
        &self,
        _: &ForwarderSettings,
        _: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        Ok(Arc::new(self.clone()))
    }
}

impl ForwarderFactory for Scripted {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(self.clone())
    }
}

impl Forwarder for Scripted {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        Box::pin(async { self.lock().answer(events) })
    }

    fn find_delivered<'a>(
        &'a mut self,
        events: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Uuid>, ForwardError>> {
        Box::pin(async {
            let delivered = &self.lock().delivered;
            Ok(events.iter().copied().filter(|event| delivered.contains(event)).collect())
        })
    }

    fn is_serving(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}
