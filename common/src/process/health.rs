//! Readiness means progress, not liveness: a process that runs and moves nothing is unready and says why.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::gauge;
use serde::Serialize;

use crate::process::telemetry::names;

/// The parts of a process whose progress is watched. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    components: Arc<Mutex<Vec<Progress>>>,
}

impl Health {
    /// Adds a component. It is unready while its oldest work is older than `limit`.
    #[must_use]
    pub fn component(&self, name: impl Into<String>, limit: Duration) -> Progress {
        let progress =
            Progress { inner: Arc::new(Inner { name: name.into(), limit, state: Mutex::default() }) };
        lock(&self.components).push(progress.clone());
        progress
    }

    /// What `/readyz` answers.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let components: Vec<_> = lock(&self.components).iter().map(Progress::report).collect();
        Readiness { ready: components.iter().all(|component| component.ready), components }
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// Whether every component makes progress.
    pub ready: bool,
    /// Each on its own.
    pub components: Vec<ComponentReport>,
}

/// One component's part of the answer.
#[derive(Debug, Clone, Serialize)]
pub struct ComponentReport {
    /// Its name, such as `relay` or `forwarder timeline`.
    pub name: String,
    /// Whether it makes progress.
    pub ready: bool,
    /// Age of its oldest unfinished work.
    pub oldest_work_seconds: f64,
    /// The server it waits for, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<Waiting>,
    /// Something that only a person can fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A dependency that is away.
#[derive(Debug, Clone, Serialize)]
pub struct Waiting {
    /// Which server, and its last error.
    pub dependency: String,
    /// For how long.
    pub seconds: f64,
}

/// An outage that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Which server it was, and its last error.
    pub dependency: String,
    /// For how long it was waited for.
    pub away: Duration,
}

/// One component's progress, reported by the component itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    limit: Duration,
    state: Mutex<ProgressState>,
}

#[derive(Debug, Default)]
struct ProgressState {
    working_since: Option<Instant>,
    waiting: Option<(String, Instant)>,
    fault: Option<String>,
}

impl Progress {
    /// The component's name, such as `relay`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// There is work. Its age counts from the first call since the last [`Progress::advanced`] or [`Progress::idle`]:
    /// beginning the same work again does not make it younger.
    pub fn busy(&self) {
        lock(&self.inner.state).working_since.get_or_insert_with(Instant::now);
    }

    /// Some work is done, and there is more.
    pub fn advanced(&self) {
        lock(&self.inner.state).working_since = Some(Instant::now());
    }

    /// Everything is done, or left to another process.
    pub fn idle(&self) {
        lock(&self.inner.state).working_since = None;
    }

    /// A server is away. The first call of an outage sets its start.
    pub fn waiting(&self, dependency: impl Into<String>) {
        let mut state = lock(&self.inner.state);
        let since = state.waiting.as_ref().map_or_else(Instant::now, |(_, since)| *since);
        state.waiting = Some((dependency.into(), since));
        gauge!(names::DEPENDENCY_WAITING, "component" => self.inner.name.clone()).set(1.0);
    }

    /// The servers answer again; what was waited for and for how long, if anything was. Different servers are waited for
    /// under one name, and only this knows which one it was.
    #[must_use = "an outage that ended is worth a log line"]
    pub fn resumed(&self) -> Option<Resumed> {
        let waited = lock(&self.inner.state).waiting.take();
        gauge!(names::DEPENDENCY_WAITING, "component" => self.inner.name.clone()).set(0.0);
        waited.map(|(dependency, since)| Resumed { dependency, away: since.elapsed() })
    }

    /// Something that only a person can fix; `None` when it has been.
    pub fn fault(&self, fault: Option<String>) {
        lock(&self.inner.state).fault = fault;
    }

    fn report(&self) -> ComponentReport {
        let state = lock(&self.inner.state);
        let age = state.working_since.map_or(Duration::ZERO, |since| since.elapsed());
        let waited = state.waiting.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        ComponentReport {
            name: self.inner.name.clone(),
            ready: state.fault.is_none() && age.max(waited) <= self.inner.limit,
            oldest_work_seconds: age.as_secs_f64(),
            waiting_for: state.waiting.as_ref().map(|(dependency, _)| Waiting {
                dependency: dependency.clone(),
                seconds: waited.as_secs_f64(),
            }),
            fault: state.fault.clone(),
        }
    }
}

/// A panic elsewhere must not take the health endpoint with it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_unready_once_its_oldest_work_is_too_old() {
        let health = Health::default();
        let progress = health.component("relay", Duration::from_secs(60));
        assert!(health.readiness().ready);
        progress.busy();
        assert!(health.readiness().ready);
        let minute_ago = Instant::now().checked_sub(Duration::from_secs(61));
        lock(&progress.inner.state).working_since = minute_ago;
        progress.busy();
        assert!(!health.readiness().ready, "the same work, begun again, is as old as it was");
        progress.advanced();
        assert!(health.readiness().ready);
        progress.idle();
        assert!(progress.report().oldest_work_seconds.abs() < f64::EPSILON);
    }

    #[test]
    fn the_answer_names_the_server_that_is_away() {
        let health = Health::default();
        let progress = health.component("relay", Duration::ZERO);
        progress.waiting("nats: connection refused");
        let readiness = health.readiness();
        assert!(!readiness.ready);
        let waiting = readiness.components[0].waiting_for.clone().expect("waiting");
        assert_eq!(waiting.dependency, "nats: connection refused");
        assert_eq!(progress.resumed().expect("an outage").dependency, "nats: connection refused");
        assert!(health.readiness().ready);
    }

    #[test]
    fn a_fault_that_needs_a_person_makes_unready_at_once() {
        let health = Health::default();
        let progress = health.component("capture", Duration::from_secs(60));
        progress.fault(Some("the capture trigger is missing".to_owned()));
        assert!(!health.readiness().ready);
        progress.fault(None);
        assert!(health.readiness().ready);
    }
}
