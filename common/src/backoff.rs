//! How long to wait before the next attempt at one event, and before the next probe of a server that is away.

use std::time::Duration;

use rand::Rng;

/// Waits between attempts at one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Sigra's own profile: `attempt^4 + 15 + rand(1..=10) * attempt` seconds.
    Sigra,
    /// `first * 2^(attempt - 1)`, at most `max`, plus up to a tenth of jitter.
    Exponential {
        /// The first wait.
        first: Duration,
        /// The longest wait, before jitter.
        max: Duration,
    },
}

impl Backoff {
    /// The wait after `attempt` (counted from 1) has failed.
    pub fn delay(self, attempt: u32, rng: &mut impl Rng) -> Duration {
        let attempt = attempt.max(1);
        match self {
            Self::Sigra => {
                let attempt = u64::from(attempt);
                let jitter = rng.random_range(1..=10) * attempt;
                Duration::from_secs(attempt.saturating_pow(4).saturating_add(15 + jitter))
            }
            Self::Exponential { first, max } => {
                let wait = first.saturating_mul(2_u32.saturating_pow(attempt - 1)).min(max);
                wait + wait.mul_f64(rng.random_range(0.0..0.1))
            }
        }
    }
}

/// Waits between probes of a dependency that is away: doubling from 100 ms to 5 s with jitter; start over when it
/// answers.
#[derive(Debug, Default)]
pub struct Probe {
    failures: u32,
}

impl Probe {
    const PROFILE: Backoff =
        Backoff::Exponential { first: Duration::from_millis(100), max: Duration::from_secs(5) };

    /// The wait before the next probe.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Self::PROFILE.delay(self.failures, &mut rand::rng())
    }

    /// Call when the dependency answered.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_sigra_profile_keeps_to_its_table() {
        // (attempt, shortest, longest, step) in seconds, over the whole range of the jitter.
        for (attempt, shortest, longest, step) in
            [(1, 17, 26, 1), (2, 33, 51, 2), (3, 99, 126, 3), (4, 275, 311, 4)]
        {
            let mut rng = StdRng::seed_from_u64(7);
            let seen: std::collections::BTreeSet<u64> =
                (0..1_000).map(|_| Backoff::Sigra.delay(attempt, &mut rng).as_secs()).collect();
            let expected: std::collections::BTreeSet<u64> = (shortest..=longest).step_by(step).collect();
            assert_eq!(seen, expected, "attempt {attempt}");
        }
    }

    #[test]
    fn exponential_waits_grow_and_stay_below_their_bound() {
        let mut rng = StdRng::seed_from_u64(7);
        let backoff = Backoff::Exponential { first: Duration::from_secs(1), max: Duration::from_secs(30) };
        for (attempt, wait) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (4_000_000_000, 30)] {
            let delay = backoff.delay(attempt, &mut rng);
            let wait = Duration::from_secs(wait);
            assert!(wait <= delay && delay <= wait.mul_f64(1.1), "attempt {attempt}: {delay:?}");
        }
    }
}
