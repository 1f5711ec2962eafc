//! The outcome of one batch: what became of each event, and what has to be written about it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, SystemTime},
};

use common::{
    event::AuditEvent,
    failures::{self, Failure, FailureKind, FailureState, NextStep, PriorAttempts, Reason},
    identifier::ForwarderId,
    process::telemetry::{names, traces::Status},
    session::Session,
};
use metrics::counter;
use uuid::Uuid;

use crate::{
    engine::work_item::{Instruction, WorkItem},
    engine::{
        delivery_watch::DeliveryWatch,
        disposition::{Disposition, RetryPolicy},
        isolation::Attempt,
    },
    forwarder::Verdict,
};

/// What became of a batch, and what has to be written about it.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    /// Events whose messages all have others in them.
    packed: HashSet<Uuid>,
    settled: HashMap<Uuid, SettledEvent>,
    /// Not due yet, and how long until they are.
    deferred: HashMap<Uuid, Duration>,
    already_delivered: u64,
    /// For the log: the event, its action, and which attempt it was.
    delivered: Vec<(Uuid, Option<String>, u32)>,
    failed: Vec<FailedAttempt>,
    /// What put off an event without a charge, and for how long.
    uncharged: Option<(String, Duration)>,
    /// Delivered after an earlier failure.
    cleared: Vec<Uuid>,
    /// Forwarders of other processes.
    known_elsewhere: HashSet<String>,
    /// What cannot be delivered here and is a dead letter already: the forwarder and the reference of each.
    ended_before: HashSet<(String, String)>,
}

/// How one event is settled.
#[derive(Debug)]
struct SettledEvent {
    disposition: Disposition,
    /// How its attempt failed if it did.
    kind: FailureKind,
    /// From when to when its forwarder had it.
    called_during: Option<Range<SystemTime>>,
}

/// One failed attempt, for the table and for the log.
#[derive(Debug)]
struct FailedAttempt {
    /// Another forwarder than the worker's own: an id that is not configured.
    unknown_forwarder: Option<ForwarderId>,
    failure: Failure,
    kind: FailureKind,
    action: Option<String>,
}

/// The forwarder and the reference under which what cannot be delivered has its dead letter.
pub(crate) fn dead_letter_of(own: &ForwarderId, instruction: &Instruction) -> Option<(String, String)> {
    match instruction {
        Instruction::Skip | Instruction::Forward(_) => None,
        Instruction::Unknown(forwarder, id) => Some((forwarder.to_string(), id.to_string())),
        Instruction::Malformed { reference, .. } => Some((own.to_string(), reference.clone())),
    }
}

impl BatchOutcome {
    /// Of a batch of which nothing is known yet.
    pub(crate) fn of(items: &[WorkItem]) -> Self {
        let events = |packed| {
            let asked = items.iter().filter(move |item| item.packed == packed);
            asked.filter_map(|item| match item.instruction {
                Instruction::Forward(event) => Some(event),
                _ => None,
            })
        };
        let alone: HashSet<Uuid> = events(false).collect();
        let packed = events(true).filter(|event| !alone.contains(event)).collect();
        Self { packed, ..Self::default() }
    }

    /// Records what an event's forwarder made of it.
    pub(crate) fn record_attempt(
        &mut self,
        event: &AuditEvent,
        attempt: &Attempt,
        earlier: Option<PriorAttempts>,
        policy: RetryPolicy,
    ) {
        self.settle(event.id, event.action.clone(), attempt, earlier, policy);
    }

    /// Records an event that no forwarder was called with: its row is gone, or cannot be read.
    pub(crate) fn record_unforwarded(
        &mut self,
        id: Uuid,
        attempt: impl Into<Attempt>,
        earlier: Option<PriorAttempts>,
        policy: RetryPolicy,
    ) {
        self.settle(id, None, &attempt.into(), earlier, policy);
    }

