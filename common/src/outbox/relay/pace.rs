//! When the leader looks for new rows, closes its position, and stops.

use std::time::{Duration, Instant};

use super::RelayOptions;

/// After this long without rows the position is closed, so that a restart repeats nothing.
const CLOSE_AFTER: Duration = Duration::from_millis(100);

/// How often transactions that began since the last round are taken into a new one although nothing is unread.
const REFRESH_AFTER: Duration = Duration::from_secs(2);

/// What to do when everything of a round has been handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Take the next round, if anything is unread; with `refresh` also if transactions have begun meanwhile.
    Open { refresh: bool },
    /// Store that nothing is being read.
    Close,
    /// Nothing is left to do before the end.
    Stop,
}

/// The times that decide.
#[derive(Debug)]
pub(super) struct Pace {
    read_at: Instant,
    refreshed_at: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { read_at: now, refreshed_at: now }
    }

    /// A round has been read.
    pub(super) fn read(&mut self, now: Instant) {
        self.read_at = now;
    }

    /// The next step; `closed` if the position is closed already.
    pub(super) fn step(&mut self, now: Instant, closed: bool, stopping: bool) -> Step {
        match (stopping, closed) {
            (true, true) => Step::Stop,
            (true, false) => Step::Close,
            (false, false) if now - self.read_at >= CLOSE_AFTER => Step::Close,
            (false, _) => {
                let refresh = now - self.refreshed_at >= REFRESH_AFTER;
                if refresh {
                    self.refreshed_at = now;
                }
                Step::Open { refresh }
            }
        }
    }

    /// How long to wait for rows: an eighth of the time there have been none. A row after a quiet time waits by an eighth of it
    /// longer, and a quiet source is queried ever less often.
    pub(super) fn pause(&self, now: Instant, options: &RelayOptions) -> Duration {
        ((now - self.read_at) / 8).clamp(options.poll_min, options.poll_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_position_is_closed_and_a_stopping_leader_closes_at_once() {
        let began = Instant::now();
        let table = [
            // milliseconds since the last round, closed, stopping
            (0, false, false, Step::Open { refresh: false }),
            (99, false, false, Step::Open { refresh: false }),
            (100, false, false, Step::Close),
            (100, true, false, Step::Open { refresh: false }),
            (2_000, true, false, Step::Open { refresh: true }),
            (2_000, false, false, Step::Close),
            (0, false, true, Step::Close),
            (0, true, true, Step::Stop),
        ];
        for (quiet, closed, stopping, expected) in table {
            let now = began + Duration::from_millis(quiet);
            let step = Pace::new(began).step(now, closed, stopping);
            assert_eq!(step, expected, "{quiet} ms, closed: {closed}, stopping: {stopping}");
        }
    }

    #[test]
    fn running_transactions_are_taken_in_every_two_seconds() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let refreshed: Vec<u64> = (0..60)
            .map(|tenths| tenths * 100)
            .filter(|ms| {
                pace.step(began + Duration::from_millis(*ms), true, false) == Step::Open { refresh: true }
            })
            .collect();
        assert_eq!(refreshed, [2_000, 4_000]);
    }

    #[test]
    fn a_quiet_source_is_queried_ever_less_often_within_limits() {
        let options = RelayOptions {
            reader: "stream".to_owned(),
            page_rows: 1,
            poll_min: Duration::from_millis(5),
            poll_max: Duration::from_millis(500),
            lease: Duration::from_secs(10),
            progress_rows: 1,
        };
        let began = Instant::now();
        for (quiet, pause) in [(0, 5), (40, 5), (80, 10), (800, 100), (4_000, 500), (60_000, 500)] {
            let now = began + Duration::from_millis(quiet);
            let expected = Duration::from_millis(pause);
            assert_eq!(Pace::new(began).pause(now, &options), expected, "after {quiet} ms");
        }
    }
}
