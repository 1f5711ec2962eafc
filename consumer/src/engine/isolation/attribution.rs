//! Whether events that failed alone are at fault, or their target.

use std::time::SystemTime;

use common::event::AuditEvent;
use uuid::Uuid;

use super::{Attempt, IsolatedForwarder, Unavailable, batch_failure::BatchFailure};
use crate::forwarder::Verdict;

/// How often an event that the target is away for is sent again alone before an attempt is used: connections are cut.
const CONFIRMATIONS: u32 = 2;

impl IsolatedForwarder {
    /// Finds out whether the events that failed alone or their target are at fault. What was taken of their neighbours may have been before or
    /// after a time when nothing was. So one of these, which may come twice, is sent again, before and after the events
    /// are tried once more: what fails in between is the offender.
    pub(super) async fn attribute_failures(
        &mut self,
        events: &[AuditEvent],
        failed_alone: Vec<(usize, BatchFailure)>,
        written_before: u64,
        verdicts: &mut [Attempt],
    ) -> Result<(), Unavailable> {
        if failed_alone.is_empty() {
            return Ok(());
        }
        let taken = |index: &usize| {
            verdicts[*index].called_during.is_some()
                && verdicts[*index].is_delivered()
                && failed_alone.iter().all(|(failed, _)| failed != index)
        };
        let Some(known_good) = (0..events.len()).find(taken) else {
            let failed_alone = self.try_again(events, failed_alone, verdicts).await?;
            return self.attribute_by_other_workers(events, failed_alone, verdicts);
        };
        let mut all_delivered = true;
        self.probe_with(&events[known_good]).await?;
        for (index, _) in failed_alone {
            let called_during = SystemTime::now();
            let again = self.confirm(&events[index]).await?;
            let called_during = Some(called_during..SystemTime::now());
            match again {
                Ok(verdict) => {
                    for verdict in verdict {
                        verdicts[index] = Attempt { called_during: called_during.clone(), ..verdict.into() };
                    }
                }
                Err(failure) => {
                    let (kind, event) = (failure.kind(), events[index].id);
                    let counts = match failure {
                        BatchFailure::Timeout(_) => false,
                        BatchFailure::Unavailable { .. } => self.is_at_fault(event, written_before),
                        _ => true,
                    };
                    verdicts[index] = Attempt { verdict: failure.verdict(), kind, counts, called_during };
                    all_delivered = false;
                }
            }
        }
        if all_delivered { Ok(()) } else { self.probe_with(&events[known_good]).await }
    }

    /// Sends the events again that the target was away for, unless it took long to say so, now that it serves others; returns
    /// those that still fail.
    async fn try_again(
        &mut self,
        events: &[AuditEvent],
        failed_alone: Vec<(usize, BatchFailure)>,
        verdicts: &mut [Attempt],
    ) -> Result<Vec<(usize, BatchFailure)>, Unavailable> {
        let mut failing = Vec::new();
        self.served_at = None;
        for (index, failure) in failed_alone {
            if !matches!(failure, BatchFailure::Unavailable { .. }) || failure.is_slow(self.limit) {
                failing.push((index, failure));
                continue;
            }
            if !self.is_serving().await {
                return Err(Unavailable::new(failure.of_target()));
            }
            let called_during = SystemTime::now();
            let again = self.call(std::slice::from_ref(&events[index])).await?;
            let called_during = Some(called_during..SystemTime::now());
            self.record_liveness(&again);
            match again {
                Ok(verdict) => {
                    for verdict in verdict {
                        verdicts[index] = Attempt { called_during: called_during.clone(), ..verdict.into() };
                    }
                }
                Err(failure) => failing.push((index, failure)),
            }
        }
        Ok(failing)
    }

    /// Whether an event that the target was away for, while it served others, has used an attempt: something else was written
    /// since it failed last, or since `written_before`. What is there already is no proof, because it needs no room. Proven
    /// once is enough.
    fn is_at_fault(&self, event: Uuid, written_before: u64) -> bool {
        self.liveness.suspect(event);
        let is_at_fault = self.liveness.written().advanced_since(event, written_before);
        if is_at_fault {
            self.liveness.set_at_fault(event);
        }
        is_at_fault || self.liveness.is_at_fault(event)
    }

    /// Sends an event again that failed alone; more than once where the target says that it is away, and says so quickly.
    async fn confirm(
        &mut self,
        event: &AuditEvent,
    ) -> Result<Result<Vec<Verdict>, BatchFailure>, Unavailable> {
        let mut confirmations = CONFIRMATIONS;
        loop {
            self.served_at = None;
            let again = self.call(std::slice::from_ref(event)).await?;
            confirmations = confirmations.saturating_sub(1);
            match &again {
                Err(failure @ BatchFailure::Unavailable { .. })
                    if confirmations > 0 && !failure.is_slow(self.limit) => {}
                _ => return Ok(again),
            }
        }
    }

    /// Sends an event again that the target has taken.
    async fn probe_with(&mut self, event: &AuditEvent) -> Result<(), Unavailable> {
        let answer = self.call(std::slice::from_ref(event)).await?;
        answer.map(drop).map_err(|failure| Unavailable::new(failure.to_string()))
    }

    /// The same where nothing was taken from this worker: an attempt is used if the target has taken something from
    /// another since the event failed last. Until then it is held, and then put off, to let others show that.
    fn attribute_by_other_workers(
        &mut self,
        events: &[AuditEvent],
        failed_alone: Vec<(usize, BatchFailure)>,
        verdicts: &mut [Attempt],
    ) -> Result<(), Unavailable> {
        let counts: Vec<bool> = failed_alone
            .iter()
            .map(|(index, failure)| {
                let (event, deliveries) = (events[*index].id, self.liveness.deliveries());
                match failure {
                    BatchFailure::Unavailable { .. } => {
                        self.is_at_fault(event, self.liveness.written().count())
                    }
                    _ => deliveries.advanced_since(event, deliveries.count()),
                }
            })
            .collect();
        // An event that the target was away for has been held already.
        let held = failed_alone.iter().find(|(_, failure)| matches!(failure, BatchFailure::Failed(_)));
        if !counts.contains(&true)
            && let Some((_, failure)) = held
            && self.may_hold()
        {
            return Err(Unavailable::new(failure.of_target()));
        }
        for ((index, failure), counts) in failed_alone.into_iter().zip(counts) {
            let called_during = verdicts[index].called_during.take();
            let verdict = Verdict::Retry(failure.to_string());
            verdicts[index] = Attempt { verdict, kind: failure.kind(), counts, called_during };
        }
        Ok(())
    }
}