    /// Records a dead letter: `starts` processes have died while they forwarded this event.
    pub(crate) fn dead_letter_crashed(&mut self, event: &AuditEvent, starts: u32) {
        let (reason, error) = (
            Reason::AttemptsExhausted,
            format!("{starts} processes have died while they forwarded this event alone"),
        );
        let disposition = Disposition::Dead { attempts: starts, reason };
        self.settled
            .insert(event.id, SettledEvent { disposition, kind: FailureKind::Crash, called_during: None });
        self.fail(event.id, event.action.clone(), FailureKind::Crash, error, NextStep::Dead(reason), starts);
    }

    /// Records an event that waits for its next attempt. The broker forgets its delays in a crash; the row remembers.
    pub(crate) fn defer(&mut self, id: Uuid, wait: Duration) {
        self.deferred.insert(id, wait);
    }

    /// Records an event that an operator has discarded.
    pub(crate) fn record_discarded(&mut self, id: Uuid) {
        self.end_without_attempt(id, Disposition::Discarded);
    }

    /// Records an event that is a dead letter already: it is not tried again, and says nothing about the target as it is now.
    pub(crate) fn keep_dead_letter(&mut self, id: Uuid) {
        self.end_without_attempt(id, Disposition::AlreadyDead);
    }

    /// Records an event that no forwarder is owed any more.
    pub(crate) fn record_obsolete(&mut self, id: Uuid) {
        self.end_without_attempt(id, Disposition::Obsolete);
    }

    fn end_without_attempt(&mut self, id: Uuid, disposition: Disposition) {
        self.settled.insert(id, SettledEvent { disposition, kind: FailureKind::Error, called_during: None });
    }

    /// Sets the forwarders that other processes have or had: what is addressed to them is settled there.
    pub(crate) fn set_known_elsewhere(&mut self, forwarders: HashSet<String>) {
        self.known_elsewhere = forwarders;
    }

    /// Sets what cannot be delivered here and is a dead letter already: it is neither written nor counted again.
    pub(crate) fn set_ended_before(&mut self, ended: HashSet<(String, String)>) {
        self.ended_before = ended;
    }

    fn has_ended_before(&self, own: &ForwarderId, instruction: &Instruction) -> bool {
        dead_letter_of(own, instruction).is_some_and(|dead_letter| self.ended_before.contains(&dead_letter))
    }

    fn settle(
        &mut self,
        id: Uuid,
        action: Option<String>,
        attempt: &Attempt,
        earlier: Option<PriorAttempts>,
        policy: RetryPolicy,
    ) {
        let disposition = Disposition::of(attempt, earlier, policy, &mut rand::rng());
        self.settled.insert(
            id,
            SettledEvent { disposition, kind: attempt.kind, called_during: attempt.called_during.clone() },
        );
        if let (Verdict::Retry(error), Disposition::Retry { delay, .. }, false) =
            (&attempt.verdict, disposition, attempt.counts)
        {
            self.uncharged = Some((error.clone(), delay));
        }
        match (&attempt.verdict, disposition.outcome()) {
            (Verdict::Retry(error) | Verdict::DeadLetter(_, error), Some((outcome, attempts))) => {
                self.fail(id, action, attempt.kind, error.clone(), outcome, attempts);
            }
            (verdict, _) => {
                self.delivered.push((id, action, earlier.map_or(0, |earlier| earlier.attempts) + 1));
                self.already_delivered += u64::from(*verdict == Verdict::AlreadyDelivered);
                self.cleared.extend(earlier.map(|_| id));
            }
        }
    }

    fn fail(
        &mut self,
        id: Uuid,
        action: Option<String>,
        kind: FailureKind,
        error: String,
        outcome: NextStep,
        attempts: u32,
    ) {
        let outcome = match outcome {
            NextStep::Retry(wait) if self.packed.contains(&id) => NextStep::RetryAlone(wait),
            outcome => outcome,
        };
        let failure = Failure {
            reference: id.to_string(),
            audit_event_id: Some(id),
            error,
            attempts,
            outcome,
            excerpt: None,
        };
        self.failed.push(FailedAttempt { unknown_forwarder: None, failure, kind, action });
    }

