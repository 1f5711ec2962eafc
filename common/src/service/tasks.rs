//! The tasks of a service: none outlives it.

use std::time::Duration;

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{TaskTracker, task_tracker::TrackedFuture},
};

/// How long tasks that are requested to end may take to give back what they hold.
const GIVE_BACK_MAX: Duration = Duration::from_secs(1);

/// The tasks that a service has started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    aborted: CancellationToken,
}

impl Tasks {
    /// Starts a task that ends by itself when the service does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let aborted = self.aborted.clone();
        self.tracker.spawn(async move {
            aborted.run_until_cancelled_owned(task).await;
        });
    }

    /// A future that the caller spawns, and whose end is waited for here as well.
    pub fn track<F: Future>(&self, task: F) -> TrackedFuture<F> {
        self.tracker.track_future(task)
    }

    /// Drops all that run when the guard is dropped: for a service that is dropped itself.
    #[must_use]
    pub fn drop_guard(&self) -> DropGuard {
        self.aborted.clone().drop_guard()
    }

    /// Waits until all have ended, but not for long. The end must have been requested.
    pub async fn finish(&self) {
        self.tracker.close();
        let _ = tokio::time::timeout(GIVE_BACK_MAX, self.tracker.wait()).await;
    }

    /// Drops those that still run where they stand, and waits until they are gone.
    pub async fn abort(&self) {
        self.tracker.close();
        self.aborted.cancel();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    struct SetsOnDrop(Arc<AtomicBool>);

    impl Drop for SetsOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_dropped_before_the_service_returns() {
        let tasks = Tasks::default();
        let dropped = Arc::new(AtomicBool::new(false));
        let held = SetsOnDrop(dropped.clone());
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        tasks.abort().await;
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_task_that_gives_something_back_is_waited_for() {
        let tasks = Tasks::default();
        let (told, end) = tokio::sync::oneshot::channel::<()>();
        let given_back = Arc::new(AtomicBool::new(false));
        let on_end = given_back.clone();
        tasks.spawn(async move {
            let _ = end.await;
            tokio::task::yield_now().await;
            on_end.store(true, Ordering::SeqCst);
        });
        drop(told);
        tasks.finish().await;
        assert!(given_back.load(Ordering::SeqCst));
    }
}
