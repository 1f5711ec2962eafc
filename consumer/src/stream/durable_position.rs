//! Where a forwarder's durable was seen last: one that is deleted, or that has passed over messages, continues there.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::broker::{SettledFloor, SkippingDurable};
use tokio::time::Instant;

/// What the workers of one forwarder know of its durable's place.
#[derive(Debug, Default)]
pub(crate) struct DurablePosition(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// While it was what it should be, and when that was.
    fit: Option<(SettledFloor, Instant)>,
    /// The durable that was seen passing over messages since.
    skipping: Option<SkippingDurable>,
}

impl DurablePosition {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where everything had been settled when it was last fit.
    pub(crate) fn floor(&self) -> Option<SettledFloor> {
        self.known().fit.as_ref().map(|(floor, _)| floor.clone())
    }

    /// How long that is ago.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.known().fit.as_ref().map(|(_, at)| at.elapsed())
    }

    /// What has to be recreated before anything is taken from it.
    pub(crate) fn skipping(&self) -> Option<SkippingDurable> {
        self.known().skipping
    }

    /// It is fit, and stands here.
    pub(crate) fn record(&self, floor: SettledFloor, now: Instant) {
        self.known().fit = Some((floor, now));
    }

    /// It passes over messages. One that stands ahead because the stream has lost its end is the publisher's to recreate, which
    /// fills the stream again first.
    pub(crate) fn skips(&self, skipping: SkippingDurable) {
        let mut known = self.known();
        let within = |(floor, _): &(SettledFloor, Instant)| floor.position.sequence <= skipping.last_sequence;
        if known.fit.as_ref().is_none_or(within) {
            known.skipping = Some(skipping);
        }
    }

    /// It is fit, and was recreated if that was needed.
    pub(crate) fn replaced(&self) {
        self.known().skipping = None;
    }
}

#[cfg(test)]
mod tests {
    use common::outbox::reader::rounds::StreamPosition;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_durable_that_skips_is_remembered_unless_its_stream_has_lost_its_end() {
        let position = DurablePosition::default();
        let seen = |last_sequence| SkippingDurable { created: OffsetDateTime::UNIX_EPOCH, last_sequence };
        let floor = StreamPosition { created: OffsetDateTime::UNIX_EPOCH, sequence: 20 };
        position.record(SettledFloor::of_log(floor), Instant::now());
        position.skips(seen(19));
        assert_eq!(position.skipping(), None);
        position.skips(seen(20));
        assert_eq!(position.skipping(), Some(seen(20)));
        assert_eq!(position.floor().map(|floor| floor.position.sequence), Some(20));
        position.replaced();
        assert_eq!(position.skipping(), None);
    }
}
