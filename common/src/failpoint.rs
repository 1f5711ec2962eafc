//! Named places where a test may let the process die, as `kill -9` would. Without the cargo feature `failpoints`, which
//! no shipped binary has, nothing of this is compiled in.
//!
//! `FAILPOINTS="relay.page_acknowledged=5*off->return"` dies at the sixth time that place is reached.

/// Every place.
pub const ALL: [&str; 10] = [
    // The round is stored, nothing of it has been read.
    "relay.round_stored",
    // A message of a page was handed to the client; its neighbours may be stored already.
    "publish.message_sent",
    // The page is acknowledged, the position does not say so.
    "relay.page_acknowledged",
    // Messages were received.
    "worker.pulled",
    // The target has the batch; failures and acknowledgements are still to come.
    "dispatch.forwarded",
    // Failures are committed, nothing is acknowledged.
    "dispatch.recorded",
    // One message of a batch is acknowledged, the next one is not.
    "worker.acknowledged",
    // How far every durable has settled is known, and acted upon next.
    "maintenance.floors_read",
    // Rows were copied into the second table of a rebuild, others are still to come.
    "rebuild.written",
    // An index of the second table is built, the next one is not.
    "rebuild.indexed",
];

/// Reads `FAILPOINTS`; keep the answer for as long as they are to work.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn armed() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Dies here if a test wants it.
#[cfg(feature = "failpoints")]
pub fn reach(place: &'static str) {
    debug_assert!(ALL.contains(&place), "{place} is not listed");
    fail::fail_point!(place, |_| {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    });
}

/// Nothing, in whatever is shipped.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_place: &'static str) {}

/// Waits here for as long as a test wants (`FAILPOINTS="maintenance.floors_read=1*sleep(8000)"`), while everything else continues.
#[cfg(feature = "failpoints")]
pub async fn pause(place: &'static str) {
    if std::env::var("FAILPOINTS").is_ok_and(|armed| armed.contains(place)) {
        tracing::info!(place, "a test may wait here");
        let _ = tokio::task::spawn_blocking(move || reach(place)).await;
    }
}

/// Nothing, in whatever is shipped.
#[cfg(not(feature = "failpoints"))]
#[inline]
#[expect(clippy::unused_async, reason = "a test waits here")]
pub async fn pause(_place: &'static str) {}