    /// Records what no forwarder was called for: messages that cannot be delivered here.
    pub(crate) fn record_undeliverable(&mut self, own: &ForwarderId, instruction: &Instruction) {
        if self.has_ended_before(own, instruction) {
            return;
        }
        let (unknown_forwarder, reference, audit_event_id, error, reason, excerpt) = match instruction {
            Instruction::Skip | Instruction::Forward(_) => return,
            Instruction::Unknown(forwarder, _) if self.known_elsewhere.contains(forwarder.as_str()) => return,
            Instruction::Unknown(forwarder, id) => {
                let error = "no forwarder of that id is configured".to_owned();
                let unknown_forwarder = Some(forwarder.clone());
                (unknown_forwarder, id.to_string(), Some(*id), error, Reason::UnknownForwarder, None)
            }
            Instruction::Malformed { reference, error, excerpt } => {
                let excerpt = Some(excerpt.clone());
                (None, reference.clone(), None, error.clone(), Reason::MalformedReference, excerpt)
            }
        };
        let outcome = NextStep::Dead(reason);
        let failure = Failure { reference, audit_event_id, error, attempts: 1, outcome, excerpt };
        self.failed.push(FailedAttempt {
            unknown_forwarder,
            failure,
            kind: FailureKind::Error,
            action: None,
        });
    }

    /// What becomes of one item.
    pub(crate) fn disposition(&self, own: &ForwarderId, instruction: &Instruction) -> Disposition {
        let dead = |reason| Disposition::Dead { attempts: 1, reason };
        match instruction {
            Instruction::Skip => Disposition::Skipped,
            Instruction::Forward(id) => match (self.settled.get(id), self.deferred.get(id)) {
                (Some(settled), _) => settled.disposition,
                (None, wait) => Disposition::Deferred(wait.copied()),
            },
            Instruction::Unknown(forwarder, _) if self.known_elsewhere.contains(forwarder.as_str()) => {
                Disposition::Skipped
            }
            _ if self.has_ended_before(own, instruction) => Disposition::AlreadyDead,
            Instruction::Unknown(..) => dead(Reason::UnknownForwarder),
            Instruction::Malformed { .. } => dead(Reason::MalformedReference),
        }
    }

    /// Reports whether anything was delivered, or put off without a charge.
    pub(crate) fn report(&self, watch: &DeliveryWatch) {
        if !self.delivered.is_empty() {
            watch.delivered();
        } else if let Some((error, delay)) = &self.uncharged {
            watch.put_off(error, *delay);
        }
    }

    /// Whether an attempt has failed.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The reasons of everything that ends here as a dead letter.
    pub(crate) fn dead_letters(&self) -> Vec<Reason> {
        let outcomes = self.failed.iter().map(|failed| failed.failure.outcome);
        outcomes
            .filter_map(|outcome| if let NextStep::Dead(reason) = outcome { Some(reason) } else { None })
            .collect()
    }

    /// How many events came in messages with others.
    pub(crate) fn packed(&self) -> i64 {
        i64::try_from(self.packed.len()).unwrap_or(i64::MAX)
    }

    /// How many events wait for another attempt that did not before.
    pub(crate) fn new_retries(&self) -> usize {
        let first = |failed: &&FailedAttempt| {
            !matches!(failed.failure.outcome, NextStep::Dead(_)) && failed.failure.attempts <= 1
        };
        self.failed.iter().filter(first).count()
    }

    /// Commits what must be known before anything is settled.
    pub(crate) async fn commit(
        &self,
        connection: &mut Session,
        forwarder: &ForwarderId,
    ) -> Result<(), sqlx::Error> {
        let (own, of_unknown): (Vec<_>, Vec<_>) =
            self.failed.iter().partition(|failed| failed.unknown_forwarder.is_none());
        if !own.is_empty() {
            let failures: Vec<Failure> = own.iter().map(|failed| failed.failure.clone()).collect();
            failures::record(connection, forwarder, &failures).await?;
        }
        for failed in of_unknown {
            let unknown_forwarder = failed.unknown_forwarder.as_ref().unwrap_or(forwarder);
            failures::record(connection, unknown_forwarder, std::slice::from_ref(&failed.failure)).await?;
        }
        if !self.cleared.is_empty() {
            failures::clear(connection, forwarder, &self.cleared).await?;
        }
        Ok(())
    }

