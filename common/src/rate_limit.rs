//! Long work at so many rows a second.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Ticks once for each chunk of so many rows. What was late is not made up for: a burst would be what it is there to avoid.
#[must_use]
pub fn rate_limit(chunk_rows: u32, rows_per_second: u32) -> Interval {
    let pause = Duration::from_secs_f64(f64::from(chunk_rows) / f64::from(rows_per_second));
    let mut ticker = interval(pause);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
