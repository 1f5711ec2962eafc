//! Whether another process publishes into our stream: a single publisher's acknowledgements skip no sequence.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use common::{process::telemetry::names, reference::Body};
use metrics::counter;
use tokio::time::Instant;
use uuid::Uuid;

/// How often it is reported at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What one leader knows of the sequences that it has been given.
#[derive(Debug, Default)]
pub(crate) struct SequenceGapDetector {
    /// Whether nothing of ours may be on its way that has no acknowledgement yet: not at the beginning, when an earlier leader's
    /// last page may have arrived, and not after a doubt.
    certain: bool,
    told: Option<Instant>,
}

impl SequenceGapDetector {
    /// After a page that begins behind `before` and whose messages stand at `given`; `sent_once` if none was in doubt.
    pub(crate) async fn page(
        &mut self,
        stream: &Stream,
        before: u64,
        mut given: Vec<u64>,
        sent_once: bool,
        events: &[Option<Uuid>],
    ) {
        let certain = std::mem::replace(&mut self.certain, sent_once) && sent_once;
        given.sort_unstable();
        given.dedup();
        let Some(skipped) = skipped(before, &given).filter(|_| certain) else {
            return;
        };
        counter!(names::PUBLISH_FOREIGN).increment(skipped.count);
        if self.told.is_some_and(|told| told.elapsed() < REPORT_INTERVAL) {
            return;
        }
        let Ok(message) = stream.get_raw_message(skipped.first).await else {
            return;
        };
        let theirs = Body::read(&message.payload).ok();
        let named: Vec<Option<Uuid>> = theirs.iter().flat_map(Body::events).map(Some).collect();
        if named.iter().any(|event| events.contains(event)) {
            return;
        }
        let event = named.first().copied().flatten();
        self.told = Some(Instant::now());
        tracing::error!(
            sequence = skipped.first,
            event = event.map(tracing::field::display),
            "another process publishes on {}: this leader did not publish that message. Stop the other publisher. If it is the \
             pipeline of a copy of this database (a snapshot, a base backup), or this database is the copy, give the copy a \
             broker.stream and broker.subject of its own, and each of them a source.name",
            message.subject
        );
    }
}

/// Sequences between those that were given.
#[derive(Debug, PartialEq, Eq)]
struct SequenceGap {
    first: u64,
    count: u64,
}

/// `given` in order and without repeats.
fn skipped(before: u64, given: &[u64]) -> Option<SequenceGap> {
    let mut next = before + 1;
    let mut found: Option<SequenceGap> = None;
    for sequence in given.iter().copied().filter(|sequence| *sequence > before) {
        if sequence > next {
            found.get_or_insert(SequenceGap { first: next, count: 0 }).count += sequence - next;
        }
        next = sequence + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_is_somebody_elses() {
        let table: [(u64, &[u64], _); 6] = [
            (0, &[], None),
            (0, &[1, 2, 3], None),
            (3, &[1, 2, 4, 5], None),
            (3, &[5], Some((4, 1))),
            (3, &[4, 7, 9], Some((5, 3))),
            (3, &[2, 3], None),
        ];
        for (before, given, expected) in table {
            let found = skipped(before, given).map(|skipped| (skipped.first, skipped.count));
            assert_eq!(found, expected, "{given:?} behind {before}");
        }
    }
}