    /// Counts and logs, once the failures are committed: each failed attempt once, refusals and exhaustion included.
    pub(crate) fn emit(&self, forwarder: &ForwarderId, took: Duration) {
        let name = forwarder.to_string();
        let count = |verdict: &'static str, events: usize| {
            counter!(names::FORWARD_EVENTS, "forwarder" => name.clone(), "verdict" => verdict)
                .increment(events as u64);
        };
        let of = |wanted: Disposition| {
            self.settled.values().filter(|settled| settled.disposition == wanted).count()
        };
        let delivered = of(Disposition::Delivered);
        count("delivered", delivered);
        count("discarded", of(Disposition::Discarded));
        count("left", of(Disposition::AlreadyDead) + of(Disposition::Obsolete));
        count("dead", self.dead_letters().len());
        count("retry", self.failed.len() - self.dead_letters().len());
        counter!(names::FORWARD_ALREADY, "forwarder" => name.clone()).increment(self.already_delivered);
        for (id, action, attempt) in &self.delivered {
            tracing::debug!(
                event = names::FORWARD_OK,
                %forwarder,
                audit_event_id = %id,
                action = action.as_deref(),
                attempt,
                duration_ms = common::process::millis(took),
                "delivered"
            );
        }
        for FailedAttempt { unknown_forwarder, failure, kind, action } in &self.failed {
            counter!(names::FORWARD_ERRORS, "forwarder" => name.clone(), "kind" => kind.as_str())
                .increment(1);
            let forwarder = unknown_forwarder.as_ref().unwrap_or(forwarder);
            let (state, reason) = match failure.outcome {
                NextStep::Retry(_) | NextStep::RetryAlone(_) => (FailureState::Retrying, None),
                NextStep::Dead(reason) => (FailureState::Dead, Some(reason.as_str())),
            };
            tracing::warn!(
                event = names::FORWARD_ERROR,
                %forwarder,
                kind = kind.as_str(),
                audit_event_id = %failure.reference,
                action = action.as_deref(),
                state = state.as_str(),
                reason,
                error = %failure.error,
                attempt = failure.attempts,
                "an event was not delivered"
            );
        }
    }

    /// Ends the spans of what was delivered here, with the target's part in them.
    pub(crate) fn end_spans(&self, forwarder: &ForwarderId, items: &[WorkItem]) {
        for item in items {
            let (Some(span), Instruction::Forward(id)) = (&item.span, &item.instruction) else { continue };
            let settled = self.settled.get(id);
            let (status, verdict) = match settled.map(|settled| (settled.disposition, settled.kind)) {
                Some((Disposition::Delivered, _)) => (Status::Unset, "delivered"),
                Some((Disposition::Discarded, _)) => (Status::Unset, "discarded"),
                Some((Disposition::AlreadyDead | Disposition::Obsolete, _)) => (Status::Unset, "left"),
                Some((Disposition::Retry { .. }, kind)) => (Status::Error(kind.as_str()), "retry"),
                Some((Disposition::Dead { reason, .. }, _)) => (Status::Error(reason.as_str()), "dead"),
                Some((Disposition::Skipped | Disposition::Deferred(_), _)) | None => (Status::Unset, "early"),
            };
            if let Some(called_during) = settled.and_then(|settled| settled.called_during.as_ref()) {
                span.child(format!("forward {forwarder}"), called_during, status);
            }
            let known =
                vec![("audit.forwarder", forwarder.to_string().into()), ("audit.verdict", verdict.into())];
            span.end(status, known);
        }
    }
}
