//! How often the continuous reconciliation has had events delivered again, and what has been too often.

use std::collections::{HashMap, HashSet};

use common::{
    failures::{self, Failure, NextStep, Reason},
    identifier::ForwarderId,
    session::Session,
};
use uuid::Uuid;

/// How often one event is delivered again before the target is what fails.
pub(crate) const MAX_REPAIRS: u32 = 3;

/// How many repairs are remembered; those that are forgotten are made once more.
const REMEMBERED_MAX: usize = 100_000;

/// In memory: a process that takes over begins to count once more.
#[derive(Debug, Default)]
pub(crate) struct RepairAttempts {
    times: HashMap<Uuid, u32>,
    /// Those of this round: an event may have several entries in it.
    now: HashSet<Uuid>,
}

impl RepairAttempts {
    /// Another round begins.
    pub(crate) fn begin_round(&mut self) {
        self.now.clear();
    }

    /// Splits what is missing of what was looked for into what is to be delivered again and what has been too often.
    pub(crate) fn split(&mut self, looked_for: &[Uuid], missing: &[Uuid]) -> (Vec<Uuid>, Vec<Uuid>) {
        if !self.times.is_empty() {
            let missing: HashSet<&Uuid> = missing.iter().collect();
            for id in looked_for.iter().filter(|id| !missing.contains(id)) {
                self.times.remove(id);
            }
        }
        if self.times.len() >= REMEMBERED_MAX {
            self.times.clear();
        }
        missing.iter().copied().filter(|id| self.now.insert(*id)).partition(|id| {
            let times = self.times.entry(*id).or_default();
            *times += 1;
            *times <= MAX_REPAIRS
        })
    }
}

/// Leaves a dead letter of each.
///
/// # Errors
/// When the source database is away.
pub(crate) async fn dead_letter(
    source: &mut Session,
    forwarder: &ForwarderId,
    events: &[Uuid],
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let error = format!(
        "the timeline has acknowledged it {} times and does not hold it: a trigger, a rule or somebody's job there changes or \
         removes it",
        MAX_REPAIRS + 1
    );
    let dead_letter = |id: &Uuid| Failure {
        reference: id.to_string(),
        audit_event_id: Some(*id),
        error: error.clone(),
        attempts: MAX_REPAIRS + 1,
        outcome: NextStep::Dead(Reason::NotWritten),
        excerpt: None,
    };
    let dead_letters: Vec<Failure> = events.iter().map(dead_letter).collect();
    failures::record(source, forwarder, &dead_letters).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_delivered_again_three_times_in_a_row_and_never_twice_in_a_round() {
        let mut repaired = RepairAttempts::default();
        let (vain, late) = (Uuid::new_v4(), Uuid::new_v4());
        for round in 1..=MAX_REPAIRS {
            repaired.begin_round();
            assert_eq!(
                repaired.split(&[vain, late, vain], &[vain, late]),
                (vec![vain, late], vec![]),
                "{round}"
            );
            assert_eq!(repaired.split(&[vain], &[vain]), (vec![], vec![]), "another entry of it");
        }
        repaired.begin_round();
        assert_eq!(repaired.split(&[vain, late], &[vain]), (vec![], vec![vain]));
        // What has arrived in between is counted from the beginning.
        repaired.begin_round();
        assert_eq!(repaired.split(&[late], &[late]), (vec![late], vec![]));
    }
}
