//! What was read last of something that takes long to read, so that many who look read it once, and see it while it cannot be read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use threadline::{
    capture::HostTable,
    coverage::{PolicyStatus, Report, TableFacts, verdict::TableStatus},
};
use time::{Duration, OffsetDateTime};

use crate::failure::Failure;

/// How long what was read counts as new; the second one where it is asked for again.
pub(crate) const FRESH: Duration = Duration::seconds(30);
pub(crate) const FRESH_AT_LEAST: Duration = Duration::seconds(5);

/// Coverage as it was read.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) report: Report,
    pub(crate) policies: Vec<PolicyStatus>,
    pub(crate) facts: BTreeMap<HostTable, TableFacts>,
    /// Changes on each of the last days; nothing where they could not be counted in time.
    pub(crate) by_day: BTreeMap<HostTable, Vec<i64>>,
    /// Expected tables that are not captured as they should be; none where the host expects none by name.
    pub(crate) violations: Option<Vec<TableStatus>>,
}

/// What was read last.
#[derive(Debug)]
pub(crate) struct Kept<T>(Mutex<Option<(OffsetDateTime, Arc<T>)>>);

/// Something that was read, and when.
#[derive(Debug)]
pub(crate) struct Reading<T> {
    pub(crate) at: OffsetDateTime,
    pub(crate) value: Arc<T>,
    /// Why it could not be read now.
    pub(crate) failure: Option<Failure>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Kept<T> {
    /// What somebody has read a moment ago; else what is read now; else, where that fails, the last that was read.
    pub(crate) async fn observe(
        &self,
        now: OffsetDateTime,
        fresh: Duration,
        read: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Reading<T>, Failure> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, value)) =
            last.as_ref().filter(|(at, _)| (Duration::ZERO..fresh).contains(&(now - *at)))
        {
            return Ok(Reading { at: *at, value: Arc::clone(value), failure: None });
        }
        match (read.await, last) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&value)));
                Ok(Reading { at: now, value, failure: None })
            }
            // Old data with its age says more than none.
            (Err(failure), Some((at, value))) => Ok(Reading { at, value, failure: Some(failure) }),
            (Err(failure), None) => Err(failure),
        }
    }
}
