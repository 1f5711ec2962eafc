//! Whether a forwarder delivers anything at all, where each failure alone may be about its event: those are put off and charge
//! nobody, so that neither a dead letter nor an outage tells of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What the workers of one forwarder have put off since anything was delivered.
#[derive(Debug, Clone)]
pub struct DeliveryWatch {
    limit: Duration,
    series: Arc<Mutex<Option<FailureSeries>>>,
}

/// Failures without a delivery in between.
#[derive(Debug)]
struct FailureSeries {
    first: Instant,
    last: Instant,
    /// When the last event is due again. Much later, another process has it.
    due: Instant,
    count: u64,
    error: String,
}

impl DeliveryWatch {
    /// Failures for longer than `limit` are a fault.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, series: Arc::default() }
    }

    /// Something was delivered.
    pub(crate) fn delivered(&self) {
        *self.series() = None;
    }

    /// An event was put off for `delay`, and nobody was charged; nothing was delivered beside it.
    pub(crate) fn put_off(&self, error: &str, delay: Duration) {
        let now = Instant::now();
        let mut series = self.series();
        let same = series.take().filter(|series| now <= series.due + self.limit);
        let (first, count) = same.map_or((now, 0), |series| (series.first, series.count));
        *series = Some(FailureSeries {
            first,
            last: now,
            due: now + delay,
            count: count.saturating_add(1),
            error: error.to_owned(),
        });
    }

    /// What keeps the forwarder from being ready: failures for longer than the limit, and nothing else.
    pub(crate) fn fault(&self) -> Option<String> {
        let series = self.series();
        let FailureSeries { first, last, due, count, error } = series.as_ref()?;
        let lasting = *last - *first > self.limit && Instant::now() <= *due + self.limit;
        lasting.then(|| {
            format!(
                "nothing was delivered for {} s, and {count} attempts failed: {error}. No event is charged, because nothing shows \
                 that the target takes others",
                first.elapsed().as_secs()
            )
        })
    }

    fn series(&self) -> MutexGuard<'_, Option<FailureSeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const STEP: Duration = Duration::from_secs(5);

    async fn fail_for(watch: &DeliveryWatch, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            watch.put_off("P0001", STEP);
            tokio::time::advance(STEP).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_alone_for_longer_than_the_limit_are_a_fault_until_something_is_delivered() {
        let watch = DeliveryWatch::new(LIMIT);
        fail_for(&watch, LIMIT).await;
        assert_eq!(watch.fault(), None, "not yet");
        fail_for(&watch, STEP * 3).await;
        assert!(watch.fault().is_some_and(|fault| fault.contains("P0001")));
        watch.delivered();
        assert_eq!(watch.fault(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_process_went_on_with_is_no_fault_for_ever() {
        let watch = DeliveryWatch::new(LIMIT);
        fail_for(&watch, LIMIT * 2).await;
        assert!(watch.fault().is_some());
        tokio::time::advance(STEP + LIMIT * 2).await;
        assert_eq!(watch.fault(), None);
        watch.put_off("P0001", STEP);
        assert_eq!(watch.fault(), None, "a new series");
    }
}
