//! One page while it is published: which messages are still in doubt, and what the acknowledgements add up to.

use common::outbox::reader::entries::Entry;
use uuid::Uuid;

use super::{acknowledgement::PublishOutcome, messages};

/// What is known of the messages that the stream has dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retained {
    /// The stream's first sequence, as far as it is known.
    pub(super) first_sequence: Option<u64>,
    /// The pipeline has trimmed what is below: every forwarder had settled it.
    pub(super) trimmed_below: u64,
}

impl Retained {
    /// Whether a message that was stored earlier at this sequence counts as published: the broker remembers the ids of messages
    /// that are gone.
    fn counts(self, sequence: u64) -> bool {
        self.first_sequence.is_some_and(|first| sequence >= first) || sequence < self.trimmed_below
    }
}

/// A page between its first publish and its last acknowledgement.
#[derive(Debug)]
pub(super) struct PageProgress<'a> {
    /// The messages that are not certain yet, in order.
    pub(super) open: Vec<&'a [Entry]>,
    /// The sequences of all acknowledgements.
    pub(super) sequences: Vec<u64>,
    /// The stream stored a message at a sequence that it had acknowledged before: it has lost its end.
    pub(super) lost: bool,
    /// The highest sequence before this page.
    acknowledged_before: u64,
    highest: (u64, Option<Uuid>),
}

impl<'a> PageProgress<'a> {
    pub(super) fn new(messages: Vec<&'a [Entry]>, acknowledged_before: u64) -> Self {
        Self {
            sequences: Vec::with_capacity(messages.len()),
            open: messages,
            lost: false,
            acknowledged_before,
            highest: (acknowledged_before, None),
        }
    }

    /// Takes in the outcomes of publishing what was open, in order; what is in doubt stays open.
    pub(super) fn apply(&mut self, outcomes: &[PublishOutcome], retained: Retained) {
        debug_assert_eq!(self.open.len(), outcomes.len());
        for (message, outcome) in std::mem::take(&mut self.open).into_iter().zip(outcomes) {
            self.sequences.extend(outcome.sequence());
            match *outcome {
                PublishOutcome::Stored(sequence) if sequence <= self.acknowledged_before => self.lost = true,
                PublishOutcome::Stored(sequence) => self.raise(sequence, message),
                PublishOutcome::Duplicate(sequence) if retained.counts(sequence) => {
                    self.raise(sequence, message);
                }
                PublishOutcome::Duplicate(_) | PublishOutcome::Unknown => self.open.push(message),
                PublishOutcome::Unnamed => {}
            }
        }
    }

    /// Whatever is in doubt travels alone from now on. What was stored in a pack all the same is stored twice, which has the effect of once.
    pub(super) fn send_one_by_one(&mut self) {
        self.open = std::mem::take(&mut self.open)
            .into_iter()
            .flat_map(|message| messages::cut(message, 1))
            .collect();
    }

    /// How many references are still in doubt.
    pub(super) fn open_references(&self) -> usize {
        self.open.iter().map(|message| message.len()).sum()
    }

    /// The highest sequence that is acknowledged, and an event of the message there if it belongs to this page.
    pub(super) fn highest(&self) -> (u64, Option<Uuid>) {
        self.highest
    }

    fn raise(&mut self, sequence: u64, message: &[Entry]) {
        let event = message.last().and_then(|entry| entry.audit_event_id);
        self.highest = self.highest.max((sequence, event));
    }
}

#[cfg(test)]
mod tests {
    use common::outbox::reader::rounds::Position;

    use super::{
        PublishOutcome::{Duplicate, Stored, Unknown, Unnamed},
        *,
    };

    /// The stream holds 5 and above; the pipeline itself has trimmed what is below 3.
    const RETAINED: Retained = Retained { first_sequence: Some(5), trimmed_below: 3 };

    fn entries(count: u128) -> Vec<Entry> {
        let entry = |event| Entry {
            position: Position { xid: 1, seq: 1 },
            audit_event_id: Some(Uuid::from_u128(event)),
            occurred_at: None,
            forwarder: None,
        };
        (1..=count).map(entry).collect()
    }

    #[test]
    fn a_message_is_published_when_the_stream_holds_it_or_has_trimmed_it() {
        let table: [(PublishOutcome, bool, bool); 8] = [
            (Stored(11), false, false),
            (Stored(10), false, true),
            (Duplicate(5), false, false),
            (Duplicate(4), true, false),
            (Duplicate(3), true, false),
            (Duplicate(2), false, false),
            (Unknown, true, false),
            (Unnamed, false, false),
        ];
        for (outcome, open, lost) in table {
            let page = entries(1);
            let mut progress = PageProgress::new(page.chunks(1).collect(), 10);
            progress.apply(&[outcome], RETAINED);
            assert_eq!((!progress.open.is_empty(), progress.lost), (open, lost), "{outcome:?}");
        }
    }

    #[test]
    fn a_duplicate_is_in_doubt_while_the_first_sequence_is_unknown() {
        let page = entries(2);
        let mut progress = PageProgress::new(page.chunks(1).collect(), 0);
        progress.apply(&[Duplicate(7), Duplicate(2)], Retained { first_sequence: None, ..RETAINED });
        assert_eq!(progress.open, [&page[..1]]);
    }

    #[test]
    fn the_mark_is_the_highest_sequence_and_names_the_event_there() {
        let page = entries(3);
        let mut progress = PageProgress::new(page.chunks(1).collect(), 10);
        progress.apply(&[Stored(12), Unknown, Stored(11)], RETAINED);
        assert_eq!(progress.highest(), (12, Some(Uuid::from_u128(1))));
        assert_eq!(progress.open, [&page[1..2]]);
        progress.apply(&[Stored(13)], RETAINED);
        assert_eq!(progress.highest(), (13, Some(Uuid::from_u128(2))));
        assert_eq!((progress.open.len(), progress.sequences), (0, vec![12, 11, 13]));
    }

    #[test]
    fn a_pack_is_in_doubt_as_a_whole_and_its_last_event_is_the_mark() {
        let page = entries(5);
        let mut progress = PageProgress::new(vec![&page[..4], &page[4..]], 10);
        progress.apply(&[Unknown, Stored(11)], RETAINED);
        assert_eq!((progress.open_references(), progress.highest()), (4, (11, Some(Uuid::from_u128(5)))));
        progress.apply(&[Stored(12)], RETAINED);
        assert_eq!((progress.open_references(), progress.highest()), (0, (12, Some(Uuid::from_u128(4)))));
    }

    #[test]
    fn a_page_that_was_published_before_keeps_the_mark() {
        let page = entries(1);
        let mut progress = PageProgress::new(page.chunks(1).collect(), 10);
        progress.apply(&[Duplicate(8)], RETAINED);
        assert_eq!(progress.highest(), (10, None));
    }
}
