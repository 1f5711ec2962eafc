//! Waiting for a condition, with a deadline. Nothing here or in the tests sleeps in place of synchronisation.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long after the last look at a condition the next one is: soon at first, and then as seldom as nobody notices. A look is often a
/// connection, which costs a server more than what is waited for.
fn pause(waited: Duration) -> Duration {
    (waited / 4).clamp(Duration::from_millis(10), Duration::from_millis(100))
}

/// Looks at `condition` until it holds.
///
/// # Errors
/// After `deadline`, naming `what`.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !condition() {
        anyhow::ensure!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(pause(start.elapsed()));
    }
    Ok(())
}

/// Looks at an asynchronous `condition` until it answers something.
///
/// # Errors
/// After `deadline`, naming `what`, also when the condition itself does not answer; and whatever it fails with.
pub async fn until_some<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let in_vain = || format!("waited {deadline:?} in vain for {what}");
    let start = Instant::now();
    let answered = async {
        loop {
            if let Some(answer) = condition().await? {
                return Ok(answer);
            }
            tokio::time::sleep(pause(start.elapsed())).await;
        }
    };
    // The server may never respond.
    tokio::time::timeout(deadline, answered).await.with_context(in_vain)?
}
