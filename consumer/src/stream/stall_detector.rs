//! Detects that the broker has references for a forwarder and delivers none, whatever the cause.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use common::{broker::DurableState, settings::ConsumerSettings};
use tokio::time::Instant;

/// Observations that lie further apart than this say nothing about the time between them: the workers were busy.
const OBSERVATION_GAP_MAX: Duration = Duration::from_secs(15);

/// So many checks make sure that acknowledgements do not arrive.
const UNCONFIRMED_MAX: u32 = 2;

/// What the workers of one forwarder have observed of its durable.
#[derive(Debug, Default)]
pub(crate) struct StallDetector(Mutex<StallState>);

#[derive(Debug, Default)]
struct StallState {
    last: Option<Observation>,
    /// What an operator has to fix.
    fault: Option<String>,
    /// How many checks in a row have found that acknowledgements do not arrive.
    unconfirmed: u32,
}

#[derive(Debug, Clone, Copy)]
struct Observation {
    at: Instant,
    delivered: u64,
    /// Since when nothing was delivered.
    still_since: Instant,
}

impl StallDetector {
    /// What keeps the forwarder from being ready, if anything does.
    pub(crate) fn fault(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }

    /// The durable is not what it should be.
    pub(crate) fn set_misconfigured(&self, why: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fault = Some(why.to_owned());
    }

    /// Whether acknowledgements arrive. Once may be a server that is busy, or another one that takes over.
    pub(crate) fn acknowledgements(&self, confirmed: Result<(), String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(why) = confirmed else {
            seen.unconfirmed = 0;
            return;
        };
        seen.unconfirmed = seen.unconfirmed.saturating_add(1);
        if seen.unconfirmed == UNCONFIRMED_MAX {
            tracing::warn!("{why}");
        }
        if seen.unconfirmed >= UNCONFIRMED_MAX {
            seen.fault = Some(why);
        }
    }

    /// The durable is what it should be, and stands here.
    pub(crate) fn observe(&self, state: &DurableState, settings: &ConsumerSettings, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let still_since = seen
            .last
            .filter(|last| last.delivered == state.delivered && now - last.at <= OBSERVATION_GAP_MAX)
            .filter(|_| state.pending > 0)
            .map_or(now, |last| last.still_since);
        seen.last = Some(Observation { at: now, delivered: state.delivered, still_since });
        let stalled = now - still_since > settings.unready_after;
        let fault = stalled.then(|| describe(state, settings, now - still_since));
        if let (Some(fault), None) = (&fault, &seen.fault) {
            tracing::warn!("{fault}");
        }
        seen.fault = fault;
    }
}

fn describe(state: &DurableState, settings: &ConsumerSettings, still: Duration) -> String {
    let DurableState { pending, unsettled, paused_until, .. } = state;
    let cause = if let Some(until) = paused_until {
        format!("the durable is paused until {until} (`nats consumer resume` ends that)")
    } else if i64::try_from(*unsettled).unwrap_or(i64::MAX) >= settings.max_ack_pending {
        format!(
            "{unsettled} are delivered and not settled, which is consumer.max_ack_pending: see the other processes"
        )
    } else {
        "nothing is known of the cause: see the log of the NATS server, and `consumer doctor`".to_owned()
    };
    format!(
        "{pending} message(s) wait in the stream, and the broker has delivered none for {} s: {cause}",
        still.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(delivered: u64, pending: u64) -> DurableState {
        DurableState {
            stream_created: time::OffsetDateTime::UNIX_EPOCH,
            floor: 0,
            delivered,
            pending,
            unsettled: 0,
            paused_until: None,
        }
    }

    /// Looks every five seconds; returns after how many there is a fault.
    fn checks(
        settings: &ConsumerSettings,
        states: impl Iterator<Item = DurableState>,
        every: Duration,
    ) -> Option<usize> {
        let stall = StallDetector::default();
        let mut now = Instant::now();
        states.take(40).position(|state| {
            stall.observe(&state, settings, now);
            now += every;
            stall.fault().is_some()
        })
    }

    #[test]
    fn what_waits_and_is_not_delivered_for_a_while_is_a_fault_and_nothing_else_is() {
        let mut settings = ConsumerSettings::default();
        settings.unready_after = 60 * SECOND;
        let every = 5 * SECOND;
        let still = || std::iter::repeat(state(7, 3));
        assert_eq!(checks(&settings, still(), every), Some(13), "a minute and a check");
        assert_eq!(checks(&settings, std::iter::repeat(state(7, 0)), every), None, "nothing waits");
        let moving = (0..).map(|delivered| state(delivered / 10, 3));
        assert_eq!(checks(&settings, moving, every), None, "something is delivered now and then");
        assert_eq!(checks(&settings, still(), 16 * SECOND), None, "nothing was checked for too long");
    }

    #[test]
    fn acknowledgements_that_do_not_arrive_are_a_fault_at_the_second_check_and_until_they_do() {
        let stall = StallDetector::default();
        let check = |confirmed: Result<(), String>| {
            stall.observe(&state(7, 0), &ConsumerSettings::default(), Instant::now());
            stall.acknowledgements(confirmed);
            stall.fault()
        };
        let unconfirmed = || Err("no answer".to_owned());
        assert_eq!(check(unconfirmed()), None);
        assert_eq!(check(unconfirmed()).as_deref(), Some("no answer"));
        assert_eq!(check(Ok(())), None);
        assert_eq!(check(unconfirmed()), None);
    }

    #[test]
    fn the_cause_is_named_where_it_is_known() {
        let settings = ConsumerSettings::default();
        let said = |state: DurableState| describe(&state, &settings, 61 * SECOND);
        let paused = DurableState { paused_until: Some("2099-01-01T00:00:00Z".into()), ..state(7, 3) };
        assert!(said(paused).contains("paused until 2099-01-01T00:00:00Z"));
        assert!(said(DurableState { unsettled: 20_000, ..state(7, 3) }).contains("consumer.max_ack_pending"));
        assert!(said(state(7, 3)).starts_with("3 message(s) wait in the stream"));
    }
}
