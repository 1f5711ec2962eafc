//! What was received and not taken by a worker. Batches are counted in references, of which a message holds one or many.

use std::collections::VecDeque;

use async_nats::jetstream::{AckKind, Message};

/// How often, in the time after which the broker delivers a message again, it is told that this one is not forgotten.
pub(crate) const RENEWALS: u32 = 4;

/// Messages in the order of their delivery.
#[derive(Debug)]
pub(crate) struct Waiting<M> {
    messages: VecDeque<(M, usize)>,
    references: usize,
}

impl<M> Default for Waiting<M> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), references: 0 }
    }
}

impl<M> Waiting<M> {
    pub(crate) fn push(&mut self, message: M, references: usize) {
        self.messages.push_back((message, references));
        self.references += references;
    }

    /// How many references wait.
    pub(crate) fn references(&self) -> usize {
        self.references
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn last(&self) -> Option<&M> {
        self.messages.back().map(|(message, _)| message)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter().map(|(message, _)| message)
    }

    /// The next batch: as many messages as hold up to `most` references together; but one at least, however many it holds.
    pub(crate) fn take(&mut self, most: usize) -> Vec<M> {
        let mut batch = Vec::new();
        let mut taken = 0;
        while let Some((_, references)) = self.messages.front() {
            if taken + references > most && !batch.is_empty() {
                break;
            }
            taken += references;
            batch.extend(self.messages.pop_front().map(|(message, _)| message));
        }
        self.references -= taken;
        batch
    }
}

impl Waiting<Message> {
    /// Tells the broker that none of it is forgotten.
    pub(crate) async fn renew(&self) {
        for message in self.iter() {
            let _ = message.ack_with(AckKind::Progress).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batch after batch of messages of these sizes.
    fn batches(sizes: &[usize], most: usize) -> Vec<Vec<usize>> {
        let mut waiting = Waiting::default();
        for &size in sizes {
            waiting.push(size, size);
        }
        let mut batches = Vec::new();
        while !waiting.is_empty() {
            batches.push(waiting.take(most));
            let left: usize = waiting.iter().sum();
            assert_eq!(waiting.references(), left);
        }
        batches
    }

    #[test]
    fn a_batch_holds_as_many_references_as_it_may_and_no_message_is_cut() {
        assert_eq!(batches(&[1, 1, 1], 2), [vec![1, 1], vec![1]]);
        assert_eq!(batches(&[256, 256, 256, 232, 256], 1_000), [vec![256, 256, 256, 232], vec![256]]);
        assert_eq!(batches(&[6, 5, 1, 4], 10), [vec![6], vec![5, 1, 4]]);
        assert_eq!(
            batches(&[256, 1, 256], 10),
            [vec![256], vec![1], vec![256]],
            "a message may be larger than a batch"
        );
        assert!(batches(&[], 10).is_empty());
    }
}
